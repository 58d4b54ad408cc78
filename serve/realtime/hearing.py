"""Sound that comes in: buffered, cut into turns by the client or by voice activity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from omni.audio import SAMPLE_RATE
from omni.engine import Recording
from serve.realtime.activity import FRAME, ONSET_FRAMES, Started, TurnDetector, TurnRules, Voice
from serve.realtime.formats import WireDecoder, read_base64
from serve.realtime.live import LiveQuestion
from serve.realtime.session_object import AudioInput
from serve.realtime.wire import Refused, new_id


@dataclass(frozen=True)
class TurnEnd:
    """Who ended a turn. silence_ms, voice_ms: by what silence its end was known, and how long its
    voice had been; None where no silence ended it."""

    by: Literal["silence", "limit", "client"]
    silence_ms: int | None = None
    voice_ms: int | None = None


SLICE_FRAMES = 16  # heard without a pause; 0.5 s of sound, some 5 ms of work
SHORTEST = SAMPLE_RATE // 10  # of a turn that a client ends; in samples, 100 ms


def to_ms(samples: int) -> int:
    """Samples at 16 kHz in whole ms."""
    return samples * 1000 // SAMPLE_RATE


class Hearing:
    """Raises nothing but Refused, and is as before then.

    speech_started: item id, ms; speech_stopped: the same; turn: item id, what was said, and how it
    ended.
    make_voice: called once, when turns are first detected. longest: samples of one turn.
    """

    def __init__(
        self,
        live: LiveQuestion,
        settings: AudioInput,
        *,
        make_voice: Callable[[], Voice],
        longest: int,
        speech_started: Callable[[str, int], None],
        speech_stopped: Callable[[str, int], None],
        turn: Callable[[str, Recording, TurnEnd], None],
    ) -> None:
        self._live = live
        self._make_voice = make_voice
        self._voice: Voice | None = None
        self._longest = longest
        self._speech_started = speech_started
        self._speech_stopped = speech_stopped
        self._turn = turn
        self._position = 0  # samples of all sound so far
        self._detector: TurnDetector | None = None
        self._detector_began = 0
        self._before = np.empty(0, np.float32)  # what was heard before anybody spoke
        self._item_id = new_id("item")
        self._settings = settings
        self._decoder = WireDecoder(settings.format.type)
        self._listen()

    def configure(self, settings: AudioInput) -> None:
        """How sound comes from now on. A turn that has begun goes on, if its rules stay."""
        if settings.format != self._settings.format:
            self._decoder = WireDecoder(settings.format.type)
        changed = settings.turn_detection != self._settings.turn_detection
        self._settings = settings
        if changed:
            self._listen()

    def append(self, audio: str) -> Iterator[None]:
        """More sound, base64. A voice is looked for in slices, after each of which it yields: in a
        minute of sound that takes a second, in which other sessions want to be served."""
        samples = self._decoder.decode(read_base64(audio, self._decoder.kind, "audio"))
        if self._detector is None:
            if self._live.samples + len(samples) > self._longest:
                raise Refused(
                    "input_audio_buffer_full",
                    f"audio: the buffer takes {self._longest / SAMPLE_RATE:g} s; commit or clear "
                    "it",
                    param="audio",
                )
            self._position += len(samples)
            self._live.push(samples)
            return
        for number, start in enumerate(range(0, len(samples), FRAME), 1):
            # At most one change within each.
            self._detect(self._detector, samples[start : start + FRAME])
            if number % SLICE_FRAMES == 0:
                yield

    def commit(self) -> None:
        """The client ends the turn."""
        length = self._live.samples + self._decoder.held_back
        if length < SHORTEST:
            raise Refused(
                "input_audio_buffer_commit_empty",
                f"input_audio_buffer: {to_ms(length)} ms of audio; a turn has at least 100 ms",
            )
        # What a full buffer has no room for is cut: a few ms too much, and nothing is heard.
        self._live.push(self._rest()[: self._longest - self._live.samples])
        if self._detector is not None:
            self._detector.end_turn()
        self._end(TurnEnd("client"))

    def clear(self) -> None:
        """Forget what was said since the last turn."""
        self._rest()
        self._live.drop()
        self._listen()

    def _listen(self) -> None:
        """Begin anew with what the session says of turns."""
        detection = self._settings.turn_detection
        self._before = np.empty(0, np.float32)
        self._detector_began = self._position
        self._detector = None
        if detection is not None:
            self._voice = self._voice or self._make_voice()
            self._detector = TurnDetector(TurnRules.of(detection), self._voice)
            # A turn that a client has not ended by hand is no turn of the detector's.
            self._live.drop()

    def _detect(self, detector: TurnDetector, piece: np.ndarray) -> None:
        self._position += len(piece)
        speaking = detector.speaking
        if speaking:
            self._live.push(piece)
        else:
            kept = detector.rules.padding + (ONSET_FRAMES + 1) * FRAME
            self._before = np.concatenate([self._before, piece])[-kept:]
        for change in detector.hear(piece):
            at = self._detector_began + change.at
            if isinstance(change, Started):
                kept = min(len(self._before), self._longest)
                start = max(at - detector.rules.padding, self._position - kept)
                self._speech_started(self._item_id, to_ms(start))
                self._live.push(self._before[start - self._position :])
                self._before = np.empty(0, np.float32)
            else:
                self._stop(at, TurnEnd("silence", to_ms(change.silence), to_ms(change.voice)))
        # One frame more might be more than the encoder hears, and then it would hear nothing.
        if detector.speaking and self._live.samples + FRAME > self._longest:
            detector.end_turn()
            self._stop(self._position, TurnEnd("limit"))

    def _stop(self, at: int, end: TurnEnd) -> None:
        self._speech_stopped(self._item_id, to_ms(at))
        self._end(end)

    def _end(self, end: TurnEnd) -> None:
        item_id, self._item_id = self._item_id, new_id("item")
        self._turn(item_id, self._live.end(), end)

    def _rest(self) -> np.ndarray:
        """What the resampler has held back."""
        rest = self._decoder.decode(b"", last=True)
        self._decoder = WireDecoder(self._settings.format.type)
        self._position += len(rest)
        return rest
