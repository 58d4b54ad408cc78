"""A conversation with microphone and loudspeaker, in which either may interrupt."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from omni.files import UserError
from serve.talk.client import WIRE_RATE, Event, RealtimeClient, from_wire

BLOCK = WIRE_RATE // 50  # samples of the devices' blocks, 20 ms
PORTAUDIO = "install PortAudio (Debian: apt-get install libportaudio2)"


class Loudspeaker:
    """Answers that wait to be heard. `fill` is called on the device's thread, all else on one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, np.ndarray]] = deque()  # item id and [n] int16
        self._played: dict[str, int] = {}  # samples of each item

    def play(self, item_id: str, samples: np.ndarray) -> None:
        """More of an answer: [n] int16 at 24 kHz."""
        if len(samples):
            with self._lock:
                self._waiting.append((item_id, samples))

    def fill(self, block: np.ndarray) -> None:
        """The next block: [n] int16, overwritten; silence where nothing waits."""
        block[:] = 0
        filled = 0
        with self._lock:
            while self._waiting and filled < len(block):
                item_id, samples = self._waiting.popleft()
                part = samples[: len(block) - filled]
                block[filled : filled + len(part)] = part
                filled += len(part)
                self._played[item_id] = self._played.get(item_id, 0) + len(part)
                if len(part) < len(samples):
                    self._waiting.appendleft((item_id, samples[len(part) :]))

    def stop(self) -> tuple[str, int] | None:
        """Silence at once: the item that was cut, and how much of it was played (ms)."""
        with self._lock:
            if not self._waiting:
                return None
            item_id, _ = self._waiting[0]
            self._waiting.clear()
            return item_id, 1000 * self._played.get(item_id, 0) // WIRE_RATE


def converse(
    client: RealtimeClient,
    events: Iterable[Event],
    loudspeaker: Loudspeaker,
    tell: Callable[[str], None],
) -> None:
    """Play and tell what the server says, and fall silent when the user speaks.

    Raises UserError where the server refuses something.
    """
    for event in events:
        match event["type"]:
            case "input_audio_buffer.speech_started":
                if (cut := loudspeaker.stop()) is not None:
                    item_id, audio_end_ms = cut
                    tell(" ...\n")
                    client.send(
                        "conversation.item.truncate",
                        item_id=item_id, content_index=0, audio_end_ms=audio_end_ms,
                    )  # fmt: skip
            case "response.output_audio_transcript.delta":
                tell(event["delta"])
            case "response.output_audio_transcript.done":
                tell("\n")
            case "response.output_audio.delta":
                loudspeaker.play(event["item_id"], from_wire(event["delta"]))
            case "response.done" if event["response"]["status"] == "failed":
                tell(f"({event['response']['status_details']['error']['message']})\n")
            case "error":
                raise UserError(event["error"]["message"])
            case _:
                pass


def talk_by_microphone(client: RealtimeClient, tell: Callable[[str], None]) -> None:
    """Until Ctrl-C. Raises UserError where there is no device, or the server hangs up."""
    try:
        import sounddevice
    except OSError as error:  # the package is there, its library is not
        raise UserError(f"sounddevice: {error}; {PORTAUDIO}") from None
    loudspeaker = Loudspeaker()

    def hear(block: np.ndarray, *_: Any) -> None:
        client.append(block[:, 0])

    def speak(block: np.ndarray, *_: Any) -> None:
        loudspeaker.fill(block[:, 0])

    options: dict[str, Any] = {
        "samplerate": WIRE_RATE, "channels": 1, "dtype": "int16", "blocksize": BLOCK,
    }  # fmt: skip
    try:
        ear = sounddevice.InputStream(callback=hear, **options)
        mouth = sounddevice.OutputStream(callback=speak, **options)
    except sounddevice.PortAudioError as error:
        raise UserError(
            f"microphone or loudspeaker: {error}; plug them in, or give recorded questions: "
            "omni-serve talk question.wav --save answer.wav"
        ) from None
    with ear, mouth:
        converse(client, client.events(), loudspeaker, tell)
