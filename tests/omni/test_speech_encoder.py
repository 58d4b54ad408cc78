"""The encoder is Whisper's at 30 s, and no longer than the question otherwise."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration

from omni.audio import load_audio, log_mel, pad_to_window
from omni.checkpoint.bases import load_speech_encoder
from omni.speech_encoder import (
    SpeechEncoder,
    SpeechEncoderConfig,
    SpeechEncoderLayer,
    save_speech_encoder,
)
from omni.values import Frames
from tests.paths import DATA

GOLDEN = DATA / "llama_omni"
BLOCK = 4
torch.set_num_threads(1)


@cache
def encoder(block_frames: int | None = None) -> SpeechEncoder:
    torch.manual_seed(0)
    config = SpeechEncoderConfig(n_mels=8, width=32, layers=2, heads=2, ffn=64, max_frames=100)
    built = SpeechEncoder(config, block_frames=block_frames).eval()
    for parameter in built.parameters():  # fresh weights hardly attend: spread them
        torch.nn.init.normal_(parameter, std=0.3)
    return built


def mels(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, length, generator=generator) for length in lengths]


@torch.no_grad()
def encode(rows: list[Tensor], block_frames: int | None = None, padding: float = 0.0) -> Frames:
    """Rows in one batch, padded on the right with `padding`."""
    longest = max(row.shape[1] for row in rows)
    features = torch.full((len(rows), 8, longest), padding)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for place, row in enumerate(rows):
        features[place, :, : row.shape[1]] = row
        mask[place, : row.shape[1]] = True
    return encoder(block_frames)(features, mask)


@torch.no_grad()
def test_a_window_of_30_s_is_encoded_as_transformers_does() -> None:
    torch.manual_seed(0)
    config = SpeechEncoderConfig(n_mels=80, width=32, layers=2, heads=2, ffn=64)
    whisper = WhisperForConditionalGeneration(
        WhisperConfig(**config.to_whisper(), decoder_attention_heads=2)
    ).eval()
    ours, theirs = SpeechEncoder(config).eval(), whisper.get_encoder()
    theirs.load_state_dict(ours.state_dict())
    mel = torch.randn(1, 80, 3000)
    frames = ours(mel, torch.ones(1, 3000, dtype=torch.bool))
    assert frames.lengths.tolist() == [1500]
    torch.testing.assert_close(frames.values, theirs(mel).last_hidden_state, atol=1e-4, rtol=0)


@torch.no_grad()
def test_published_weights_give_what_the_published_code_gives() -> None:
    golden = np.load(GOLDEN / "golden.npz")["encoder_out_every_20"]
    loaded = load_speech_encoder(str(GOLDEN / "encoder.pt"))
    mel = log_mel(pad_to_window(load_audio(GOLDEN / "question.flac")), 128)
    frames = loaded(mel[None], torch.ones(1, 3000, dtype=torch.bool))
    np.testing.assert_allclose(frames.values[0, ::20].numpy(), golden, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    block_frames=st.sampled_from([None, BLOCK]),
    padding=st.sampled_from([0.0, 7.0]),
)
def test_a_row_of_a_batch_comes_out_as_if_alone(
    lengths: list[int], block_frames: int | None, padding: float
) -> None:
    rows = mels(*lengths)
    batch = encode(rows, block_frames, padding)
    assert batch.lengths.tolist() == [(length + 1) // 2 for length in lengths]
    for place, row in enumerate(rows):
        alone = encode([row], block_frames)
        torch.testing.assert_close(batch.sequence(place), alone.sequence(0), atol=1e-4, rtol=1e-4)


def test_whole_attention_hears_the_end_from_the_beginning() -> None:
    (mel,) = mels(40)
    changed = mel.clone()
    changed[:, 36:] += 1
    before, after = encode([mel]).values[0, 0], encode([changed]).values[0, 0]
    assert (before - after).abs().max() > 1e-3


@settings(max_examples=20, deadline=None)
@given(blocks=st.integers(1, 4), more=st.integers(1, 30))
def test_complete_blocks_do_not_change_with_what_follows(blocks: int, more: int) -> None:
    # The last mel frame that the last complete block hears through the convolutions is 2n.
    heard = 2 * BLOCK * blocks + 1
    (mel,) = mels(heard + more)
    part = encode([mel[:, :heard]], BLOCK).values[0, : BLOCK * blocks]
    whole = encode([mel], BLOCK).values[0, : BLOCK * blocks]
    torch.testing.assert_close(part, whole, atol=1e-4, rtol=1e-4)


def test_within_a_block_frames_hear_each_other() -> None:
    (mel,) = mels(2 * BLOCK + 1)
    changed = mel.clone()
    changed[:, 2 * BLOCK - 1] += 1
    before, after = encode([mel], BLOCK).values[0, 0], encode([changed], BLOCK).values[0, 0]
    assert (before - after).abs().max() > 1e-4


def test_more_audio_than_positions_is_refused_in_seconds() -> None:
    assert encode(mels(200)).lengths.tolist() == [100]
    with pytest.raises(ValueError, match=r"2\.0 s of audio.*for 2 s; split"):
        encode(mels(201))


def test_a_block_of_no_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="block_frames=0"):
        SpeechEncoder(encoder().config, block_frames=0)


def test_whispers_words_for_the_sizes_are_read_as_they_are_written() -> None:
    config = encoder().config
    theirs = WhisperConfig(**config.to_whisper())
    assert SpeechEncoderConfig.from_whisper(theirs.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": 0}, "layers=0: must be at least 1"),
        ({"width": 33}, "width=33: must be a multiple of heads=2"),
    ],
)
def test_sizes_that_make_no_encoder_are_refused(change: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(encoder().config, **change)


def test_an_encoder_with_another_activation_is_no_whisper() -> None:
    values = WhisperConfig(activation_function="relu").to_dict()
    with pytest.raises(ValueError, match="activation_function='relu'"):
        SpeechEncoderConfig.from_whisper(values)


@torch.no_grad()
def test_in_float16_residuals_beyond_its_range_stay_finite() -> None:
    torch.manual_seed(0)
    layer = SpeechEncoderLayer(8, heads=2, ffn=16).half()
    layer.fc2.bias.fill_(6e4)
    huge = torch.full((1, 3, 8), 6e4, dtype=torch.float16)
    assert torch.isfinite(layer(huge, None)[0]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_saved_encoder_reads_back(dtype: torch.dtype, tmp_path: Path) -> None:
    save_speech_encoder(encoder(), tmp_path / "encoder", dtype=dtype)
    again = load_speech_encoder(str(tmp_path / "encoder"))
    for name, value in encoder().state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value.to(dtype).float())


@torch.no_grad()
def encode_live(mel: Tensor, chunks: list[int]) -> tuple[list[int], Tensor]:
    """Feed log-mel in chunks: the frames that each step gave, and all of them joined."""
    live = encoder(BLOCK)
    state, parts, start = live.initial_state(), [], 0
    for size in chunks:
        part, state = live.step(mel[:, start : start + size], state)
        parts.append(part)
        start += size
    parts.append(live.finish(state))
    return [len(part) for part in parts], torch.cat(parts)


@settings(max_examples=40, deadline=None)
@given(chunks=st.lists(st.integers(0, 25), min_size=1, max_size=8).filter(any))
def test_any_chunking_of_live_input_gives_what_the_whole_forward_gives(chunks: list[int]) -> None:
    (mel,) = mels(sum(chunks))
    _, live = encode_live(mel, chunks)
    whole = encode([mel], BLOCK).sequence(0)
    torch.testing.assert_close(live, whole, atol=1e-4, rtol=1e-4)


def test_a_block_comes_as_soon_as_its_last_frame_is_heard() -> None:
    (mel,) = mels(4 * BLOCK)
    assert encode_live(mel, [2 * BLOCK, 1, 2 * BLOCK - 1])[0] == [0, BLOCK, 0, BLOCK]


def test_live_input_of_nothing_gives_nothing() -> None:
    (mel,) = mels(1)
    assert encode_live(mel[:, :0], [0])[0] == [0, 0]


def test_an_encoder_that_looks_at_the_whole_has_no_live_form() -> None:
    with pytest.raises(ValueError, match=r"block_frames=None.*cannot begin"):
        encoder().initial_state()


def test_live_input_longer_than_the_positions_is_refused() -> None:
    (mel,) = mels(230)
    with pytest.raises(ValueError, match="positions for 2 s"):
        encode_live(mel, [230])
