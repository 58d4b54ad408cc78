"""A step over many records: by id, resumable, the same whatever happened on the way."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Manifest, Record, read_manifest
from data_tools.steps.journal import LeftOut
from data_tools.steps.steps import run_step, step_over_file
from omni.files.errors import UserError
from omni.files.share import held


def record(name: str, text: str = "hello", speech: str | None = None) -> Record:
    return Record(id=name, turns=(RecordTurn(role="user", text=text, speech=speech),))


RECORDS = [record(f"r{number}", f"text {number}") for number in range(10)]


@dataclass
class Shout:
    """Upper case; leaves out texts in `silent`, and falls over after `lives` batches."""

    mark: str = "!"
    silent: tuple[str, ...] = ()
    lives: int = 1000
    writes: str | None = None
    name: str = "shout"
    batch_size: int = 3
    workers: int | None = 1
    device: str = "cpu"
    done: list[list[str]] = field(default_factory=list)

    def settings(self) -> dict[str, Any]:
        return {"mark": self.mark}

    def size(self, record: Record, root: Path) -> float:
        return len(record.turns[0].text)

    def open(self, root: Path) -> "Shout":
        self.root = root
        return self

    def __call__(self, records: Sequence[Record]) -> list[Record | LeftOut]:
        if self.lives == 0:
            raise RuntimeError("power cut")
        self.lives -= 1
        self.done.append([record.id for record in records])
        return [self.shouted(record) for record in records]

    def shouted(self, record: Record) -> Record | LeftOut:
        turn = record.turns[0]
        if turn.text in self.silent:
            return LeftOut("lost its voice")
        speech = turn.speech
        if self.writes:
            speech = f"{record.id}.wav"
            (self.root / speech).write_text(self.writes)
        return replace(
            record, turns=(replace(turn, text=turn.text.upper() + self.mark, speech=speech),)
        )

    def close(self) -> None:
        pass

    @property
    def count(self) -> int:
        return sum(map(len, self.done))


def shout(folder: Path, step: Shout, records: Sequence[Record] = RECORDS, **options: Any):
    return run_step(records, step, root=folder, journal=folder / "journal", **options)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_records(tmp_path, workers):
    result = shout(tmp_path, Shout(), workers=workers)
    assert [r.id for r in result.records] == [r.id for r in RECORDS]
    assert result.records[4].turns[0].text == "TEXT 4!"
    assert result.made == 10


def test_a_second_run_does_nothing(tmp_path):
    first = shout(tmp_path, Shout())
    step = Shout()
    again = shout(tmp_path, step)
    assert step.done == [] and again.made == 0 and again.records == first.records


def test_a_run_that_fell_over_goes_on_with_the_same_batches(tmp_path):
    whole = Shout()
    expected = shout(tmp_path / "whole", whole)
    with pytest.raises(RuntimeError, match="power cut"):
        shout(tmp_path / "cut", broken := Shout(lives=2))
    rest = Shout()
    result = shout(tmp_path / "cut", rest)
    assert broken.done + rest.done == whole.done
    assert result.records == expected.records
    assert (tmp_path / "cut/journal").read_bytes() == (tmp_path / "whole/journal").read_bytes()


def test_a_torn_last_line_of_the_journal_is_done_again(tmp_path):
    shout(tmp_path, Shout())
    whole = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(whole[:-7])
    step = Shout()
    shout(tmp_path, step)
    assert step.count == 1
    assert (tmp_path / "journal").read_bytes() == whole


def test_another_setting_or_a_changed_record_is_done_anew_and_nothing_else(tmp_path):
    shout(tmp_path, Shout())
    changed = [*RECORDS[:3], record("r3", "other"), *RECORDS[4:], record("r10", "new")]
    step = Shout()
    result = shout(tmp_path, step, changed)
    assert sorted(name for batch in step.done for name in batch) == ["r10", "r3"]
    assert result.records[3].turns[0].text == "OTHER!"
    other = Shout(mark="?")
    assert shout(tmp_path, other).records[0].turns[0].text == "TEXT 0?"
    assert other.count == 10


def test_a_recording_that_changed_or_that_went_missing_is_done_anew(tmp_path):
    (tmp_path / "in.wav").write_text("one")
    records = [record("a", speech="in.wav"), record("b")]
    shout(tmp_path, Shout(writes="x"), records)
    (tmp_path / "in.wav").write_text("other")
    shout(tmp_path, step := Shout(writes="x"), records)
    assert step.done == [["a"]]
    (tmp_path / "b.wav").unlink()
    shout(tmp_path, step := Shout(writes="x"), records)
    assert step.done == [["b"]]


def test_records_of_like_size_share_a_batch(tmp_path):
    records = [record(str(n), "x" * length) for n, length in enumerate([9, 1, 8, 2])]
    shout(tmp_path, step := Shout(batch_size=2), records)
    assert step.done == [["1", "3"], ["2", "0"]]


def test_what_has_no_result_is_left_out_with_its_reason_and_not_tried_again(tmp_path):
    result = shout(tmp_path, Shout(silent=("text 3",)))
    assert result.left_out == {"r3": "lost its voice"}
    assert "r3" not in {r.id for r in result.records}
    assert shout(tmp_path, step := Shout()).left_out == result.left_out and step.done == []


def test_too_many_records_without_result_end_the_run_by_name(tmp_path):
    records = [record(str(number), "mute") for number in range(100)]
    with pytest.raises(UserError, match=r"shout: 2\d of 100 records have no result .*lost its"):
        shout(tmp_path, step := Shout(silent=("mute",)), records)
    assert step.count < 40  # it ended early
    allowed = shout(tmp_path, Shout(silent=("mute",)), records, max_left_out=1.0)
    assert len(allowed.left_out) == 100


def test_two_runs_on_one_journal_are_refused(tmp_path):
    with held(tmp_path / "journal"), pytest.raises(UserError, match="another run"):
        shout(tmp_path, Shout())


def test_a_worker_that_outlives_its_run_does_not_keep_the_journal(tmp_path):
    context = get_context("fork")
    started = context.Event()
    with held(tmp_path / "journal"):
        worker = context.Process(target=lambda: (started.set(), time.sleep(60)))
        worker.start()
        assert started.wait(30)
    try:
        shout(tmp_path, Shout())
    finally:
        worker.kill()
        worker.join()


def test_a_step_into_another_folder_keeps_the_recordings_in_reach(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/in.wav").write_text("sound")
    source = Manifest(records=[record("one", speech="in.wav")], root=tmp_path / "a")
    out = tmp_path / "b/out.jsonl"
    step_over_file(source, Shout(), out)
    manifest = read_manifest(out)
    assert manifest.audio_path(manifest.records[0].turns[0]).read_text() == "sound"


def test_the_list_of_what_was_left_out_goes_when_nothing_is(tmp_path):
    source = Manifest(records=RECORDS, root=tmp_path)
    out = tmp_path / "out.jsonl"
    step_over_file(source, Shout(silent=("text 3",)), out)
    assert '"id": "r3", "step": "shout"' in (tmp_path / "out.left_out.jsonl").read_text()
    step_over_file(source, Shout(mark="?"), out)
    assert not (tmp_path / "out.left_out.jsonl").exists()
