"""JSON lines that a kill may tear."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni.files.lines import appending, read_lines, write_lines

ROWS = [{"key": "é\n", "units": [1, 2]}, ["b", {"x": None}], []]


@given(cut=st.integers(0, 60))
def test_a_line_torn_anywhere_costs_itself_alone(tmp_path_factory, cut: int) -> None:
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    write_lines(path, ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    before = list(read_lines(path))
    assert before == ROWS[: len(before)]
    assert len(before) >= whole[:cut].count(b"\n")
    with appending(path) as append:
        append([["new"]])
    assert list(read_lines(path)) == [*before, ["new"]]


def test_a_line_is_on_disk_once_it_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with appending(path) as append:
        append(ROWS)
        assert list(read_lines(path)) == ROWS


def test_lines_that_cannot_be_written_leave_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_lines(path, ROWS)
    with pytest.raises(TypeError):
        write_lines(path, [["fine"], [object()]])
    assert list(read_lines(path)) == ROWS
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / "none.jsonl")) == []
