"""What the server offers beside the protocol, to sessions that ask for it and to no other."""

from collections.abc import Iterator

import pytest
import torch

from omni.engine import Begun, Engine
from omni.session import SessionConfig, Timings
from serve.realtime.timing import StageWatch
from tests.realtime import Desk, Event, of, only, silence, types
from tests.tiny import question

torch.set_num_threads(1)
ASKED = "What is two and two?"
LONG = SessionConfig(max_new_tokens=80)


@pytest.fixture
def desk(engine: Engine) -> Iterator[Desk]:
    desk = Desk(engine, LONG)
    yield desk
    desk.talk.close()


def chunks(events: list[Event]) -> int:
    """Runs of sound between which text came."""
    return sum(name == "response.output_audio.delta" for name in types(events))


def test_who_does_not_ask_never_sees_any_of_it(desk: Desk) -> None:
    desk.write(ASKED)
    assert not of(desk.answer(), "omni.timings")
    assert "omni" not in desk.update(instructions="Be kind.")["session"]


@pytest.mark.parametrize(
    ("given", "told"), [("auto", "auto"), (20, "20"), ("10, 40", "10,40"), (None, None)]
)
def test_the_chunk_size_of_a_session_is_told_back(
    desk: Desk, given: object, told: str | None
) -> None:
    session = desk.update(omni={"chunk_size": given})["session"]
    assert session["omni"] == {
        "chunk_size": told, "timings": False, "false_interruption_ms": 250,
    }  # fmt: skip
    assert desk.update(omni={"timings": True})["session"]["omni"]["chunk_size"] == told
    assert "omni" not in desk.update(omni=None)["session"]


@pytest.mark.parametrize("given", ["often", 0, -5, True, [10], "1" * 200, 2.5])
def test_a_chunk_size_that_cannot_be_is_refused_by_name(desk: Desk, given: object) -> None:
    before = desk.update(omni={"chunk_size": 10})["session"]
    error = desk.update(omni={"chunk_size": given})["error"]
    assert error["param"] == "session.omni.chunk_size"
    assert desk.update()["session"] == before


def test_the_chunk_size_decides_how_sound_comes(desk: Desk) -> None:
    found = {}
    for size in ("all", "10"):
        desk.update(omni={"chunk_size": size})
        desk.write(ASKED)
        found[size] = desk.answer()
    assert chunks(found["all"]) == 1 < chunks(found["10"])


def test_the_stages_of_an_answer_are_told_before_it_is_done(desk: Desk) -> None:
    desk.update(omni={"timings": True})
    desk.write(ASKED)
    events = desk.answer()
    told = only(events, "omni.timings")
    assert events[-1]["response"]["id"] == told["response_id"]
    assert 0 < told["encode_ms"] + told["prefill_ms"] == pytest.approx(told["first_token_ms"])
    assert told["first_token_ms"] < told["first_unit_ms"] < told["first_audio_ms"]
    assert told["first_audio_ms"] < told["total_ms"] and told["audio_ms"] > 0
    assert told["queue_ms"] >= 0 and told["silence_ms"] is None


def test_a_turn_that_silence_has_ended_tells_how_long_that_was(desk: Desk) -> None:
    detection = {"type": "server_vad", "silence_duration_ms": 300}
    desk.update(audio={"input": {"turn_detection": detection}}, omni={"timings": True})
    desk.say(question())
    desk.say(silence(0.5))
    told = only(desk.until("response.done"), "omni.timings")
    assert 300 <= told["silence_ms"] < 300 + 2 * 32  # it is judged in frames of 32 ms


def test_an_answer_that_was_cancelled_has_its_stages_too(desk: Desk) -> None:
    desk.update(omni={"timings": True})
    desk.write(ASKED)
    desk.send("response.create")
    done = desk.until("response.output_item.added") + desk.send("response.cancel")
    cancelled = only(done, "response.done")["response"]
    assert cancelled["status"] == "cancelled"
    told = only(desk.until("omni.timings"), "omni.timings")
    assert told["response_id"] == cancelled["id"]


def test_waiting_for_the_model_is_no_encoding() -> None:
    clock = iter([10.0, 10.25])
    watch = StageWatch(500, now=lambda: next(clock))
    watch.see(Begun(positions=5, spoken=3, cached=0))
    timings = Timings(
        encode_ms=50.0, prefill_ms=20.0, first_token_ms=70.0, first_unit_ms=80.0,
        first_audio_ms=90.0, total_ms=100.0, audio_ms=200.0, real_time_factor=0.5,
    )  # fmt: skip
    told = watch.timings("resp_1", timings)
    assert (told.silence_ms, told.queue_ms, told.encode_ms) == (500, 200.0, 50.0)
