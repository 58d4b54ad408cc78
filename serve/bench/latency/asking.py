"""Our own ways of asking: the question given whole, or spoken and worked on as it comes."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from omni.audio import SAMPLE_RATE
from omni.session import AudioDelta, Done, SessionConfig, SpeechSession, TextDelta
from omni.vocoder import AUTO
from serve.bench.latency.answer import Answer, Asked, Clock
from serve.bench.latency.sizes import Subject

PIECE_MS = 100  # of sound per push, as a client's microphone sends it
PIECE = SAMPLE_RATE * PIECE_MS // 1000


@dataclass(frozen=True)
class Ours:
    """One question to a session of its own, in a process that has answered before."""

    subject: Subject
    clock: Clock

    def session(self, asked: Asked) -> SpeechSession:
        """A conversation that has yet to begin."""
        config = SessionConfig(
            schedule=asked.schedule or AUTO,
            max_new_tokens=asked.tokens,
            speak=asked.schedule is not None,
        )
        return SpeechSession(self.subject.model, self.subject.processor, config)

    def ask(self, asked: Asked) -> Answer:
        """The question is given whole when it has ended."""
        session = self.session(asked)
        started = self.clock()
        return self.listen(session, session.ask(asked.waveform), asked, started)

    def listen(
        self,
        session: SpeechSession,
        events: Generator[object],
        asked: Asked,
        started: float,
        ahead_ms: float = 0.0,
    ) -> Answer:
        """Take the reply's events. started: when the clock of this answer began."""
        token_at: list[float] = []
        first_audio = None
        for event in events:
            if isinstance(event, TextDelta):
                token_at.append(self.clock() - started)
            elif isinstance(event, AudioDelta) and first_audio is None:
                first_audio = self.clock() - started
                if asked.until_sound:
                    session.cancel()
            elif isinstance(event, Done):
                return Answer(
                    token_ids=tuple(event.token_ids),
                    units=tuple(event.units),
                    token_at_ms=tuple(token_at),
                    first_audio_ms=first_audio,
                    total_ms=self.clock() - started,
                    started_ms=started,
                    ahead_ms=ahead_ms,
                )
        raise AssertionError("a reply ends with Done")


@dataclass(frozen=True)
class Live(Ours):
    """The question is spoken: pieces come every 100 ms, and the clock starts with the last sample.

    Between pieces nothing is slept through; if work on one is not done when the next comes, the
    delay is carried on, as it would be. speculate: the session also gets ready in the pause after
    the last sample, by which a turn's end is known; the clock then starts behind that work
    (`Answer.ahead_ms`), for the pause is waited for in any case.
    """

    speculate: bool = False

    def ask(self, asked: Asked) -> Answer:
        """The question is spoken in pieces."""
        session = self.session(asked)
        *before, last = pieces(asked.waveform)
        late = 0.0  # ms by which work is behind the microphone when the next piece is there
        for piece in before:
            pushed = self.clock()
            session.push_audio(piece)
            late = max(0.0, late + self.clock() - pushed - PIECE_MS)
        started = self.clock() - late
        session.push_audio(last)
        ahead = 0.0
        if self.speculate:
            session.speculate()
            ahead = self.clock() - started
            started = self.clock()
        return self.listen(session, session.run(), asked, started, ahead)


def pieces(waveform: np.ndarray) -> list[np.ndarray]:
    """[samples] -> pieces of 100 ms, the last one perhaps shorter."""
    return [waveform[start : start + PIECE] for start in range(0, len(waveform), PIECE)]
