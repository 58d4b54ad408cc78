"""Encoder frames ahead of stage 1: stage 1 finds them, and they are what the encoder gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import omni.frame_cache
from data_tools.encode.features import FeaturesConfig, extract_features
from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Manifest, Record
from data_tools.speech.augmentation import AugmentConfig, load_augmented
from omni.audio import log_mel, save_wav
from omni.config import OmniConfig
from omni.files.errors import UserError
from omni.processor import OmniProcessor
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from train.data.features import CachedEars, cached_ears

CONFIG = FeaturesConfig(variants=2, batch_size=2, seed=5)


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    torch.manual_seed(0)
    return SpeechEncoder(SpeechEncoderConfig(n_mels=20, width=16, layers=1, heads=2, ffn=32)).eval()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    folder, records = tmp_path_factory.mktemp("speech"), []
    for number, split in enumerate(["train"] * 3 + ["validation", "test"]):
        noise = np.random.default_rng(number).standard_normal(6000 + 1000 * number)
        save_wav(folder / f"{number}.wav", (0.1 * noise).astype(np.float32))
        turn = RecordTurn(role="user", text="Who?", speech=f"{number}.wav")
        records.append(Record(id=str(number), turns=(turn,), split=split))
    return Manifest(records=records, root=folder)


def test_frames_are_those_of_the_recording_and_of_its_augmented_variants(
    encoder, manifest, tmp_path
):
    cache = extract_features(manifest, encoder, tmp_path, CONFIG)
    assert [path.name for path in cache.names] == ["0.wav", "1.wav", "2.wav", "3.wav"]
    for name, variant in (("0.wav", 0), ("1.wav", 2), ("3.wav", 0)):
        path = manifest.root / name
        waveform = load_augmented(path, variant, seed=5, config=CONFIG.augmentation)
        mel = log_mel(waveform, 20)[None]
        with torch.no_grad():
            alone = encoder(mel, torch.ones(mel.shape[::2], dtype=torch.bool)).values[0]
        torch.testing.assert_close(cache.frames(path, variant), alone, atol=2e-3, rtol=2e-3)


def test_what_was_done_before_a_stop_is_not_done_again(encoder, manifest, tmp_path, monkeypatch):
    made: list[int] = []
    pad = omni.frame_cache.pad_features

    def dies(mels):
        made.append(len(mels))
        if len(made) == 3:
            raise RuntimeError("power cut")
        return pad(mels)

    monkeypatch.setattr(omni.frame_cache, "pad_features", dies)
    with pytest.raises(RuntimeError):
        extract_features(manifest, encoder, tmp_path / "cut", CONFIG)
    extract_features(manifest, encoder, tmp_path / "cut", CONFIG)
    assert sum(made) == 4 + 2 * 3 + made[2]
    extract_features(manifest, encoder, tmp_path / "whole", CONFIG)
    for name in ("values.bin", "index.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def stage1_ears(encoder: SpeechEncoder, manifest: Manifest, folder, **changes) -> CachedEars:
    """As stage 1 opens its cache."""
    processor = OmniProcessor(None, OmniConfig(audio_config=encoder.config.to_whisper()))  # type: ignore[arg-type]
    paths = [manifest.root / f"{number}.wav" for number in range(4)]
    options = {"augmentation": AugmentConfig(), "variants": 2, "seed": 5} | changes
    return cached_ears(
        encoder, processor, paths[:3], clean_only=paths[3:], folder=folder, **options
    )


def test_stage_1_finds_everything_there_and_encodes_nothing(
    encoder, manifest, tmp_path, monkeypatch
):
    cache = extract_features(manifest, encoder, tmp_path, CONFIG)
    monkeypatch.setattr(omni.frame_cache, "pad_features", None)  # encoding would fail
    ears = stage1_ears(encoder, manifest, tmp_path)
    path = manifest.root / "2.wav"
    assert torch.equal(ears.hear(path, 1), cache.frames(path, 1))


def test_stage_1_with_another_seed_refuses_them(encoder, manifest, tmp_path):
    extract_features(manifest, encoder, tmp_path, CONFIG)
    with pytest.raises(UserError, match="was made with seed=5"):
        stage1_ears(encoder, manifest, tmp_path, seed=6)


def test_a_data_set_without_recordings_is_refused(encoder, manifest, tmp_path):
    config = FeaturesConfig(augmented=("holdout",))
    with pytest.raises(UserError, match="no recorded question in split holdout"):
        extract_features(manifest, encoder, tmp_path, config)


def test_frames_that_were_multiplied_in_bfloat16_are_of_the_same_encoder(
    encoder, manifest, tmp_path, monkeypatch
):
    exact = extract_features(manifest, encoder, tmp_path / "exact", CONFIG)
    config = replace(CONFIG, dtype=torch.bfloat16)
    extract_features(manifest, encoder, tmp_path / "fast", config)
    assert encoder.conv1.weight.dtype == torch.float32
    monkeypatch.setattr(omni.frame_cache, "pad_features", None)  # encoding would fail
    ears = stage1_ears(encoder, manifest, tmp_path / "fast")
    path = manifest.root / "2.wav"
    found, expected = ears.hear(path, 1), exact.frames(path, 1)
    assert 0 < (found - expected).abs().max() < 0.05 * expected.abs().max()
