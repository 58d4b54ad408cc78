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
    save_speech_encoder,
)
from omni.values import Frames
from omni.whisper_layers import SpeechEncoderLayer
from tests.paths import DATA

GOLDEN = DATA / "llama_omni"
BLOCK = 4
LEFT = st.sampled_from([None, 0, 1, 3])  # blocks before its own that a frame sees
torch.set_num_threads(1)


@cache
def encoder(block_frames: int | None = None, left_blocks: int | None = None) -> SpeechEncoder:
    torch.manual_seed(0)
    config = SpeechEncoderConfig(
        n_mels=8, width=32, layers=2, heads=2, ffn=64, max_frames=100,
        block_frames=block_frames, left_blocks=left_blocks,
    )  # fmt: skip
    built = SpeechEncoder(config).eval()
    for parameter in built.parameters():  # fresh weights hardly attend: spread them
        torch.nn.init.normal_(parameter, std=0.3)
    return built


def mels(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, length, generator=generator) for length in lengths]


@torch.no_grad()
def encode(
    rows: list[Tensor],
    block_frames: int | None = None,
    padding: float = 0.0,
    left_blocks: int | None = None,
) -> Frames:
    """Rows in one batch, padded on the right with `padding`."""
    longest = max(row.shape[1] for row in rows)
    features = torch.full((len(rows), 8, longest), padding)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for place, row in enumerate(rows):
        features[place, :, : row.shape[1]] = row
        mask[place, : row.shape[1]] = True
    return encoder(block_frames, left_blocks)(features, mask)


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
    left_blocks=LEFT,
)
def test_a_row_of_a_batch_comes_out_as_if_alone(
    lengths: list[int], block_frames: int | None, padding: float, left_blocks: int | None
) -> None:
    left_blocks = left_blocks if block_frames else None
    rows = mels(*lengths)
    batch = encode(rows, block_frames, padding, left_blocks)
    assert batch.lengths.tolist() == [(length + 1) // 2 for length in lengths]
    for place, row in enumerate(rows):
        alone = encode([row], block_frames, left_blocks=left_blocks)
        torch.testing.assert_close(batch.sequence(place), alone.sequence(0), atol=1e-5, rtol=1e-5)


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


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ({"block_frames": 0}, "block_frames=0: must be at least 1"),
        ({"block_frames": 4, "left_blocks": -1}, "left_blocks=-1: must be 0 or more"),
        ({"left_blocks": 2}, "left_blocks=2: must be 0 or more, beside block_frames"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(blocks: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(encoder().config, **blocks)


def test_a_frame_sees_its_blocks_to_the_left_and_none_before_them() -> None:
    # Two layers reach two blocks back where one layer sees one; the front end adds a frame.
    (mel,) = mels(2 * 6 * BLOCK)
    changed = mel.clone()
    changed[:, : 2 * (3 * BLOCK - 1) - 2] += 1
    before, after = (encode([m], BLOCK, left_blocks=1).values[0] for m in (mel, changed))
    torch.testing.assert_close(before[5 * BLOCK :], after[5 * BLOCK :], atol=1e-6, rtol=0)
    assert (before[4 * BLOCK] - after[4 * BLOCK]).abs().max() > 1e-4
    before, after = (encode([m], BLOCK).values[0] for m in (mel, changed))
    assert (before[5 * BLOCK :] - after[5 * BLOCK :]).abs().max() > 1e-4


def test_blocks_are_written_beside_whispers_sizes_and_read_back(tmp_path: Path) -> None:
    blocks = encoder(BLOCK, 2)
    save_speech_encoder(blocks, tmp_path / "encoder")
    assert load_speech_encoder(str(tmp_path / "encoder")).config == blocks.config
    assert not {"block_frames", "left_blocks"} & encoder().config.to_whisper().keys()


def test_a_base_that_was_trained_whole_can_be_told_to_look_in_blocks(tmp_path: Path) -> None:
    save_speech_encoder(encoder(), tmp_path / "encoder")
    told = load_speech_encoder(str(tmp_path / "encoder"), blocks={"block_frames": BLOCK})
    assert told.config == encoder(BLOCK).config


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
def encode_live(
    mel: Tensor, chunks: list[int], left_blocks: int | None = None
) -> tuple[list[int], Tensor]:
    """Feed log-mel in chunks: the frames that each step gave, and all of them joined."""
    live = encoder(BLOCK, left_blocks)
    state, parts, start = live.initial_state(), [], 0
    for size in chunks:
        part, state = live.step(mel[:, start : start + size], state)
        parts.append(part)
        start += size
    parts.append(live.finish(state))
    return [len(part) for part in parts], torch.cat(parts)


@settings(max_examples=40, deadline=None)
@given(chunks=st.lists(st.integers(0, 25), min_size=1, max_size=8).filter(any), left_blocks=LEFT)
def test_any_chunking_of_live_input_gives_what_the_whole_forward_gives(
    chunks: list[int], left_blocks: int | None
) -> None:
    (mel,) = mels(sum(chunks))
    _, live = encode_live(mel, chunks, left_blocks)
    # Beside a longer row of another recording, as in training.
    batch = encode([*mels(199, seed=1), mel], BLOCK, left_blocks=left_blocks)
    torch.testing.assert_close(live, batch.sequence(1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_state_keeps_no_more_than_a_block_still_sees() -> None:
    (mel,) = mels(180)
    live = encoder(BLOCK, 2)
    _, state = live.step(mel, live.initial_state())
    assert state.frames == 88
    assert state.keys.shape[3] == state.values.shape[3] == 2 * BLOCK
    assert state.mel.shape[1] <= 2 * BLOCK + 3


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
