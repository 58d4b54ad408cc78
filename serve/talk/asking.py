"""Questions from files, one after the other in one conversation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from omni.files import UserError
from serve.talk.client import WIRE_RATE, RealtimeClient, from_wire

PIECE = WIRE_RATE // 5  # samples in one message: no server counts so few as too many


@dataclass(frozen=True)
class Answer:
    """text: what was said. sound: [n] int16 at 24 kHz."""

    text: str
    sound: np.ndarray


def ask(client: RealtimeClient, question: np.ndarray, tell: Callable[[str], None]) -> Answer:
    """The answer to a question ([n] int16 at 24 kHz); tell: takes its words as they come.

    The session must leave the end of turns to its client. Raises UserError with the server's own
    words where there is no answer.
    """
    for start in range(0, len(question), PIECE):
        client.append(question[start : start + PIECE])
    client.send("input_audio_buffer.commit")
    client.send("response.create")
    words: list[str] = []
    sound: list[np.ndarray] = []
    for event in client.events():
        match event["type"]:
            case "response.output_audio_transcript.delta" | "response.output_text.delta":
                words.append(event["delta"])
                tell(event["delta"])
            case "response.output_audio.delta":
                sound.append(from_wire(event["delta"]))
            case "error":
                raise UserError(event["error"]["message"])
            case "response.done":
                response = event["response"]
                if response["status"] == "failed":
                    raise UserError(response["status_details"]["error"]["message"])
                break
            case _:
                pass
    return Answer("".join(words), np.concatenate(sound or [np.empty(0, np.int16)]))
