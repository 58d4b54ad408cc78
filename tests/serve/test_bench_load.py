"""Many clients at once: what they hear, what they are refused, and what of it is told."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
import torch

from omni.engine import Engine
from omni.files import UserError
from serve.bench.load.client import Client, Session, Spoken, Turn
from serve.bench.load.own_server import own_server
from serve.bench.load.playout import Playout
from serve.bench.load.report import Report, Row, Run, Watched
from serve.bench.load.running import Load
from serve.bench.metrics_page import metrics_at
from serve.web import ServeSettings
from serve.web.app import create_app
from tests.realtime import loud, model_info, served
from tests.talk import SHORT, model, processor
from tests.tiny import question

torch.set_num_threads(1)
PLACES = 3
QUESTIONS = [question(0.4, seed) for seed in range(2)]
NOW = Watched(load=0.5)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Engine(model(), processor(), max_sessions=PLACES) as engine:
        app = create_app(ServeSettings(), engine, model_info(SHORT), make_voice=lambda: loud)
        with served(app) as port:
            yield f"ws://127.0.0.1:{port}/v1/realtime"


def playout(buffer_s: float = 0.0, jitter_s: float = 0.0, seed: int = 0) -> Playout:
    return Playout(buffer_s, jitter_s, Random(seed))


def load(url: str, **options: object) -> Load:
    values = {"turns": 2, "jitter_ms": 20.0, "buffer_ms": 60.0, "manual": True} | options
    return Load(url=url, questions=QUESTIONS, **values)  # pyright: ignore[reportArgumentType]


def test_sound_that_comes_in_time_leaves_no_gap() -> None:
    listener = playout()
    for at in (0.0, 0.1, 0.29):
        listener.arrive(at, 0.1)
    assert listener.underruns == 1 and listener.silent_s == pytest.approx(0.09)
    assert listener.ends == pytest.approx(0.39)


def test_a_buffer_covers_what_comes_late() -> None:
    listener = playout(buffer_s=0.1)
    for at in (0.0, 0.1, 0.29):
        listener.arrive(at, 0.1)
    assert listener.underruns == 0 and listener.ends == pytest.approx(0.4)


def test_jitter_is_the_same_for_the_same_seed_and_never_reorders() -> None:
    def ends(seed: int) -> list[float]:
        listener, found = playout(jitter_s=0.5, seed=seed), []
        for at in (0.0, 0.01, 0.02, 0.03):
            listener.arrive(at, 0.001)
            found.append(listener.ends)
        return found

    assert ends(1) == ends(1) != ends(2)
    assert ends(1) == sorted(ends(1))


@pytest.mark.parametrize("manual", [True, False])
def test_clients_at_once_are_answered_as_each_is_alone(url: str, manual: bool) -> None:
    report = load(url, manual=manual, turns=2 if manual else 1).measure([2])
    (row,) = report.rows
    asked = 4 if manual else 2
    assert (row.turns, row.failed, row.refused, row.dropped) == (asked, 0, 0, 0)
    assert (row.compared, row.unlike) == (asked, 0)
    assert row.first_audio_ms["p50"] <= row.first_audio_ms["p99"]
    assert row.first_audio_ms["p50"] > (0 if manual else 500)  # the silence is waited for


def test_more_clients_than_places_are_refused_and_the_others_served(url: str) -> None:
    (row,) = load(url).measure([PLACES + 1]).rows
    assert (row.refused, row.dropped, row.turns) == (1, 0, 2 * PLACES)
    assert row.reasons == {"server_full": 1}


def test_where_no_server_is_nothing_is_measured() -> None:
    with pytest.raises(UserError, match="a client alone is refused"):
        load("ws://127.0.0.1:9/v1/realtime").measure([1])


def test_an_answer_that_does_not_come_drops_the_session(url: str) -> None:
    client = Client(url=url, api_key=None, manual=False, playout=playout, answer_s=1.0)
    unheard = Spoken.of(0 * QUESTIONS[0], manual=False)
    session = asyncio.run(client.converse([unheard]))
    assert (session.end, session.why) == ("dropped", "no answer within 1 s")


class Hasty:
    """A server that takes a pause for the end, and has answered before more is sent."""

    def __init__(self, goes_on: bool) -> None:
        self._says = {5: ("speech_started", ""), 10: ("answer", "early")}  # after as many frames
        if goes_on:
            self._says |= {20: ("speech_started", ""), 70: ("answer", "Paris")}
        self._events: asyncio.Queue[str] = asyncio.Queue()
        self._frames = 0

    async def send(self, _: str) -> None:
        self._frames += 1
        kind, text = self._says.get(self._frames, ("", ""))
        if kind == "speech_started":
            self._tell(type="input_audio_buffer.speech_started")
        elif kind == "answer":
            self._tell(type="response.output_audio_transcript.delta", delta=text)
            self._tell(type="response.output_audio.delta", delta="A" * 320)
            self._tell(
                type="response.done", response={"status": "completed", "status_details": None}
            )

    async def recv(self) -> str:
        return await self._events.get()

    def _tell(self, **event: object) -> None:
        self._events.put_nowait(json.dumps(event))


@pytest.mark.parametrize(("goes_on", "text"), [(True, "Paris"), (False, "early")])
def test_an_answer_inside_a_question_is_not_its_answer(
    monkeypatch: pytest.MonkeyPatch, goes_on: bool, text: str
) -> None:
    @asynccontextmanager
    async def hasty(*_: object, **__: object) -> AsyncGenerator[Hasty]:
        yield Hasty(goes_on)

    async def at_once(*_: object) -> None:
        """Its session is as it should be."""

    monkeypatch.setattr("websockets.asyncio.client.connect", hasty)
    monkeypatch.setattr(Client, "_begin", at_once)
    client = Client(url="", api_key=None, manual=False, playout=playout, answer_s=10)
    asked = Spoken.of(question(0.8 if goes_on else 0.1, 0), manual=False)
    (turn,) = asyncio.run(client.converse([asked])).turns
    assert turn.text == text and turn.first_audio_s is not None and turn.first_audio_s > 0


def test_a_question_that_cannot_be_heard_is_a_failed_turn_and_the_next_is_asked(url: str) -> None:
    client = Client(url=url, api_key=None, manual=True, playout=playout, in_real_time=False)
    asked = [Spoken.of(samples, manual=True) for samples in (0 * QUESTIONS[0], QUESTIONS[0])]
    session = asyncio.run(client.converse(asked))
    assert [turn.failure for turn in session.turns] == ["question_refused", None]
    assert session.end == "finished"


def turn(text: str, failure: str | None = None) -> Turn:
    return Turn(
        text=text, first_audio_s=0.1, underruns=1, silent_s=0.2, late_s=0.0, failure=failure
    )


def test_answers_in_other_words_are_counted_and_failed_ones_are_not_compared() -> None:
    beside = Session([turn("one"), turn("three"), turn("", "response_failed")])
    alone = Session([turn("one"), turn("two"), turn("three")])
    row = Row.of([Run(sessions=[beside], alone=[alone], before=NOW, after=NOW)])
    assert (row.compared, row.unlike, row.failed) == (2, 1, 1)
    assert (row.underruns, row.silent_ms) == (3, pytest.approx(600))
    report = Report(
        url="", turns=3, jitter_ms=0, buffer_ms=0, manual=True, seed=0, rounds=1, cores=1,
        rows=[row],
    )  # fmt: skip
    heading, line = report.cells()
    assert len(heading) == len(line)
    assert dict(zip(heading, line, strict=True))["unlike"] == "1 of 2"
    assert report.as_json()["rows"][0]["reasons"] == {"response_failed": 1}


def test_schedules_take_turns_and_a_row_tells_what_each_cost(url: str) -> None:
    orders: list[str | None] = []

    class Watching(Load):
        async def _run(self, client: Client, spoken: Sequence[Spoken], count: int) -> Run:
            orders.append(client.chunk_units)
            return await super()._run(client, spoken, count)

    measured = Watching(
        url=url, questions=QUESTIONS, turns=2, jitter_ms=0.0, buffer_ms=60.0, manual=True,
        schedules=["2", "all"], rounds=2, read=metrics_at(url),
    ).measure([2])  # fmt: skip
    assert orders == ["2", "all", "2", "all"]
    small, whole = measured.rows
    assert (small.chunk_units, whole.chunk_units) == ("2", "all")
    assert (small.turns, whole.turns, small.unlike, whole.unlike) == (8, 8, 0, 0)
    assert small.vocoder_calls_per_s is not None and whole.vocoder_calls_per_s is not None
    assert small.vocoder_calls_per_s > 2 * whole.vocoder_calls_per_s > 0
    assert small.real_time_factor["p50"] > 0
    heading, line, _ = measured.cells()
    assert dict(zip(heading, line, strict=True))["chunks"] == "2"


def test_who_asks_for_no_chunks_sends_nothing_beside_the_protocol(url: str) -> None:
    (row,) = load(url).measure([1]).rows
    assert row.chunk_units is None and row.vocoder_calls_per_s is None and not row.real_time_factor
    assert "chunks" not in load(url).measure([1]).cells()[0]


def test_calls_are_counted_per_second_of_the_sound_of_all_runs() -> None:
    def run(chunks: float, sound_s: float) -> Run:
        after = Watched(load=0.5, chunks=5 + chunks, sound_s=7 + sound_s)
        before = Watched(load=0.5, chunks=5.0, sound_s=7.0)
        return Run(sessions=[Session()], alone=[Session()], before=before, after=after)

    assert Row.of([run(4, 2), run(2, 1)]).vocoder_calls_per_s == pytest.approx(2)
    assert Row.of([run(0, 0)]).vocoder_calls_per_s is None


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(UserError, match="max_sessions=0"), own_server(["--max-sessions", "0"]):
        pass
