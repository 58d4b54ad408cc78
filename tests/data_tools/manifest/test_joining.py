"""Joined manifests: every recording is found, and no id stands for two records."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_tools.cli import app
from data_tools.manifest import Record, RecordTurn, read_manifest, write_manifest


def manifest(folder: Path, *ids: str, speech: str = "audio/q.wav") -> Path:
    """A manifest whose questions are spoken in one file, which says in which folder it lies."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    (folder / "audio" / "q.wav").write_text(folder.name)
    turns = (
        RecordTurn(role="user", text=f"Hello from {folder.name}.", speech=speech),
        RecordTurn(role="assistant", text="Hello.", units=(1, 2)),
    )
    path = folder / "records.jsonl"
    write_manifest(path, [Record(id=name, turns=turns) for name in ids])
    return path


def join(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["join", *map(str, arguments)])
    return result.exit_code, result.output


def heard(path: Path) -> dict[str, str]:
    """What lies where the joined manifest says that each recording lies."""
    found = read_manifest(path)
    return {
        record.id: found.audio_path(record.turns[0]).read_text().strip() for record in found.records
    }


@pytest.mark.parametrize("where", ["all.jsonl", "new/all.jsonl", "one/all.parquet"])
def test_recordings_are_found_from_wherever_the_joined_manifest_lies(
    tmp_path: Path, where: str
) -> None:
    sources = [manifest(tmp_path / "one", "a", "b"), manifest(tmp_path / "two", "c")]
    code, output = join(*sources, "-o", tmp_path / where)
    assert (code, output.count("\n")) == (0, 1) and "3 records of 2 manifests" in output
    assert heard(tmp_path / where) == {"a": "one", "b": "one", "c": "two"}
    assert read_manifest(tmp_path / where).records[2].turns[1].units == (1, 2)


def test_joined_manifests_and_their_recordings_can_be_moved_together(tmp_path: Path) -> None:
    sources = [manifest(tmp_path / "old" / name, name) for name in ("one", "two")]
    join(*sources, "-o", tmp_path / "old" / "all.jsonl")
    (tmp_path / "old").rename(tmp_path / "moved")
    assert heard(tmp_path / "moved" / "all.jsonl") == {"one": "one", "two": "two"}


def test_a_recording_behind_a_linked_folder_is_found(tmp_path: Path) -> None:
    manifest(tmp_path / "disk" / "data" / "one", "a")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "disk" / "data" / "one")
    source = tmp_path / "here" / "linked" / "records.jsonl"
    assert join(source, "-o", tmp_path / "here" / "all.jsonl")[0] == 0
    assert heard(tmp_path / "here" / "all.jsonl") == {"a": "one"}


def test_absolute_paths_stay(tmp_path: Path) -> None:
    absolute = str(tmp_path / "one" / "audio" / "q.wav")
    source = manifest(tmp_path / "one", "a", speech=absolute)
    join(source, "-o", tmp_path / "all.jsonl")
    assert read_manifest(tmp_path / "all.jsonl").records[0].turns[0].speech == absolute


def test_an_id_in_two_manifests_is_an_error_that_names_both_and_writes_nothing(
    tmp_path: Path,
) -> None:
    one, two = manifest(tmp_path / "one", "a"), manifest(tmp_path / "two", "b", "a")
    code, output = join(one, two, "-o", tmp_path / "all.jsonl")
    assert (code, output.count("\n")) == (2, 1)
    assert all(part in output for part in (str(one), str(two), "'a'", "--rename"))
    assert not (tmp_path / "all.jsonl").exists()


def test_a_taken_id_is_renamed_when_told_to(tmp_path: Path) -> None:
    one, two = manifest(tmp_path / "one", "a"), manifest(tmp_path / "two", "a", "b")
    assert join(one, two, "-o", tmp_path / "all.jsonl", "--rename")[0] == 0
    assert heard(tmp_path / "all.jsonl") == {"a": "one", "a-2": "two", "b": "two"}


def test_a_new_name_that_is_taken_too_is_an_error(tmp_path: Path) -> None:
    one, two = manifest(tmp_path / "one", "a", "a-2"), manifest(tmp_path / "two", "a")
    code, output = join(one, two, "-o", tmp_path / "all.jsonl", "--rename")
    assert code == 2 and "'a-2'" in output
