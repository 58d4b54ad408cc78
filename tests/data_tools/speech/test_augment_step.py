"""Augmented questions as files, and the telephone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Manifest, Record, read_manifest
from data_tools.speech.augment_step import AugmentStep
from data_tools.speech.augmentation import AugmentConfig, augment, augment_rng, telephone
from data_tools.steps.steps import step_over_file
from omni.audio import SAMPLE_RATE, load_audio, save_wav


def tone(hertz: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(SAMPLE_RATE) / SAMPLE_RATE)).astype(
        np.float32
    )


def power(waveform: np.ndarray) -> float:
    return float(np.square(waveform).mean())


@pytest.mark.parametrize(("hertz", "passes"), [(60, 0), (200, 0), (500, 1), (3000, 1), (5000, 0)])
def test_a_telephone_carries_300_to_3400_hertz(hertz, passes):
    through = telephone(tone(hertz))
    assert power(through) == pytest.approx(passes * power(tone(hertz)), rel=0.05, abs=1e-4)


def test_a_telephone_keeps_the_length_and_takes_silence():
    assert np.array_equal(telephone(np.zeros(777, np.float32)), np.zeros(777, np.float32))
    assert telephone(tone(1000)).dtype == np.float32
    error = power(telephone(tone(1000)) - tone(1000)) / power(tone(1000))
    assert 1e-6 < error < 1e-3  # 8 bits of mu-law: about 38 dB


def test_without_a_telephone_the_draws_are_what_they_were_before_there_was_one():
    """The nano was trained on these; the numbers are those of the release before."""
    result = augment(tone(440.0), augment_rng(1, 2, 3))
    assert (len(result), float(np.abs(result).sum())) == pytest.approx((22_211, 4337.497), rel=1e-4)


@pytest.fixture
def source(tmp_path) -> Manifest:
    records = []
    for name, split in (("a", "train"), ("b", "train"), ("c", "test")):
        save_wav(tmp_path / f"{name}.wav", tone(300.0 + ord(name)))
        question = RecordTurn(role="user", text=name, speech=f"{name}.wav")
        answer = RecordTurn(role="assistant", text="Yes.", speech="a.wav")
        records.append(Record(id=name, turns=(question, answer), split=split))
    return Manifest(records=records, root=tmp_path)


def augmented(source: Manifest, out: Path, step: AugmentStep) -> dict[str, np.ndarray]:
    step_over_file(source, step, out)
    manifest = read_manifest(out)
    return {
        f"{record.id} {turn.role}": load_audio(manifest.audio_path(turn))
        for record in manifest.records
        for turn in record.turns
    }


def test_questions_of_training_change_and_nothing_else_does(source, tmp_path):
    heard = augmented(source, tmp_path / "out.jsonl", AugmentStep())
    for name in ("a assistant", "b assistant", "c assistant", "c user"):
        letter = "a" if "assistant" in name else name[0]
        np.testing.assert_array_equal(heard[name], load_audio(tmp_path / f"{letter}.wav"))
    for letter in "ab":
        same = heard[f"{letter} user"]
        assert not np.array_equal(same, load_audio(tmp_path / f"{letter}.wav"))


def test_what_is_drawn_depends_on_the_record_and_not_on_its_neighbours(source, tmp_path):
    both = augmented(source, tmp_path / "both.jsonl", AugmentStep())
    alone = Manifest(records=source.records[1:2], root=source.root)
    (tmp_path / "other").mkdir()
    single = augmented(alone, tmp_path / "other/one.jsonl", AugmentStep())
    np.testing.assert_array_equal(single["b user"], both["b user"])


def test_a_recording_replaced_by_one_as_long_is_augmented_anew(source, tmp_path):
    before = augmented(source, tmp_path / "out.jsonl", AugmentStep())
    save_wav(tmp_path / "b.wav", 0.5 * tone(300.0 + ord("b")))
    after = augmented(source, tmp_path / "out.jsonl", AugmentStep())
    np.testing.assert_array_equal(after["a user"], before["a user"])
    assert not np.array_equal(after["b user"], before["b user"])


@pytest.mark.parametrize(
    "step",
    [
        AugmentStep(seed=1),
        AugmentStep(epoch=1),
        AugmentStep(config=AugmentConfig(speed=(0.7, 0.8))),
    ],
)
def test_another_seed_epoch_or_setting_sounds_different(source, tmp_path, step):
    first = augmented(source, tmp_path / "one.jsonl", AugmentStep())
    second = augmented(source, tmp_path / "two.jsonl", step)
    assert len(first["a user"]) != len(second["a user"]) or not np.array_equal(
        first["a user"], second["a user"]
    )


def test_the_telephone_is_drawn_as_often_as_asked():
    still = AugmentConfig(
        speed_share=0, echo_share=0, noise_share=0, gain_db=(0, 0), silence_s=(0, 0)
    )
    config = replace(still, telephone_share=0.25)
    quiet = [power(augment(tone(60), augment_rng(0, 0, n), config)) < 1e-3 for n in range(200)]
    assert 30 < sum(quiet) < 70
