"""What a session keeps: reckoned as it is, and no more after an hour than after ten minutes."""

import gc
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Cache
from typer.testing import CliRunner

from omni.about import StateSize, bytes_of, state_sizes
from omni.about.state_sizes import decoder_bytes, position_bytes, token_bytes
from omni.audio import load_audio
from omni.config import OmniConfig
from omni.live_speech import LiveSpeech
from omni.loading import NANO, load
from omni.session import SessionConfig, SpeechSession
from omni.unit_decoder import CACHE_BLOCK
from omni.values import Frames
from omni.vocoder import Vocoder
from serve.cli import app
from tests.talk import answer, model, processor, session
from tests.tiny import question, tiny_config, tiny_vocoder

torch.set_num_threads(1)
FLOAT32 = 4
TOKENS = 40
TURNS = 180  # of an hour


def sizes(config: OmniConfig, vocoder: Vocoder | None = None) -> dict[str, StateSize]:
    found = state_sizes(config, vocoder, value_bytes=FLOAT32, max_new_tokens=TOKENS)
    return {one.part: one for one in found}


def cache_bytes(cache: Cache | None) -> int:
    assert cache is not None
    return sum(bytes_of((layer.keys, layer.values)) for layer in cache.layers)


def test_keys_and_values_of_a_conversation_are_as_many_as_reckoned() -> None:
    talk = session()
    answer(talk, question(1.0))
    memory = talk._prefill.memory
    each = position_bytes(tiny_config().text_config, FLOAT32)
    assert cache_bytes(memory.cache) == each * len(memory.labels)
    assert sizes(tiny_config())["language_model"].each == each


def test_what_was_heard_takes_what_is_reckoned_for_its_length() -> None:
    talk = session()
    answer(talk, question(6.0))
    (heard,) = talk._heard
    reckoned = sizes(tiny_config())["speech_adapter"].question_minute / 10
    assert bytes_of(heard.positions) == reckoned


@pytest.mark.parametrize("tokens", [1, CACHE_BLOCK // 5, CACHE_BLOCK // 5 + 1, 250])
def test_the_unit_decoder_takes_what_is_reckoned_for_its_tokens(tokens: int) -> None:
    decoder = model().unit_decoder
    assert decoder is not None
    state = decoder.initial_state(1)
    states = torch.zeros(1, 1, decoder.config.reads_width)
    with torch.inference_mode():
        for _ in range(tokens):
            _, state = decoder.step(Frames(states, torch.tensor([1])), state)
    assert bytes_of((state.keys, state.values)) == decoder_bytes(decoder.config, FLOAT32, tokens)
    used = state.keys[..., : int(state.lengths), :]
    assert 2 * bytes_of(used) == tokens * token_bytes(decoder.config, FLOAT32)


@pytest.mark.parametrize("kind", ["nsf", "hifigan"])
def test_a_vocoder_keeps_the_same_however_long_it_speaks(kind: str) -> None:
    vocoder = tiny_vocoder(kind)
    reckoned = sizes(tiny_config(), vocoder)["vocoder"].most
    state = vocoder.initial_state()
    with torch.inference_mode():
        for frames in (150, 3, 40, 11):
            _, state = vocoder.step(torch.ones(1, frames, dtype=torch.int64), state)
            assert bytes_of(state) == reckoned


@pytest.mark.parametrize("left_blocks", [None, 2])
def test_an_encoder_in_blocks_never_keeps_more_than_is_reckoned(left_blocks: int | None) -> None:
    config = tiny_config(block_frames=10)
    config.audio_config.left_blocks = left_blocks
    encoder = model(block_frames=10).speech_encoder
    before, encoder.config = encoder.config, replace(encoder.config, left_blocks=left_blocks)
    try:
        live, most, least = LiveSpeech(encoder), sizes(config)["speech_encoder"].most, 0
        state = live.initial_state()
        for piece in question(9.9).reshape(-1, 800):
            _, state = live.step(piece, state)
            assert bytes_of(state.encoder) <= most
            least = max(least, bytes_of(state.encoder))
    finally:
        encoder.config = before
    assert least > 0.9 * most


def test_an_encoder_that_looks_both_ways_keeps_the_recording_alone() -> None:
    found = sizes(tiny_config())
    assert "speech_encoder" not in found
    assert found["recording"].most == processor().max_seconds * 16_000 * FLOAT32


def test_the_command_tells_of_the_published_sizes_and_of_a_checkpoint() -> None:
    def shown(*options: str) -> str:
        result = CliRunner().invoke(app, ["bench", "memory", *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    published = shown("--size", "8b")
    assert "131,072 bytes a position" in published  # 2 x 32 layers x 8 heads x 128 x 2 bytes
    assert "819,200 bytes a token" in published  # 2 x 2 layers x 4096 x 25 steps x 2 bytes
    assert "vocoder" in shown("nano", "--dtype", "float32")


def resident() -> int:
    """Memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def held(talk: SpeechSession) -> int:
    """Bytes of the tensors that a session keeps between two turns."""
    return cache_bytes(talk._prefill.memory.cache) + bytes_of(
        tuple(heard.positions for heard in talk._heard)
    )


@pytest.fixture(scope="module")
def hour() -> Iterator[list[tuple[int, int, int]]]:
    """After each turn of an hour with the nano: bytes held, messages, memory of the process.

    Three turns a minute. Answers are cut short and made without sound: what a reply keeps goes with
    it, and what is looked at is what stays.
    """
    nano, its_processor = load(None)
    spoken = [load_audio(file) for file in sorted((NANO.parent / "questions").glob("*.wav"))]
    talk = SpeechSession(
        nano, its_processor, SessionConfig.from_model(nano, speak=False, max_new_tokens=6)
    )
    found = []
    for turn in range(TURNS):
        answer(talk, spoken[turn % len(spoken)])
        if turn in (TURNS // 3 - 1, TURNS - 1):
            gc.collect()  # takes as long as several turns
        found.append((held(talk), len(talk.history), resident()))
    yield found


def test_an_hour_of_turns_holds_no_more_than_the_positions_allow(
    hour: list[tuple[int, int, int]],
) -> None:
    reckoned = sizes(OmniConfig.from_pretrained(NANO))
    most = reckoned["language_model"].most + reckoned["speech_adapter"].most
    assert all(bytes_held <= most for bytes_held, _, _ in hour)
    messages = [count for _, count, _ in hour]
    drops = sum(later < before + 2 for before, later in itertools.pairwise(messages))
    assert drops > 3  # it outgrew its context again and again
    first = max(bytes_held for bytes_held, _, _ in hour[: TURNS // 3])
    assert max(bytes_held for bytes_held, _, _ in hour) <= 1.05 * first


def test_an_hour_of_turns_leaves_the_process_as_large_as_it_was(
    hour: list[tuple[int, int, int]],
) -> None:
    _, _, first = hour[TURNS // 3 - 1]
    assert hour[-1][2] < 1.05 * first
