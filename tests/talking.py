"""Conversations in writing with a real server, and how they end."""

import time
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed

from tests.realtime import Client, Event, transcript


def write(client: Client, role: str, text: str) -> None:
    """A message of the conversation."""
    kind = "input_text" if role == "user" else "output_text"
    item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
    client.send("conversation.item.create", item=item)


def ask(client: Client, text: str) -> str:
    """A question; the words of the answer."""
    write(client, "user", text)
    client.send("response.create")
    return transcript(client.until("response.done"))


def end_of(client: Client) -> tuple[list[Event], int]:
    """What still comes, and the code with which the connection ends."""
    events = []
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            events.append(client.next())
    return events, 1006 if caught.value.rcvd is None else caught.value.rcvd.code


def until(true: Callable[[], bool], wait_s: float) -> None:
    """Return when it is."""
    ends = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.1)
