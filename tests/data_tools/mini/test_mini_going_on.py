"""The mini's data set in several runs: a killed one goes on, a later one brings answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from data_tools.manifest.record import read_manifest
from data_tools.mini.asks import KINDS
from data_tools.steps import LeftOut
from data_tools.writers.base import Reply, Request, Writer
from tests.mini_data import Tones, build


@dataclass(frozen=True, kw_only=True)
class Knowing:
    """A writer that knows the colours of even numbers of the book, and talks about all else."""

    batch_size: int = 4
    workers: ClassVar[int] = 1
    device: ClassVar[str] = "cpu"
    label: str = "knowing"

    def settings(self) -> dict[str, Any]:
        return {"writer": "knowing"}

    def build(self) -> Writer:
        return KnowingWriter()


class KnowingWriter:
    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            text = request.messages[-1].content
            if "number two" in text:
                yield index, "It is **green two**. It is nice. It is old."
            elif "in the book" in text:
                yield index, "It is red."
            elif "recipe" in text:
                yield index, LeftOut("was cut off")
            else:
                yield index, "Take your time with it."

    def close(self) -> None:
        pass


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_killed_run_goes_on_and_ends_with_the_same_files(
    tmp_path: Path, folder: Path, texts: Path
) -> None:
    with pytest.raises(ValueError, match="fell over"):
        build(tmp_path / "data", texts, workers=1, make_tts=lambda: Tones(60))
    assert not (tmp_path / "data" / "records.jsonl").exists()
    summary = build(tmp_path / "data", texts)
    assert summary.made_clips == summary.clips - 60
    assert contents(tmp_path / "data") == contents(folder)


def test_a_later_run_needs_no_texts_and_refuses_other_wishes(folder: Path, texts: Path) -> None:
    assert build(folder, None).made_clips == 0
    with pytest.raises(ValueError, match="begun with questions=400"):
        build(folder, texts, questions=401)
    with pytest.raises(ValueError, match="begun with"):
        build(folder, texts, seed=1)


def test_answers_come_later_and_keep_the_recordings_of_the_questions(
    tmp_path: Path, texts: Path
) -> None:
    data = tmp_path / "data"
    before = build(data, texts)
    clips = {path for path in contents(data) if path.startswith("audio/questions")}
    after = build(data, texts, writer=Knowing())
    assert clips == {path for path in contents(data) if path.startswith("audio/questions")}
    assert 0 < after.unanswered < before.unanswered
    said = {
        record.turns[0].text: record
        for record in read_manifest(data / "records.jsonl").records
        if record.provenance["kind"] == "open"
    }
    known = said["What is the colour of number two in the book?"]
    assert known.turns[1].text == "It is green two. It is nice."
    assert known.provenance["answered_by"] == "a language model"
    others = [record.turns[1].text for text, record in said.items() if "the book" in text]
    assert "It is red." not in others and any("not" in text for text in others)
    assert any(record.turns[1].text == "Take your time with it." for record in said.values())
    # Asked again it has all it needs, and without the writer the answers stay.
    assert build(data, texts, writer=Knowing()).made_clips == 0
    assert build(data, texts).unanswered == after.unanswered


def test_impossible_wishes_are_refused_before_anything_is_written(
    tmp_path: Path, texts: Path
) -> None:
    with pytest.raises(ValueError, match="questions=0"):
        build(tmp_path / "data", texts, questions=0)
    with pytest.raises(ValueError, match=f"some of {', '.join(KINDS)}"):
        build(tmp_path / "data", texts, kinds=("songs",))
    assert not (tmp_path / "data").exists()


def test_questions_alone_can_be_spoken_first_and_the_answers_later(
    tmp_path: Path, folder: Path, texts: Path
) -> None:
    data = tmp_path / "data"
    first = build(data, texts, speak_answers=False)
    whole, asked = (read_manifest(place / "records.jsonl").records for place in (folder, data))
    assert [record.id for record in asked] == [record.id for record in whole]
    for one, other in zip(asked, whole, strict=True):
        assert one.turns[::2] == other.turns[::2]
        assert [turn.text for turn in one.turns] == [turn.text for turn in other.turns]
        assert all(turn.speech is None for turn in one.turns[1::2])
    assert not (data / "audio" / "answers").exists() and first.hours["train"] > 0
    later = build(data, texts)
    assert later.clips == first.clips + later.made_clips
    assert contents(data) == contents(folder)
    build(data, texts, speak_answers=False)  # asks for no more than is there
    assert contents(data) == contents(folder)
