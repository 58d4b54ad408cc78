"""What is heard while the user speaks is what would have been heard at the end."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.audio import AudioError, log_mel
from omni.live_speech import LiveSpeech
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig

torch.set_num_threads(1)
BLOCK = 5
SPEECH = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
# Loud and silent stretches: what counts as loudest changes while it is being spoken.
SPEECH *= np.interp(np.arange(20_000), [0, 3e3, 9e3, 12e3, 2e4], [1e-6, 1e-4, 0.3, 1e-3, 0.6])
SPEECH = SPEECH.astype(np.float32)


def an_encoder(left_blocks: int | None = 2) -> SpeechEncoder:
    torch.manual_seed(0)
    encoder = SpeechEncoder(
        SpeechEncoderConfig(
            n_mels=20, width=32, layers=2, heads=2, ffn=64, max_frames=100,
            block_frames=BLOCK, left_blocks=left_blocks,
        )
    ).eval()  # fmt: skip
    for parameter in encoder.parameters():  # fresh weights hardly attend: spread them
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


ENCODER = an_encoder()


def heard_live(samples: np.ndarray, chunks: list[int]) -> torch.Tensor:
    live = LiveSpeech(ENCODER)
    state, parts, start = live.initial_state(), [], 0
    for size in chunks:
        frames, state = live.step(samples[start : start + size], state)
        parts.append(frames)
        start += size
    return torch.cat([*parts, live.finish(state)])


@torch.no_grad()
def heard_whole(samples: np.ndarray) -> torch.Tensor:
    mel = ENCODER.config.log_mel(samples)
    return ENCODER(mel[None], torch.ones(1, mel.shape[1], dtype=torch.bool)).sequence(0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4_000), min_size=1, max_size=8).filter(lambda c: sum(c) >= 201))
def test_any_chunking_of_the_samples_gives_the_frames_of_the_whole(chunks: list[int]) -> None:
    samples = SPEECH[: sum(chunks)]
    chunks[-1] -= sum(chunks) - len(samples)
    torch.testing.assert_close(
        heard_live(samples, chunks), heard_whole(samples), atol=1e-5, rtol=1e-5
    )


def test_one_sample_after_the_other_gives_the_frames_of_the_whole() -> None:
    samples = SPEECH[8_000:9_700]
    torch.testing.assert_close(
        heard_live(samples, [1] * len(samples)), heard_whole(samples), atol=1e-5, rtol=1e-5
    )


def test_a_block_is_there_13_ms_after_its_end() -> None:
    live = LiveSpeech(ENCODER)
    # The last frame's convolutions reach 2 log-mel frames beyond the block, each half a window.
    needed = 2 * BLOCK * 160 + 200
    early, state = live.step(SPEECH[: needed - 1], live.initial_state())
    late, _ = live.step(SPEECH[needed - 1 : needed], state)
    assert (len(early), len(late)) == (0, BLOCK)
    assert (needed - BLOCK * 320) / 16_000 < 0.013


def test_what_is_kept_of_the_samples_stays_small() -> None:
    live = LiveSpeech(ENCODER)
    state = live.initial_state()
    for start in range(0, 20_000, 1_000):
        _, state = live.step(SPEECH[start : start + 1_000], state)
    assert len(state.samples) < 600


def test_the_running_range_is_whispers_where_the_loudest_comes_first() -> None:
    samples = SPEECH[::-1].copy()
    samples[:400] *= 100
    whispers, running = log_mel(samples, 20), log_mel(samples, 20, running=True)
    torch.testing.assert_close(running, whispers)
    assert not torch.equal(log_mel(SPEECH, 20), log_mel(SPEECH, 20, running=True))


def test_a_moment_is_refused_as_it_is_when_it_comes_whole() -> None:
    live = LiveSpeech(ENCODER)
    _, state = live.step(SPEECH[:200], live.initial_state())
    with pytest.raises(AudioError, match="200 samples of audio: at least 201"):
        live.finish(state)
    with pytest.raises(AudioError, match="200 samples of audio: at least 201"):
        ENCODER.config.log_mel(SPEECH[:200])


def test_samples_that_are_not_numbers_are_refused() -> None:
    live = LiveSpeech(ENCODER)
    with pytest.raises(AudioError, match="NaN"):
        live.step(np.full(10, np.nan, np.float32), live.initial_state())
