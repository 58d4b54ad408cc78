"""The protocol without a model: the whole command, the engine's stand-in, and what is counted."""

import asyncio
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any, cast

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from omni.engine import Begun, Engine, EngineEvent, EngineSession, Recording
from omni.session import AudioDelta, Done, TextDelta
from serve.bench.protocol.client import NO_ANSWER, Cycle, Found, ProtocolClient
from serve.bench.protocol.report import HEADING, ProtocolRow
from serve.bench.protocol.serving import known
from serve.bench.protocol.stand_in import StandInEngine, StandInSession, prepared_answer
from serve.cli import app
from serve.web import ServeSettings
from serve.web.app import create_app
from tests.realtime import loud, served
from tests.tiny import question

torch.set_num_threads(1)
WAIT_S = 20
ANSWER = prepared_answer(0.4)


@pytest.fixture
def engine() -> Iterator[StandInEngine]:
    with StandInEngine(ANSWER, max_sessions=2) as engine:
        yield engine


def test_the_whole_command_measures_with_and_without_voice_activity(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    options = ["--sessions", "2", "--seconds", "5", "--every", "3", "--answer", "0.4"]
    result = CliRunner().invoke(
        app, ["bench", "protocol", *options, "--json", str(path)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    assert [(row["sessions"], row["hears"]) for row in rows] == [(2, False), (2, True)]
    for row in rows:
        assert row["asked"] == row["answered"] >= 2 and row["failed"] == 0
        for measured in ("first_delta_ms", "append_ms", "late_ms"):
            assert 0 <= row[measured]["p50"] <= row[measured]["p95"] <= row[measured]["p99"]
        assert row["server_cpu"] > 0 and row["load_after"] >= 0
        assert row["sessions_per_core"] == pytest.approx(2 / row["server_cpu"])
    assert "load" in result.output


def test_a_question_longer_than_its_cycle_is_refused() -> None:
    result = CliRunner().invoke(app, ["bench", "protocol", "--every", "1"])
    assert result.exit_code == 2 and "the longest question's" in result.output


@pytest.mark.parametrize("kinds", [(StandInEngine, Engine), (StandInSession, EngineSession)])
def test_the_stand_in_can_be_asked_whatever_a_server_asks_an_engine(
    kinds: tuple[type, type],
) -> None:
    stand_in, real = kinds
    of_the_model = {"running", "one_by_one", "compile"}  # which no session or route asks
    for name, member in inspect.getmembers(real):
        if name.startswith("_") or name in of_the_model:
            continue
        ours = getattr(stand_in, name)
        if inspect.isfunction(member) and name not in ("start", "release"):  # sessions' own
            theirs = inspect.signature(member).parameters
            assert [*inspect.signature(ours).parameters] == [*theirs], name


def answers(session: StandInSession) -> Queue[EngineEvent]:
    told: Queue[EngineEvent] = Queue()
    session.run(told.put, "a question")
    return told


def test_every_question_is_answered_by_the_same_events(engine: StandInEngine) -> None:
    session = engine.open()
    for _ in range(2):
        told = answers(session)
        found = [told.get(timeout=WAIT_S) for _ in ANSWER]
        assert [*map(id, found)] == [*map(id, ANSWER)]
    kinds = [type(event) for event in ANSWER]
    assert kinds == [Begun, TextDelta, AudioDelta, TextDelta, AudioDelta, Done]


def test_an_answer_that_is_paused_waits_and_goes_on(engine: StandInEngine) -> None:
    session, told = engine.open(), Queue[EngineEvent]()

    def deliver(event: EngineEvent) -> None:
        told.put(event)
        if isinstance(event, AudioDelta) and event.index == 0:
            session.pause()

    session.run(deliver, "a question")
    before = [told.get(timeout=WAIT_S) for _ in range(3)]
    other = answers(engine.open())  # the other session's comes to its end meanwhile
    assert all(other.get(timeout=WAIT_S) is event for event in ANSWER)
    assert told.empty()
    session.resume()
    assert (*before, *(told.get(timeout=WAIT_S) for _ in range(3))) == ANSWER


def test_a_recording_that_was_heard_needs_its_samples_no_more(engine: StandInEngine) -> None:
    recording, told = Recording(np.zeros(8, np.float32)), Queue[EngineEvent]()
    engine.open().run(told.put, recording)
    told.get(timeout=WAIT_S)
    assert recording.heard is not None


def talk(engine: StandInEngine, cycle: Cycle, seconds: float, position: int = 0) -> Found:
    """What one client finds at a server on that engine, whose ears are sharp."""
    app = create_app(ServeSettings(), cast(Engine, engine), known(), make_voice=lambda: loud)
    with served(app) as port:
        client = ProtocolClient(f"ws://127.0.0.1:{port}/v1/realtime", cycle, True)

        async def alone() -> None:
            await client.talk(asyncio.Barrier(1), seconds, position=position, phase=0.0)

        asyncio.run(alone())
    return client.found


def test_a_client_sends_in_real_time_and_asks_whenever_its_cycle_comes_round(
    engine: StandInEngine,
) -> None:
    cycle = Cycle.of(question(0.3, 0), 0.6)
    assert (cycle.frames, len(cycle.messages)) == (15, 30)
    found = talk(engine, cycle, 2.0)
    assert found.asked == len(found.first_delta) == 3 and not found.failed
    assert len(found.late) == 100 and len(found.append) == 2


def test_a_question_that_began_before_the_start_is_not_asked(engine: StandInEngine) -> None:
    found = talk(engine, Cycle.of(question(0.3, 0), 0.6), 0.7, position=14)
    assert found.asked == 1 and not found.failed


def test_a_question_without_an_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.bench.protocol.client.LAST_WORDS_S", 0.1)
    with StandInEngine(ANSWER[:1], max_sessions=1) as silent:
        found = talk(silent, Cycle.of(question(0.3, 0), 0.6), 1.3)
    assert found.asked == 2 and not found.first_delta
    assert found.failed == [NO_ANSWER, NO_ANSWER]


def test_a_session_that_is_refused_stops_the_others_and_says_why() -> None:
    with StandInEngine(ANSWER, max_sessions=1) as engine:
        engine.open()
        found = talk(engine, Cycle.of(question(0.3, 0), 0.6), 0.6)
    assert found.failed == ["server_full"] and found.asked == 0


def test_a_row_without_a_measurement_has_as_many_cells() -> None:
    from serve.bench.protocol.report import ProtocolReport

    row = ProtocolRow(
        sessions=1, hears=True, asked=0, answered=0, failed=1, reasons=["server_full"],
        first_delta_ms={}, append_ms={}, late_ms={}, server_cpu=0.0, clients_cpu=0.0,
        load_before=0.0, load_after=0.0,
    )  # fmt: skip
    report = ProtocolReport(seconds=1, every_s=1, answer_s=1, cores=1, rows=[row])
    assert len(report.cells()[1]) == len(HEADING)
