"""A replica is killed: who talks to the other goes on, and it is told what they noticed."""

import pytest
from typer.testing import CliRunner

from omni.files import UserError
from serve.bench.failover import Round, p95_of, summary
from serve.bench.load import Session, Turn
from serve.cli import app


def turn(first_audio_s: float, failure: str | None = None) -> Turn:
    return Turn(
        text="hm", first_audio_s=first_audio_s, underruns=1, silent_s=0.1, late_s=0.0,
        failure=failure,
    )  # fmt: skip


def test_sessions_told_of_the_restart_are_not_lost_and_others_are() -> None:
    told = Session([turn(9.0)], "dropped", "close code 1012 restarting")
    cut = Session([], "dropped", "close code 1006 ")
    failed = Session([turn(0.4, "server_error")])
    whole = Session([turn(0.3), turn(0.5)])
    found = Round(sessions=[told, cut, failed, whole], killed=True, load=0.5)
    assert found.told == 1
    assert found.lost == ["close code 1006 ", "server_error"]
    assert found.first_audio_ms == [400.0, 300.0, 500.0]
    undisturbed = Round(sessions=[whole], killed=False, load=0.4)
    heading, without, with_ = summary([undisturbed, found])
    assert dict(zip(heading, without, strict=True))["told by 1012"] == "0"
    line = dict(zip(heading, with_, strict=True))
    assert line["lost"] == "2" and line["first audio p50, ms"] == "400"
    assert line["underruns"] == "3"


def test_too_few_answers_are_not_taken_for_a_measurement() -> None:
    with pytest.raises(UserError, match="1 answers: too few"):
        p95_of([1.0])


def test_the_other_replicas_clients_are_answered_while_one_is_killed() -> None:
    options = ["--sessions", "2", "--turns", "2", "--rounds", "1", "--kill-after", "2"]
    result = CliRunner().invoke(app, ["bench", "failover", *options, "--threads", "1"])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    rows = {line[0]: line for line in lines if line and line[0] in ("no", "yes")}
    assert rows["no"][1:5] == ["2", "0", "0", "4"]
    assert rows["yes"][1:5] == ["2", "1", "0", "2"]
    assert "with a replica killed" in result.stdout
