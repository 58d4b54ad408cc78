"""Units over a manifest: the extractor's own, batched by length, resumable."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel

from data_tools.encode.units import UnitsStep, load_units_step
from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Manifest, Record
from data_tools.steps.steps import run_step
from omni.audio import SAMPLE_RATE, load_audio, save_wav
from omni.files import SHIPPED, UserError
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig, save_speech_encoder
from omni.units.config import UnitsConfig
from omni.units.extractor import UnitExtractor

CONFIG = UnitsConfig(kind="speech_encoder", name="tiny", layer=1)
LONGEST_S = 4


@pytest.fixture(scope="module")
def extractor() -> UnitExtractor:
    torch.manual_seed(0)
    config = SpeechEncoderConfig(
        n_mels=20, width=16, layers=1, heads=2, ffn=32, max_frames=50 * LONGEST_S
    )
    encoder = SpeechEncoder(config).eval()
    return UnitExtractor(CONFIG, torch.randn(8, 16), encoder)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("speech")
    records = []
    for number in range(7):
        noise = np.random.default_rng(number).standard_normal(4000 + 3100 * (number * 3 % 7))
        save_wav(folder / f"{number}.wav", (0.1 * noise).astype(np.float32))
        question = RecordTurn(role="user", text="Who?", speech="0.wav")
        answer = RecordTurn(role="assistant", text="Me.", speech=f"{number}.wav")
        records.append(Record(id=str(number), turns=(question, answer)))
    return Manifest(records=records, root=folder)


def label(manifest: Manifest, step: UnitsStep, journal: Path, **options):
    return run_step(manifest.records, step, root=manifest.root, journal=journal, **options)


def test_answers_get_the_extractors_merged_units_and_questions_none(extractor, manifest, tmp_path):
    result = label(manifest, UnitsStep(extractor=extractor, batch_size=3), tmp_path / "j")
    for record in result.records:
        question, answer = record.turns
        assert question.units is None
        expected = extractor.extract_merged(load_audio(manifest.audio_path(answer)))
        assert answer.units == tuple(expected.tolist())


def test_both_roles_may_be_asked_for(extractor, manifest, tmp_path):
    step = UnitsStep(extractor=extractor, roles=("user", "assistant"))
    assert all(t.units for r in label(manifest, step, tmp_path / "j").records for t in r.turns)


def test_a_run_cut_short_ends_with_the_same_units(extractor, manifest, tmp_path, monkeypatch):
    step = UnitsStep(extractor=extractor, batch_size=2)
    whole = label(manifest, step, tmp_path / "whole")
    extract, batches = extractor.extract_batch, []

    def dies(waveforms):
        batches.append(len(waveforms))
        if len(batches) == 3:
            raise RuntimeError("power cut")
        return extract(waveforms)

    monkeypatch.setattr(extractor, "extract_batch", dies)
    with pytest.raises(RuntimeError):
        label(manifest, step, tmp_path / "cut", workers=1)
    resumed = label(manifest, step, tmp_path / "cut", workers=1)
    assert resumed.records == whole.records
    assert len(batches) == 3 + 2  # two of four batches were done
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def test_other_centroids_are_another_step(extractor, manifest, tmp_path):
    label(manifest, UnitsStep(extractor=extractor), tmp_path / "j")
    other = UnitExtractor(CONFIG, extractor.centroids.flip(0), extractor.encoder)
    assert label(manifest, UnitsStep(extractor=other), tmp_path / "j").made == 7


def test_another_encoder_of_the_same_size_is_another_step(extractor, manifest, tmp_path):
    label(manifest, UnitsStep(extractor=extractor), tmp_path / "j")
    encoder = SpeechEncoder(extractor.encoder.config).eval()
    other = UnitsStep(extractor=UnitExtractor(CONFIG, extractor.centroids, encoder))
    assert label(manifest, other, tmp_path / "j").made == 7


def test_answers_that_the_encoder_cannot_take_are_left_out_alone(extractor, manifest, tmp_path):
    save_wav(manifest.root / "long.wav", np.zeros(SAMPLE_RATE * (LONGEST_S + 1), np.float32))
    (manifest.root / "torn.wav").write_bytes(b"RIFF")
    records = [
        replace(
            manifest.records[0],
            id=name,
            turns=(
                RecordTurn(role="user", text="?"),
                RecordTurn(role="assistant", text="!", speech=name),
            ),
        )
        for name in ("long.wav", "torn.wav")
    ]
    larger = Manifest(records=[*manifest.records, *records], root=manifest.root)
    result = label(larger, UnitsStep(extractor=extractor), tmp_path / "j")
    assert len(result.records) == 7
    assert "positions for 4 s" in result.left_out["long.wav"]
    assert "not readable as audio" in result.left_out["torn.wav"]


def test_the_step_is_loaded_from_the_folders_of_encoder_and_units(extractor, manifest, tmp_path):
    extractor.save(tmp_path / "checkpoint/units")
    save_speech_encoder(extractor.encoder, tmp_path / "encoder", dtype=torch.float32)
    step = load_units_step(tmp_path / "checkpoint", encoder=tmp_path / "encoder")
    assert step.extractor.fingerprint == extractor.fingerprint
    first, second = (
        label(manifest, s, tmp_path / f"{n}.j").records
        for n, s in enumerate((step, UnitsStep(extractor=extractor)))
    )
    assert first == second


def test_the_units_of_a_bundled_checkpoint_are_known_by_its_name():
    nano = SHIPPED["nano"]
    given = load_units_step(nano, encoder=nano / "speech_encoder")
    for name in ("nano", nano):
        own = load_units_step(name)  # with the checkpoint's own encoder
        assert own.settings() == given.settings()


def test_roles_that_are_none_are_refused(extractor):
    with pytest.raises(UserError, match=r"roles=\['answer'\]: must be one or both of user, assist"):
        UnitsStep(extractor=extractor, roles=("answer",))


def test_without_an_encoder_the_hubert_that_the_units_name_is_loaded(tmp_path):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small = {"intermediate_size": 24, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 4}
    hubert = HubertModel(HubertConfig(**shape, **small, num_conv_pos_embedding_groups=2)).eval()
    hubert.save_pretrained(tmp_path / "hubert")
    config = UnitsConfig(kind="hubert", name=str(tmp_path / "hubert"), layer=1)
    extractor = UnitExtractor(config, torch.randn(8, 16), hubert)
    extractor.save(tmp_path / "units")
    found = load_units_step(tmp_path / "units").extractor
    noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    assert np.array_equal(found.extract(noise), extractor.extract(noise))
