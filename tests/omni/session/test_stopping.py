"""A reply ends at texts that its caller names, and nothing of them is shown."""

from dataclasses import replace

import pytest

from omni.session import AudioDelta, TextDelta
from omni.session.config import SessionConfig
from omni.session.stopping import before_stop, certain
from tests.talk import SHORT, answer, session
from tests.tiny import question


def test_text_ends_before_the_first_stop() -> None:
    assert before_stop("one two three", ["three", "two"]) == "one "
    assert before_stop("one two three", ["four"]) is None
    assert before_stop("one", []) is None


def test_what_may_become_a_stop_is_held_back() -> None:
    assert certain("so be", ["END", "bed"]) == "so "
    assert certain("so be it", ["END", "bed"]) == "so be it"
    assert certain("aab", ["ab!", "b!"]) == "a"
    assert certain("text", []) == "text"


def test_an_empty_stop_is_refused() -> None:
    with pytest.raises(ValueError, match="empty text"):
        SessionConfig(stop=("",))


def test_a_reply_ends_where_it_would_have_said_the_stop_and_has_its_sound() -> None:
    config = replace(SHORT, max_new_tokens=24)
    _, free = answer(session(config), question())
    stop = free.text[len(free.text) // 2 :][:3]
    assert len(stop) == 3
    events, done = answer(session(replace(config, stop=(stop, "never said"))), question())
    assert done.reason == "end"
    assert done.text == free.text[: free.text.index(stop)]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == done.text
    assert done.units == free.units[: len(done.units)] and len(done.units) < len(free.units)
    spoken = sum(event.units for event in events if isinstance(event, AudioDelta))
    assert spoken == len(done.units)


def test_a_stop_that_never_comes_changes_nothing() -> None:
    _, free = answer(session(), question())
    events, done = answer(session(replace(SHORT, stop=(free.text[-1] + "\0",))), question())
    assert (done.text, done.token_ids, done.units) == (free.text, free.token_ids, free.units)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == free.text
