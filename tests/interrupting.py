"""Seeded chaos: answers that are interrupted at whatever moment, and what must hold of each.

A client writes or speaks, and speaks up again: before the answer begins, while it is made, after
its end; it cancels, truncates and takes its events late. Whatever it does, nothing of an answer may
be sent to it after the `speech_started` that ended it.
"""

import random
from dataclasses import dataclass, field
from queue import Empty

import numpy as np

from omni.engine import Engine
from omni.session import SessionConfig
from tests.realtime import Desk, Event, silence
from tests.tiny import question

STARTED = "input_audio_buffer.speech_started"
LONG = SessionConfig(max_new_tokens=40)
VOICE, QUIET = question(0.4), silence(0.6)


@dataclass
class Watch:
    """Counts what was interrupted, and remembers whatever came of an answer after that."""

    interruptions: int = 0
    running: str | None = None  # the answer that a voice would interrupt
    over: set[str] = field(default_factory=set)
    late: list[Event] = field(default_factory=list)

    def see(self, events: list[Event]) -> None:
        """Events in the order in which they went out."""
        for event in events:
            if event["type"] == STARTED:
                if self.running is not None:
                    self.interruptions += 1
                    self.over.add(self.running)
            elif event["type"] == "response.created":
                self.running = event["response"]["id"]
            elif event["type"] == "response.done":
                self.running = None
            elif event["type"].endswith(".delta") and event["response_id"] in self.over:
                self.late.append(event)


def interrupt_often(engine: Engine, interruptions: int, seed: int) -> Watch:
    """Sessions one after the other, each of which is interrupted some ten times, until so many
    answers have been."""
    chance, watch = random.Random(seed), Watch()
    while watch.interruptions < interruptions:
        desk = Desk(engine, LONG)
        try:
            for _ in range(chance.randrange(5, 15)):
                _disturb(desk, watch, chance)
        finally:
            desk.talk.close()
        watch.running = None
    return watch


def _disturb(desk: Desk, watch: Watch, chance: random.Random) -> None:
    """An answer is asked for, and somebody speaks up while it is made, or a little later."""
    if watch.running is None:
        if chance.random() < 0.5:
            watch.see(desk.write("What is two and two?"))
            watch.see(desk.send("response.create"))
        else:
            _say(desk, watch, np.concatenate([VOICE, QUIET]), chance)
    _let_go_on(desk, watch, chance.randrange(0, 25), chance)
    if chance.random() < 0.1:
        watch.see(desk.send("response.cancel"))
    sound = np.concatenate([silence(chance.choice([0.0, 0.1])), VOICE])
    _say(desk, watch, sound, chance)
    _let_go_on(desk, watch, chance.randrange(0, 10), chance)
    if chance.random() < 0.8:
        _say(desk, watch, QUIET, chance)  # the turn ends, and is answered


def _say(desk: Desk, watch: Watch, sound: np.ndarray, chance: random.Random) -> None:
    """In pieces of a client's own, between which the engine goes on."""
    for piece in np.array_split(sound, chance.randrange(1, 6)):
        watch.see(desk.say(piece, piece=chance.choice([120, 480, 2400, 48_000])))
        _let_go_on(desk, watch, chance.randrange(0, 3), chance)


def _let_go_on(desk: Desk, watch: Watch, steps: int, chance: random.Random) -> None:
    """Take what the engine has posted, so many times, if it has something."""
    for _ in range(steps):
        try:
            desk.pump(wait_s=0.02 if watch.running else 0.0)
        except Empty:
            return
        if chance.random() < 0.7:  # else the client takes them later
            watch.see(desk.events())
