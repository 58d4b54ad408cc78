"""Which layer's units to take: measures with known values, and phones of real recordings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import omni
from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Record, write_manifest
from omni.audio import load_audio
from omni.files import read_json
from train.cli import app
from train.voice.phones import PhoneAligner
from train.voice.probing import joint_counts, measures

torch.set_num_threads(1)
NANO = Path(omni.__file__).parent / "nano"
SAID = {
    "1-capital-of-france": "What is the capital of France?",
    "2-opposite-of-heavy": "What is the opposite of heavy?",
    "7-after-february": "Which month comes after February?",
}


def counted(phones: str, units: list[int]) -> dict[str, float]:
    return measures(joint_counts(np.array(list(phones)), np.array(units), max(units) + 1))


def test_a_unit_for_each_phone_tells_all_and_leaves_nothing_to_guess() -> None:
    found = counted("aabbccdd", [1, 1, 0, 0, 2, 2, 3, 3])
    assert found == pytest.approx(
        {"pnmi": 1.0, "unit_bits": 0.0, "phone_purity": 1.0, "cluster_purity": 1.0}
    )


def test_units_that_know_nothing_of_the_phone_tell_nothing() -> None:
    found = counted("aabb", [0, 1, 0, 1])
    assert found == pytest.approx(
        {"pnmi": 0.0, "unit_bits": 1.0, "phone_purity": 0.5, "cluster_purity": 0.5}
    )


def test_units_finer_than_phones_keep_the_words_and_are_harder_to_foretell() -> None:
    found = counted("aaaabbbb", [0, 0, 1, 1, 2, 2, 3, 3])
    assert found == pytest.approx(
        {"pnmi": 1.0, "unit_bits": 1.0, "phone_purity": 1.0, "cluster_purity": 0.5}
    )
    # Two phones in one unit: one bit of two is lost, and none is left to guess.
    assert counted("abcd", [0, 0, 1, 1])["pnmi"] == pytest.approx(0.5)


def test_the_phones_of_a_recording_are_those_of_its_words_in_their_order() -> None:
    waveform = load_audio(NANO / "questions" / "1-capital-of-france.wav")
    phones = PhoneAligner().align(waveform, SAID["1-capital-of-france"])
    assert phones is not None
    assert abs(len(phones) - len(waveform) / 320) <= 2  # one for each unit of 20 ms
    order = [phone for phone, before in zip(phones, ["", *phones], strict=False) if phone != before]
    spoken = [phone for phone in order if phone != "SIL"]
    assert "K AE P AH T AH L" in " ".join(spoken)
    assert spoken[-5:] == ["F", "R", "AE", "N", "S"]


def test_a_text_with_an_unknown_word_is_not_aligned_and_the_next_one_is() -> None:
    aligner = PhoneAligner()
    waveform = load_audio(NANO / "questions" / "1-capital-of-france.wav")
    assert aligner.align(waveform, "what is the capital of varnopol") is None
    assert aligner.align(waveform, SAID["1-capital-of-france"])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Real speech as answers: two in training, one held out."""
    records = [
        Record(
            id=name,
            turns=(
                RecordTurn(role="user", text="Say something."),
                RecordTurn(
                    role="assistant", text=text, speech=str(NANO / "questions" / f"{name}.wav")
                ),
            ),
            split="validation" if name.startswith("1") else "train",
        )
        for name, text in SAID.items()
    ]
    write_manifest(tmp_path / "records.jsonl", records)
    return tmp_path / "records.jsonl"


def test_layers_are_compared_on_held_out_answers_and_more_of_them_may_join(
    manifest: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"

    def layers(*more: str) -> str:
        result = CliRunner().invoke(
            app,
            ["layers", str(manifest), "--speech-encoder", str(NANO / "checkpoint/speech_encoder"),
             "-o", str(output), "--clusters", "12", *more],
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        return result.output

    told = layers("--layer", "1", "--layer", "3")
    report = read_json(output / "report.json")
    assert (report["answers"], report["aligned"]) == (1, 1)
    assert [one["layer"] for one in report["layers"]] == [1, 3]
    for one in report["layers"]:
        assert 0.2 < one["pnmi"] < 1 and one["phone_purity"] > 1.5 / 12
        assert 5 < one["units_per_second"] < 50 and 60 < one["frames"] < 150
    best = max(report["layers"], key=lambda one: one["pnmi"])
    assert f"layer {best['layer']} keeps the most of the words" in told
    fitted = (output / "layer-1" / "units" / "centroids.safetensors").stat().st_mtime_ns
    layers()
    again = read_json(output / "report.json")["layers"]
    assert [one["layer"] for one in again] == [1, 2, 3, 4] and again[::2] == report["layers"]
    assert (output / "layer-1" / "units" / "centroids.safetensors").stat().st_mtime_ns == fitted


def test_a_layer_that_the_encoder_lacks_and_data_without_validation_are_refused(
    manifest: Path, tmp_path: Path
) -> None:
    call = ["layers", str(manifest), "--speech-encoder", str(NANO / "checkpoint/speech_encoder"),
            "-o", str(tmp_path / "out"), "--clusters", "12"]  # fmt: skip
    result = CliRunner().invoke(app, [*call, "--layer", "9"])
    assert result.exit_code != 0 and "layer=9" in result.output
    manifest.write_text(manifest.read_text().replace('"validation"', '"train"'))
    result = CliRunner().invoke(app, call)
    assert result.exit_code != 0 and "no spoken answer in split validation" in result.output
