"""Small sets: what is asked to be held out is, something is left, and the counts are told."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_tools.cli import app
from data_tools.manifest.record import read_manifest
from data_tools.sources.reading import ImportConfig, import_records


def write(path: Path, *questions: str) -> str:
    rows = [{"id": str(n), "question": text, "answer": "Yes."} for n, text in enumerate(questions)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
@pytest.mark.parametrize("subject", ["cats", "dogs", "hens", "owls"])
def test_of_ten_questions_at_least_one_is_held_out_and_one_left(
    tmp_path: Path, share: float, subject: str
) -> None:
    source = write(tmp_path / "t.jsonl", *(f"{n} {subject}?" for n in range(10)))
    found = import_records(source, ImportConfig(validation=share)).records
    splits = [record.split for record in found]
    assert 1 <= splits.count("validation") <= 9 and set(splits) == {"train", "validation"}


def test_one_question_cannot_be_on_two_sides(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", "Why?", "Why?", "why")
    with pytest.raises(ValueError, match="1 questions: too few for train, validation"):
        import_records(source, ImportConfig(validation=0.2))


def test_import_says_how_many_records_each_split_got(tmp_path: Path) -> None:
    source = write(tmp_path / "t.jsonl", *(f"{n}?" for n in range(10)))
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(app, ["import", source, "-o", str(out), "--validation", "0.2"])
    held = [record.split for record in read_manifest(out).records].count("validation")
    counts = {f"train {10 - held}", f"validation {held}"}
    assert set(result.output.split("; ")[1].strip().split(", ")) == counts
