"""What is wrong with a row or a file is named with its line, and bad rows may be left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_tools.sources.reading import ImportConfig, import_records
from data_tools.sources.rows import file_rows
from tests.foreign_rows import SHARED, read, write

BAD_ROWS = [
    ({"id": "b", "conversations": SHARED[::-1]}, ["turn 1", "start with 'user'"]),
    ({"id": "b", "conversations": [{"from": "tool", "value": "x"}]}, ["'tool'", "must be one of"]),
    ({"id": "b", "conversations": "x"}, ["conversations", "list of objects"]),
    ({"id": "b", "conversations": [{"from": "human", "value": 3}]}, ["value 3", "text"]),
    ({"id": "b", "conversations": [{"from": "human", "value": " "}]}, ["turn 1", "empty"]),
    ({"id": "b", "instruction": "x"}, ["sharegpt row without conversations"]),
    ("x", ["row 'x'", "object"]),
]


@pytest.mark.parametrize(("bad", "words"), BAD_ROWS)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_bad_row_is_named_by_its_line_and_may_be_left_out(
    tmp_path: Path, bad: Any, words: list[str], suffix: str
) -> None:
    good = {"id": "a", "conversations": SHARED}
    source = write(tmp_path / f"s{suffix}", good, bad, good | {"id": "c"})
    line = 3 if suffix == ".json" else 2
    with pytest.raises(ValueError) as raised:
        read(source)
    assert all(word in str(raised.value) for word in [f"s{suffix}:{line}", *words]), raised.value
    found = import_records(source, ImportConfig(skip_bad=True))
    assert [record.id for record in found.records] == ["a", "c"]
    assert len(found.bad) == 1 and f"s{suffix}:{line}" in found.bad[0]


def test_equal_rows_count_once_and_one_id_for_two_is_refused(tmp_path: Path) -> None:
    row = {"id": "a", "data": ["x", "y"]}
    found = import_records(write(tmp_path / "u.jsonl", row, row))
    assert (len(found.records), found.repeated) == (1, 1)
    with pytest.raises(ValueError, match=r"u\.jsonl:2: id 'a' is already that of .*u\.jsonl:1"):
        read(write(tmp_path / "u.jsonl", row, row | {"data": ["x", "z"]}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[\n{"a": 1},\n{"a": }\n]', ["x.json:3", "not JSON", "line 3"]),
        ('[\n{"a": 1}\n{"a": 2}]', ["x.json:3", "',' or ']'"]),
        ('[{"a": 1},', ["x.json:1", "not JSON"]),
        ('{"a": 1}\n{"a": ', ["x.json:2", "not JSON"]),
    ],
)
def test_torn_json_is_named_by_its_line(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError) as raised:
        list(file_rows(tmp_path / "x.json"))
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize("text", ["[]", "[ ]\n", "", '\ufeff[{"a": 1} , {"a": 2}\n]', '[{"a":1}]'])
def test_json_lists_are_read_as_json_reads_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    rows = [row for _, row in file_rows(tmp_path / "x.json")]
    assert rows == (json.loads(text.removeprefix("\ufeff")) if text else [])


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("x.xlsx", {}, ["x.xlsx", ".parquet"]),
        ("missing.csv", {}, ["missing.csv", "no such file or folder"]),
        ("u.jsonl", {"format": "csv"}, ["'csv'", "alpaca"]),
        ("u.jsonl", {"limit": 0}, ["limit=0"]),
        ("odd.jsonl", {}, ["odd.jsonl:1", "['colour']", "fit no format"]),
    ],
)
def test_what_can_not_be_read_is_refused_with_what_can(
    tmp_path: Path, source: str, options: dict[str, Any], words: list[str]
) -> None:
    write(tmp_path / "u.jsonl", {"id": "a", "data": ["x", "y"]})
    write(tmp_path / "odd.jsonl", {"colour": "red"})
    (tmp_path / "x.xlsx").touch()
    with pytest.raises(ValueError) as raised:
        read(str(tmp_path / source), **options)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.csv"])
def test_a_source_without_a_row_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=rf"{name}: no rows to import"):
        read(str(tmp_path / name))


def test_a_source_of_which_nothing_is_left_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    source = write(tmp_path / "x.jsonl", {"id": "a", "data": ["", ""]})
    with pytest.raises(ValueError, match=r"x\.jsonl: no rows .*left out first: .*:1: turn 1 is"):
        read(source, skip_bad=True)


def test_a_torn_table_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("question,answer\nWhat?,That.\nWhat, now?,Yes.\n")
    with pytest.raises(ValueError, match=r"x\.csv:3: more fields than columns; put .* quotation"):
        read(str(tmp_path / "x.csv"))


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_may_lie_in_one_object(tmp_path: Path, indent: int | None) -> None:
    rows = [{"id": "a", "conversations": SHARED}, {"id": "b", "conversations": "x"}]
    source = tmp_path / "x.json"
    source.write_text(json.dumps({"version": "1", "data": rows}, indent=indent))
    found = import_records(str(source), ImportConfig(skip_bad=True))
    assert [record.id for record in found.records] == ["a"]
    assert found.bad[0].startswith(f"{source}[data]:2: ")


@pytest.mark.parametrize(
    "row", [{"id": "a", "data": ["x", "y"]}, {"id": "a", "messages": [{"role": "user"}]}]
)
def test_one_row_alone_is_a_row(tmp_path: Path, row: dict[str, Any]) -> None:
    (tmp_path / "x.json").write_text(json.dumps(row))
    assert list(file_rows(tmp_path / "x.json")) == [(f"{tmp_path / 'x.json'}:1", row)]


def test_of_several_lists_none_is_taken_silently(tmp_path: Path) -> None:
    row = {"id": "a", "conversations": SHARED}
    for names in (("train", "test"), ("data", "rows")):
        source = tmp_path / "x.json"
        source.write_text(json.dumps({name: [row] for name in names}))
        with pytest.raises(ValueError, match=r"x\.json:1"):
            read(str(source))
