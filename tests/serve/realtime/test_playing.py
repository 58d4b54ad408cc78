"""What a client has left to play of an answer is reckoned from what it was sent, and told on."""

import base64
from collections.abc import Iterator

import pytest
import torch

from omni.engine import Engine
from serve.realtime.listener import Listener
from tests.realtime import Desk, of
from tests.talk import SHORT, model, processor

torch.set_num_threads(1)
Told = list[tuple[float, float]]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(model(), processor(), max_sessions=1) as engine:
        yield engine


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found: Told = []
    original = Desk.__init__

    def spied(desk: Desk, *arguments: object, **options: object) -> None:
        original(desk, *arguments, **options)  # pyright: ignore[reportArgumentType]
        tell = desk.engine.tell_buffered

        def spy(left: float, received: float) -> None:
            found.append((left, received))
            tell(left, received)

        monkeypatch.setattr(desk.engine, "tell_buffered", spy)

    monkeypatch.setattr(Desk, "__init__", spied)
    return found


def test_what_was_sent_is_played_one_after_the_other_and_from_when_it_comes() -> None:
    listener = Listener()
    assert listener.sent(0.5, now=10.0) == pytest.approx(0.5)
    assert listener.sent(0.5, now=10.2) == pytest.approx(0.8)
    assert listener.sent(0.1, now=20.0) == pytest.approx(0.1)  # it ran dry meanwhile
    assert listener.sent_s == pytest.approx(1.1)


def test_the_model_is_told_of_all_sound_that_goes_out_and_anew_for_each_answer(
    engine: Engine, told: Told
) -> None:
    desk = Desk(engine, SHORT)
    for _ in range(2):
        told.clear()
        desk.write("What is two and two?")
        deltas = of(desk.answer(), "response.output_audio.delta")
        seconds = [len(base64.b64decode(delta["delta"])) / 2 / 24_000 for delta in deltas]
        # The last piece may go out when the answer has been made.
        assert 0 < len(told) <= len(seconds)
        received = [so_far for _, so_far in told]
        assert received == pytest.approx([sum(seconds[: n + 1]) for n in range(len(told))])
        assert told[0][0] == pytest.approx(seconds[0])
        assert all(0 < left <= so_far + 1e-6 for left, so_far in told)
    desk.talk.close()
