"""What a listener has left to play changes when sound comes, and nothing of what is said."""

from dataclasses import replace

import pytest
import torch

from omni.session.events import AudioDelta, Done, Event
from omni.vocoder.chunking import parse_schedule
from tests.talk import SHORT, session, step
from tests.tiny import question

torch.set_num_threads(1)
PACED = replace(SHORT, schedule=parse_schedule("auto:2,8"), right_context_frames=0)


def told(
    seconds: float | None, received: float | None = None, token_s: float = 0.02
) -> tuple[list[int], Done]:
    """The units of each chunk, if the listener says before every token what is left to play.

    token_s: that a token takes, by a clock of our own.
    """
    now = 0.0
    talk = session(PACED, clock=lambda: now)
    talk.push_audio(question())
    turn, events = talk.begin(), list[Event]()
    with torch.inference_mode():
        while turn.reply.next_step_inputs() is not None:
            if seconds is not None:
                turn.reply.tell_buffered(seconds, received)
            now += token_s
            events += step(turn)
        events += turn.reply.finish()
    done = events[-1]
    assert isinstance(done, Done)
    return [event.units for event in events if isinstance(event, AudioDelta)], done


def test_who_has_much_left_to_play_is_sent_larger_chunks_and_told_the_same() -> None:
    full, patient = told(1000.0, token_s=0.005)
    dry, hurried = told(0.0, token_s=0.005)
    assert full[0] == dry[0] == 2
    assert min(full[1:-1]) > max(dry[1:-1])
    assert (patient.units, patient.text) == (hurried.units, hurried.text)
    assert told(None)[1].units == patient.units


def test_the_first_chunk_is_larger_where_tokens_take_longer() -> None:
    assert told(0.0, token_s=0.005)[0][0] < told(0.0, token_s=0.02)[0][0] == 4


def test_what_is_on_its_way_to_the_listener_counts_as_left_to_play() -> None:
    dry, hurried = told(0.0, received=1000.0, token_s=0.005)
    on_its_way, patient = told(0.0, received=0.0, token_s=0.005)
    assert dry == told(0.0, token_s=0.005)[0]
    assert len(on_its_way) < len(dry)
    assert patient.units == hurried.units


@pytest.mark.parametrize("seconds", [-0.5, float("nan")])
def test_less_than_nothing_left_to_play_is_refused(seconds: float) -> None:
    talk = session(PACED)
    talk.push_audio(question())
    with pytest.raises(ValueError, match="must be 0 or more"):
        talk.begin().reply.tell_buffered(seconds)
