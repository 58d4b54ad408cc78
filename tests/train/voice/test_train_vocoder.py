from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from omni.audio import SAMPLE_RATE, save_wav
from omni.vocoder import HifiGanConfig, NsfConfig, NsfVocoder, load_vocoder
from train.loop import LoopConfig
from train.loop.order import Item
from train.voice.crops import CropConfig, Crops, UnitClip, collate
from train.voice.learning import LearnsToSound, LossWeights
from train.voice.losses import SpectralLoss
from train.voice.pitch import track_f0
from train.voice.vocoder import in_tune, train_vocoder

TINY_NSF = NsfConfig(
    num_units=4, width=16, prosody_width=12, mid_width=8, fine_width=8, duration_width=8,
    duration_dropout=0.0,
)  # fmt: skip
TINY_HIFIGAN = HifiGanConfig(
    num_embeddings=4, embedding_dim=8, upsample_initial_channel=32, duration_width=8,
    duration_dropout=0.0,
)  # fmt: skip
SMALL_CROP = CropConfig(frames=10, edge_frames=2)
torch.set_num_threads(1)


def buzz(f0: np.ndarray) -> np.ndarray:
    """A tone of ten harmonics; f0: [W] Hz at each sample."""
    phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
    return sum(np.cos(h * phase) / h for h in range(1, 11)) * 0.05


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[UnitClip]:
    """Buzzes of two pitches and noise, one unit each."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    made = []
    for number in range(4):
        units = np.repeat(rng.permutation(3), (7, 12, 9)).astype(np.int16)
        pieces = {
            0: buzz(np.full(8960, 120.0)),
            1: buzz(np.full(8960, 220.0)),
            2: rng.normal(0, 0.05, 8960),
        }
        wave = np.concatenate([pieces[u][i * 320 : (i + 1) * 320] for i, u in enumerate(units)])
        save_wav(folder / f"{number}.wav", wave)
        made.append(UnitClip(folder / f"{number}.wav", units))
    return made


def test_the_pitch_tracker_follows_a_glide_to_one_percent():
    glide = np.linspace(100, 300, SAMPLE_RATE)
    f0, voiced = track_f0(buzz(glide).astype(np.float32))
    inner = slice(2, 48)
    assert voiced[inner].all()
    np.testing.assert_allclose(f0[inner], glide[::320][inner], rtol=0.01)


def test_noise_and_silence_have_no_pitch_but_an_interpolated_value():
    rng = np.random.default_rng(1)
    tone = buzz(np.full(8000, 150.0))
    wave = np.concatenate([tone, rng.normal(0, 0.03, 8000), np.zeros(8000), tone])
    f0, voiced = track_f0(wave.astype(np.float32))
    assert voiced[3:23].all() and voiced[-20:-3].all()
    assert voiced[27:72].mean() < 0.1
    np.testing.assert_allclose(f0[3:-3], 150, rtol=0.03)


def test_the_spectral_loss_is_zero_for_the_truth_and_grows_with_the_distance():
    loss = SpectralLoss()
    true = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    assert [part.tolist() for part in loss(true, true)] == [[0.0, 0.0], [0.0, 0.0]]
    near, far = loss(true * 1.1, true), loss(true * 3.0, true)
    assert all(((a > 0) & (a < b)).all() for a, b in zip(near, far, strict=True))


def test_a_crop_depends_on_seed_epoch_and_index_alone(clips):
    crops = Crops(clips, num_units=4, crop=SMALL_CROP, seed=1)
    again = Crops(clips, num_units=4, crop=SMALL_CROP, seed=1)
    starts = set()
    for epoch in range(6):
        example, other = crops[Item(epoch, 2)], again[Item(epoch, 2)]
        for name, value in example.items():
            assert torch.equal(value, other[name]), name
        starts.add(int(example["first_frame"]))
    assert len(starts) > 1


def test_a_crop_is_cut_where_its_units_are(clips):
    example = Crops(clips, num_units=4, crop=SMALL_CROP, seed=1)[Item(0, 0)]
    start = int(example["first_frame"])
    assert example["units"].tolist() == clips[0].frame_units[start : start + 14].tolist()
    assert example["labels"].shape == (14 * 320,)
    assert example["counts"].sum() >= SMALL_CROP.frames
    assert int(example["durations"].sum()) == len(clips[0].frame_units)


def test_the_first_and_last_sounds_of_a_recording_count_about_as_often_as_its_middle(clips):
    crops = Crops(clips, num_units=4, crop=SMALL_CROP, seed=1)
    heard = np.zeros(len(clips[0].frame_units))
    for epoch in range(300):
        example = crops[Item(epoch, 0)]
        start = int(example["first_frame"])
        counted = example["counts"].numpy()[: len(heard) - start]
        heard[start : start + len(counted)] += counted
    assert heard.min() > 0.3 * heard.max()


def test_a_clip_shorter_than_a_crop_is_padded_outside_of_the_loss(clips):
    example = Crops(clips, num_units=4, crop=CropConfig(frames=40), seed=1)[0]
    assert example["units"].shape == (48,)
    assert example["counts"].tolist() == [True] * 28 + [False] * 20


def test_what_lies_outside_of_the_loss_gives_no_gradient(clips):
    crops = Crops(clips, num_units=4, crop=CropConfig(frames=40), seed=1)
    module = LearnsToSound(NsfVocoder(TINY_NSF), LossWeights()).eval()
    batch = collate([crops[0], crops[1]])
    batch["counts"] = torch.zeros_like(batch["counts"])
    parts = module(**batch)["parts"]
    assert not parts[:, :4].any() and (parts[:, 4] > 0).all()


def test_padding_changes_no_duration_loss(clips):
    module = LearnsToSound(NsfVocoder(TINY_NSF), LossWeights()).eval()
    merged = torch.tensor([[0, 1, 2], [2, 1, 0]])
    alone = module.vocoder.log_durations(merged, torch.ones(2, 3, dtype=torch.bool))
    padded = nn.functional.pad(merged, (0, 2))
    known = torch.tensor([[True] * 3 + [False] * 2] * 2)
    torch.testing.assert_close(module.vocoder.log_durations(padded, known)[:, :3], alone)


def test_units_of_another_length_than_the_recording_are_refused(clips):
    merged = UnitClip(clips[0].path, clips[0].frame_units[::4])
    with pytest.raises(ValueError, match=r"0.wav: 7 units, but 8960 samples.*not merged"):
        Crops([merged], num_units=4, crop=SMALL_CROP, seed=1)[0]


def test_units_that_the_vocoder_does_not_know_are_refused_before_training(clips):
    with pytest.raises(ValueError, match="units from 0 to 2, but the vocoder knows 0 to 1"):
        Crops(clips, num_units=2, crop=SMALL_CROP, seed=1)


@pytest.mark.parametrize("architecture", [TINY_NSF, TINY_HIFIGAN], ids=["nsf", "hifigan"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_lowers_the_loss_and_leaves_a_vocoder(architecture, dtype, clips, tmp_path: Path):
    results = []
    for steps in (1, 25):
        loop = LoopConfig(
            epochs=1000, max_steps=steps, batch_size=4, learning_rate=3e-3, save_steps=1000,
            eval_steps=1000, dtype=dtype,
        )  # fmt: skip
        output = tmp_path / str(steps)
        results.append(
            train_vocoder(
                clips, clips, architecture=architecture, loop=loop, output=output, crop=SMALL_CROP
            )
        )
    assert results[1]["eval_loss"] < 0.8 * results[0]["eval_loss"]
    assert results[1]["eval_duration"] < results[0]["eval_duration"]
    assert load_vocoder(tmp_path / "25" / "vocoder").config == architecture


@pytest.mark.parametrize("way", ["deepspeed", "fsdp"])
def test_where_weights_are_cast_a_vocoder_stays_in_float32(way: str) -> None:
    loop = LoopConfig(epochs=1, batch_size=1, learning_rate=1e-3, bf16=True)
    assert in_tune(loop) == loop
    assert in_tune(replace(loop, **{way: "file.json"})).dtype == "float32"
    with pytest.raises(ValueError, match="dtype='bfloat16'"):
        in_tune(replace(loop, dtype="bfloat16", **{way: "file.json"}))
