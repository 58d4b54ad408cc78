"""What is asked to be held out is, of small sets too, and the counts are told."""

import itertools
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_tools.cli import app
from data_tools.manifest.record import read_manifest
from data_tools.sources.reading import ImportConfig, import_records
from tests.foreign_rows import ANSWER, QUESTION, SHARED, read, write


def write_questions(path: Path, *questions: str) -> str:
    rows = [{"id": str(n), "question": text, "answer": "Yes."} for n, text in enumerate(questions)]
    return write(path, *rows)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
@pytest.mark.parametrize("subject", ["cats", "dogs", "hens", "owls"])
def test_of_ten_questions_at_least_one_is_held_out_and_one_left(
    tmp_path: Path, share: float, subject: str
) -> None:
    source = write_questions(tmp_path / "t.jsonl", *(f"{n} {subject}?" for n in range(10)))
    found = import_records(source, ImportConfig(validation=share)).records
    splits = [record.split for record in found]
    assert 1 <= splits.count("validation") <= 9 and set(splits) == {"train", "validation"}


def test_one_question_cannot_be_on_two_sides(tmp_path: Path) -> None:
    source = write_questions(tmp_path / "t.jsonl", "Why?", "Why?", "why")
    with pytest.raises(ValueError, match="1 questions: too few for train, validation"):
        import_records(source, ImportConfig(validation=0.2))


def test_import_says_how_many_records_each_split_got(tmp_path: Path) -> None:
    source = write_questions(tmp_path / "t.jsonl", *(f"{n}?" for n in range(10)))
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(app, ["import", source, "-o", str(out), "--validation", "0.2"])
    held = [record.split for record in read_manifest(out).records].count("validation")
    counts = {f"train {10 - held}", f"validation {held}"}
    assert set(result.output.split("; ")[1].strip().split(", ")) == counts


def test_a_share_of_the_questions_is_held_out_and_equal_questions_stay_together(
    tmp_path: Path,
) -> None:
    rows = [
        {"id": f"{voice}-{number}", "question": f"What is {number}?", "answer": f"{number}."}
        for voice in ("a", "b")
        for number in range(200)
    ]
    records = read(write(tmp_path / "s.jsonl", *rows), validation=0.25, split="own")
    split = {record.id: record.split for record in records}
    assert {split[f"a-{n}"] == split[f"b-{n}"] for n in range(200)} == {True}
    assert set(split.values()) == {"own", "validation"}
    assert 70 <= list(split.values()).count("validation") <= 130


def test_dialogues_that_begin_alike_stay_together(tmp_path: Path) -> None:
    def turns(*said: str) -> list[dict[str, str]]:
        roles = itertools.cycle(("user", "assistant"))
        return [{"role": role, "text": text} for role, text in zip(roles, said, strict=False)]

    rows = [
        {"id": f"{kind}{number}", "turns": turns(f"What is {number}?", "A number.", *more)}
        for number in range(60)
        for kind, more in (("short", ()), ("long", ("And then?", "More.")))
    ]
    records = read(write(tmp_path / "r.jsonl", *rows), validation=0.3)
    split = {record.id: record.split for record in records}
    assert set(split.values()) == {"train", "validation"}
    assert all(split[f"short{number}"] == split[f"long{number}"] for number in range(60))


def test_questions_without_words_are_held_out_by_their_ids(tmp_path: Path) -> None:
    asked = {"from": "human", "value": "<speech>"}
    rows = [
        {"id": str(n), "speech": "q.wav", "conversations": [asked, SHARED[1]]} for n in range(60)
    ]
    records = read(write(tmp_path / "q.jsonl", *rows), validation=0.5)
    assert {record.split for record in records} == {"train", "validation"}


def test_a_split_that_came_along_is_kept(tmp_path: Path) -> None:
    turns = [{"role": "user", "text": QUESTION}, {"role": "assistant", "text": ANSWER}]
    rows = [{"id": str(n), "turns": turns, "split": "test"} for n in range(9)]
    records = read(write(tmp_path / "r.jsonl", *rows), validation=0.9)
    assert {record.split for record in records} == {"test"}


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_to_train_on_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"validation={share}: a share, at least 0 and below 1"):
        ImportConfig(validation=share)
