"""Questions to an engine, and what it delivers: shared by the tests of conversations on one."""

import threading
from queue import Queue

from omni.engine import EngineEvent, EngineSession, Exchange, Recording
from omni.session import Done, SessionConfig
from tests.tiny import question

LONG = SessionConfig(max_new_tokens=60)
WAIT_S = 60


class Heard:
    """What an engine delivers, taken up to the end of the reply."""

    def __init__(self) -> None:
        self.queue: Queue[EngineEvent] = Queue()

    def next(self) -> EngineEvent:
        return self.queue.get(timeout=WAIT_S)

    def events(self) -> list[EngineEvent]:
        found = [self.next()]
        while not isinstance(found[-1], (Done, Exception)):
            found.append(self.next())
        return found

    def done(self) -> Done:
        last = self.events()[-1]
        assert isinstance(last, Done), last
        return last


def ask(talk: EngineSession, asked: str | Recording, past: tuple[Exchange, ...] = ()) -> Heard:
    heard = Heard()
    if isinstance(asked, Recording) and asked.samples is not None:
        talk.push_audio(asked.samples)
    talk.run(heard.queue.put, asked, past)
    return heard


def wait(hold: threading.Event) -> None:
    assert hold.wait(WAIT_S)


def spoken(seed: int = 0) -> Recording:
    return Recording(question(seed=seed))
