"""The benchmark of many sessions: the whole command at its smallest size."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from omni.files import UserError
from serve.bench.sessions.command import counts_of
from serve.cli import app

COMMAND = [
    "bench", "sessions", "--size", "tiny", "--device", "cpu", "--repeats", "1", "--tokens", "5",
]  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    path: Path = tmp_path_factory.mktemp("sessions") / "report.json"
    options = ["--sessions", "1,3", "--threads", str(torch.get_num_threads())]
    result = CliRunner().invoke(
        app, [*COMMAND, *options, "--json", str(path)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text()), result.stdout


def test_every_work_is_measured_with_every_number_of_sessions(
    found: tuple[dict[str, Any], str],
) -> None:
    report, output = found
    cases = [(row["work"], row["sessions"]) for row in report["rows"]]
    assert cases == [(work, count) for work in ("text", "units", "sound") for count in (1, 3)]
    for row in report["rows"]:
        rates = row["tokens_per_second"]
        assert [*rates] == ["one", "by_turns", "together"] and min(rates.values()) > 0
        assert row["times_one"] == pytest.approx(rates["together"] / rates["one"])
        assert row["work"] in output
    assert report["machine"]["load_after"] >= 0 and "load" in output


def test_together_needs_the_forwards_of_one(found: tuple[dict[str, Any], str]) -> None:
    for row in found[0]["rows"]:
        forwards = row["llm_forwards"]
        assert forwards["one"] == forwards["together"] == 4
        assert forwards["by_turns"] == 4 * row["sessions"]


def test_all_say_the_same(found: tuple[dict[str, Any], str]) -> None:
    report, _ = found
    assert (report["unlike"], report["compared"]) == (0, 3 * (1 + 3))
    assert report["one_by_one"] is None


@pytest.mark.parametrize("text", ["", "0", "4,-1", "two", "1,,2"])
def test_other_than_numbers_of_sessions_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="whole numbers from 1 on"):
        counts_of(text)
