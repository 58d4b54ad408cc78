"""Many conversations on one thread: each answers as if alone, and what befalls one befalls it."""

import random
import threading
import time
from dataclasses import replace

import pytest
import torch

from omni.engine import Begun, Engine, EngineEvent
from omni.engine.urgency import STEP_SECONDS, Standing, StepCosts
from omni.session import Done, TextDelta
from tests.engines import LONG, WAIT_S, Heard, ask, spoken, wait
from tests.talk import FIRST, SECOND, SHORT, answer, model, processor, session
from tests.tiny import question

torch.set_num_threads(1)
WRITTEN = replace(SHORT, speak=False)  # nobody's player can run dry: all step together


def test_sessions_that_run_together_answer_as_each_alone(engine: Engine) -> None:
    asked = [FIRST, SECOND, spoken()]
    expected = [answer(session(), a if isinstance(a, str) else question())[1] for a in asked]
    heard = [ask(engine.open(SHORT), a) for a in asked]
    assert [h.done().token_ids for h in heard] == [e.token_ids for e in expected]


def test_replies_go_forward_by_turns(engine: Engine) -> None:
    order: list[str] = []
    ends = [threading.Event(), threading.Event()]

    def listen(name: str, end: threading.Event, event: EngineEvent) -> None:
        order.extend([name] if isinstance(event, TextDelta) else [])
        if isinstance(event, Done):
            end.set()

    talks = [engine.open(WRITTEN), engine.open(WRITTEN)]
    hold = threading.Event()
    engine.post(lambda: wait(hold))  # both begin before the first step
    for name, talk, end in zip("ab", talks, ends, strict=True):
        talk.run(lambda event, name=name, end=end: listen(name, end, event), FIRST)
    hold.set()
    assert all(end.wait(WAIT_S) for end in ends)
    assert order == [*"ab"] * (len(order) // 2)


def test_a_paused_reply_waits_while_others_go_on(engine: Engine) -> None:
    talk, other, heard = engine.open(LONG), engine.open(LONG), Heard()

    def listen(event: EngineEvent) -> None:
        heard.queue.put(event)
        if isinstance(event, Begun):
            talk.pause()

    talk.run(listen, FIRST)
    assert isinstance(heard.next(), Begun)
    ask(other, SECOND).done()
    assert heard.queue.empty()
    talk.resume()
    assert heard.done().token_ids == answer(session(LONG), FIRST)[1].token_ids


def test_a_failure_is_told_to_its_own_reply_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = model().language_model.forward
    expected = answer(session(), SECOND)[1]
    calls: list[int] = []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError("no more")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model().language_model, "forward", failing)
    failed, other = ask(engine.open(SHORT), FIRST), ask(engine.open(SHORT), SECOND)
    assert isinstance(failed.events()[-1], MemoryError)
    assert other.done().token_ids == expected.token_ids


def test_a_listener_that_fails_hurts_no_other(engine: Engine) -> None:
    def broken(event: EngineEvent) -> None:
        raise OSError("gone")

    talk = engine.open(LONG)
    talk.run(broken, FIRST)
    assert ask(engine.open(SHORT), SECOND).done().reason in ("end", "length")


def test_all_that_run_go_forward_in_one_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, sizes = model().language_model.forward, list[int]()

    def counted(*args, **kwargs):
        batch, length, _ = kwargs["inputs_embeds"].shape
        sizes.extend([batch] if length == 1 else [])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model().language_model, "forward", counted)
    with Engine(model(), processor(), max_sessions=16) as many:
        hold = threading.Event()
        many.post(lambda: wait(hold))  # all begin before the first step
        asked = [f"{FIRST} {number}" for number in range(16)]
        heard = [ask(many.open(WRITTEN), text) for text in asked]
        hold.set()
        said = [one.done().token_ids for one in heard]
        assert many.one_by_one is None
    longest = max(len(ids) for ids in said)
    assert max(sizes) == 16 and len(sizes) <= longest + 2
    monkeypatch.undo()
    assert said == [answer(session(), text)[1].token_ids for text in asked]


def test_work_that_comes_all_at_once_makes_no_gap_in_anothers_answer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Standing, "runs_dry", property(lambda standing: True))
    order: list[str] = []
    end = threading.Event()

    def piece() -> None:
        time.sleep(1.2 * STEP_SECONDS)
        order.append("piece")

    def listen(event: EngineEvent) -> None:
        if isinstance(event, TextDelta):
            if "token" not in order:
                for _ in range(4):
                    engine.post(piece)
            order.append("token")
        if isinstance(event, Done):
            end.set()

    engine.open(LONG).run(listen, FIRST)
    assert end.wait(WAIT_S)
    assert order[:9] == ["token", *["piece", "token"] * 4]


@pytest.mark.parametrize("seed", range(3))
def test_whoever_pauses_cancels_or_goes_changes_nothing_for_the_others(seed: int) -> None:
    rng = random.Random(seed)
    asked = [f"{FIRST} {number}" for number in range(6)]
    expected = {text: answer(session(LONG), text)[1].token_ids for text in asked}
    with Engine(model(), processor(), max_sessions=6) as many:
        talks, ends = [many.open(LONG) for _ in asked], [Heard() for _ in asked]

        def listen(place: int, event: EngineEvent) -> None:
            if isinstance(event, (Done, Exception)):
                ends[place].queue.put(event)
            other = talks[rng.randrange(6)]
            rng.choice([other.pause, other.resume, other.resume, lambda: None])()
            if place == 5 and rng.random() < 0.1:
                talks[5].close()

        for place, (talk, text) in enumerate(zip(talks, asked, strict=True)):
            talk.run(lambda event, place=place: listen(place, event), text)
        left = {*range(6)}
        while left:
            for talk in talks:  # whoever paused goes on at last
                talk.resume()
            for place in [*left]:
                if not ends[place].queue.empty():
                    done, text = ends[place].done(), asked[place]
                    left.discard(place)
                    if done.reason == "cancelled":
                        assert place == 5
                    else:
                        assert done.token_ids == expected[text]
            threading.Event().wait(0.01)


@pytest.mark.parametrize("most", [1, 2])
def test_replies_that_take_turns_say_what_they_say_together(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(StepCosts, "most", lambda _: most)
    asked = [f"{FIRST} {number}" for number in range(5)]
    expected = [answer(session(), text)[1] for text in asked]
    with Engine(model(), processor(), max_sessions=5) as many:
        heard = [ask(many.open(SHORT), text) for text in asked]
        said = [one.done() for one in heard]
    assert [done.token_ids for done in said] == [done.token_ids for done in expected]
    assert [done.units for done in said] == [done.units for done in expected]
