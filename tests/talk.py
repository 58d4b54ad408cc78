"""Sessions over one tiny model, and how they answer: shared by the tests of conversations."""

from functools import cache

import numpy as np
import pytest

from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.session import SessionConfig, SpeechSession
from omni.session.events import Done, Event
from tests.tiny import question, tiny_model, tiny_processor

SHORT = SessionConfig(max_new_tokens=10)


@cache
def model(vocoder: str = "nsf") -> OmniForConditionalGeneration:
    """Shared: sessions keep their own state."""
    return tiny_model(vocoder=vocoder)


@cache
def processor() -> OmniProcessor:
    return tiny_processor()


def session(config: SessionConfig = SHORT, **kwargs) -> SpeechSession:
    return SpeechSession(model(), processor(), config, **kwargs)


def answer(talk: SpeechSession, asked: np.ndarray | str) -> tuple[list[Event], Done]:
    events = list(talk.ask(asked))
    assert isinstance(events[-1], Done)
    return events, events[-1]


def fresh_second_turn(talk: SpeechSession, asked: np.ndarray | str) -> Done:
    """The answer of a session that has the same history and no cache."""
    scratch = session()
    scratch.history, scratch._speech = list(talk.history), list(talk._speech)
    return answer(scratch, asked)[1]


class Counted:
    """Counts the positions that the language model is fed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fed: list[int] = []
        forward = model().language_model.forward

        def counting(*args, **kwargs):
            self.fed.append(kwargs["inputs_embeds"].shape[1])
            return forward(*args, **kwargs)

        monkeypatch.setattr(model().language_model, "forward", counting)


# Questions that are refused, and what is said of them.
BAD = {
    "silence": (np.zeros(16_000, np.float32), "of silence"),
    "too long": (question(10.5), "at most 10 s"),
    "too short": (question(0.05), "at least 1600"),
    "nan": (np.full(16_000, np.nan, np.float32), "NaN"),
    "control token": ("say <speech>", "holds <speech>"),
    "too much text": ("word " * 600, "the language model has 512; reset"),
}
