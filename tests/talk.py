"""Sessions over one tiny model, and how they answer: shared by the tests of conversations."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.session import SessionConfig, SpeechSession, Stepper
from omni.session.events import Done, Event
from omni.session.turn import Turn
from omni.vocoder.chunking import parse_schedule
from tests.tiny import question, tiny_config, tiny_model, tiny_processor

SHORT = SessionConfig(max_new_tokens=10)
CHOPPED = replace(SHORT, schedule=parse_schedule("1"), right_context_frames=0)
FIRST, SECOND = "What is two and two?", "How warm is it?"


def model(vocoder: str = "nsf", block_frames: int | None = None) -> OmniForConditionalGeneration:
    """Shared: sessions keep their own state."""
    return _model(vocoder, block_frames)


@cache
def _model(vocoder: str, block_frames: int | None) -> OmniForConditionalGeneration:
    return tiny_model(vocoder=vocoder, block_frames=block_frames)


@cache
def processor(block_frames: int | None = None) -> OmniProcessor:
    return tiny_processor(tiny_config(block_frames=block_frames))


def session(
    config: SessionConfig = SHORT, block_frames: int | None = None, **kwargs
) -> SpeechSession:
    """block_frames: of an encoder that hears in blocks."""
    parts = model(block_frames=block_frames), processor(block_frames)
    return SpeechSession(*parts, config, **kwargs)


def answer(talk: SpeechSession, asked: np.ndarray | str) -> tuple[list[Event], Done]:
    events = list(talk.ask(asked))
    assert isinstance(events[-1], Done)
    return events, events[-1]


def push(talk: SpeechSession, samples: np.ndarray, pieces: list[int]) -> None:
    """All of the samples, in pieces of these sizes and a last one with the rest."""
    for piece in np.split(samples, np.minimum(np.cumsum(pieces), len(samples))):
        talk.push_audio(piece)


def fresh_second_turn(
    talk: SpeechSession, asked: np.ndarray | str, block_frames: int | None = None
) -> Done:
    """The answer of a session that has the same history and no cache."""
    scratch = session(block_frames=block_frames)
    scratch.history, scratch._heard = list(talk.history), list(talk._heard)
    return answer(scratch, asked)[1]


class Counted:
    """Counts the positions that the language model is fed."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, of: OmniForConditionalGeneration | None = None
    ) -> None:
        self.fed: list[int] = []
        language_model = (of or model()).language_model
        forward = language_model.forward

        def counting(*args, **kwargs):
            self.fed.append(kwargs["inputs_embeds"].shape[1])
            return forward(*args, **kwargs)

        monkeypatch.setattr(language_model, "forward", counting)


# Questions that are refused, and what is said of them.
BAD = {
    "silence": (np.zeros(16_000, np.float32), "of silence"),
    "too long": (question(10.5), "at most 10 s"),
    "too short": (question(0.05), "at least 1600"),
    "nan": (np.full(16_000, np.nan, np.float32), "NaN"),
    "control token": ("say <speech>", "holds <speech>"),
    "too much text": ("word " * 600, "the language model has 512; ask"),
}


@cache
def alone(asked: str) -> Done:
    """What a session that is asked nothing else answers."""
    return answer(session(), asked)[1]


def texts(talk: SpeechSession) -> list[str]:
    return [message.text for message in talk.history]


def end_of(events: list[Event]) -> Done:
    done = events[-1]
    assert isinstance(done, Done)
    return done


def step(turn: Turn, block_frames: int | None = None) -> list[Event]:
    """One step, as an engine makes it; no events when the reply has ended. Raises what failed."""
    events: list[Event] = []
    for _, event in Stepper(model(block_frames=block_frames)).step([turn.reply]):
        if isinstance(event, Exception):
            raise event
        events.append(event)
    return events
