"""Parts side by side: order, limits, failures, and what is shown."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from omni.files.errors import UserError
from train.nano import NANO
from train.parts.schedule import last_line, ready, run_parts

DIAMOND = {"a": [], "b": [], "c": ["a"], "d": ["b", "c"]}
# Notes when it begins and ends in one file that all parts share.
PART = """
import sys, time, pathlib
part, folder = sys.argv[1], pathlib.Path(sys.argv[2])
note = lambda what: open(folder / "events.txt", "a").write(f"{what} {part}\\n")
note("begin")
print(f"half of {part}", flush=True)
open(folder / "sharing.txt", "a").write(f"{part} {sys.argv[3]}\\n")
time.sleep(0.3)
if part == "BAD": sys.exit("it broke")
(folder / part).mkdir(exist_ok=True)
(folder / part / "done").touch()
note("end")
"""


def run(
    folder: Path, needs: Mapping[str, list[str]], *, jobs: int, bad: str = "", **options
) -> list[str]:
    """What began and ended, in order."""
    script = PART.replace("BAD", bad)
    folder.mkdir(exist_ok=True)
    try:
        run_parts(
            folder,
            needs,
            complete=lambda part: (folder / part / "done").is_file(),
            command=lambda part, sharing: [
                sys.executable,
                "-c",
                script,
                part,
                str(folder),
                str(sharing),
            ],
            jobs=jobs,
            **options,
        )
    finally:
        events = folder / "events.txt"
        noted = events.read_text().splitlines() if events.is_file() else []
    return noted


def at_once(events: list[str]) -> int:
    """The largest number of parts that ran at the same time."""
    running = most = 0
    for event in events:
        running += 1 if event.startswith("begin") else -1
        most = max(most, running)
    return most


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_part_begins_after_those_it_needs_and_no_more_run_than_allowed(
    tmp_path: Path, jobs: int
) -> None:
    events = run(tmp_path, DIAMOND, jobs=jobs)
    assert sorted(events) == sorted(
        f"{what} {part}" for part in DIAMOND for what in ("begin", "end")
    )
    for part, needed in DIAMOND.items():
        for before in needed:
            assert events.index(f"end {before}") < events.index(f"begin {part}")
    assert at_once(events) == jobs


def test_parts_that_begin_together_share_the_machine_and_one_alone_has_it(tmp_path: Path) -> None:
    run(tmp_path, DIAMOND, jobs=2)
    sharing = dict(line.split() for line in (tmp_path / "sharing.txt").read_text().splitlines())
    assert (sharing["a"], sharing["b"], sharing["d"]) == ("2", "2", "1")


def test_what_is_complete_is_not_made_again(tmp_path: Path) -> None:
    for part in ("a", "c"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "done").touch()
    assert run(tmp_path, DIAMOND, jobs=2) == ["begin b", "end b", "begin d", "end d"]


def test_a_part_that_fails_is_named_with_its_last_words_and_the_one_beside_it_ends(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"a: failed: it broke; see .*logs/a\.txt"):
        run(tmp_path, DIAMOND, jobs=2, bad="a")
    events = (tmp_path / "events.txt").read_text().splitlines()
    assert "end b" in events and not any(event.endswith((" c", " d")) for event in events)
    run(tmp_path, DIAMOND, jobs=2)  # the same again goes on from there
    assert (tmp_path / "d" / "done").is_file()
    assert (tmp_path / "events.txt").read_text().count("begin b") == 1


def test_the_last_line_of_every_running_part_is_shown(tmp_path: Path) -> None:
    shown: list[str] = []
    run(tmp_path, {"a": [], "b": []}, jobs=2, show=shown.append)
    assert re.fullmatch(r"a: (half of a)?   b: (half of b)?", shown[0])


def test_a_progress_bar_written_over_itself_counts_as_one_line(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("loading\n 10%|#   \r 20%|##  \r")
    assert last_line(log) == "20%|##"
    log.write_text("")
    assert last_line(log) == ""


def test_the_nanos_llm_learns_beside_its_ears_and_the_longest_chain_is_begun_first() -> None:
    needs = {
        part: [need for need in needed if need != "data"] for part, needed in NANO.needs.items()
    }
    assert ready(needs, [], []) == ["letters", "lm"]
    assert ready(needs, ["letters"], ["lm"]) == ["encoder"]
    heard = ["letters", "lm", "encoder"]
    assert ready(needs, heard, []) == ["units", "stage1"]
    assert ready(needs, [*heard, "units"], ["stage1"]) == ["vocoder"]
