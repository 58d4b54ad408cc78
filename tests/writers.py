"""Asking a writer in tests: one request, and the replies in the order of the requests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from data_tools.writers.base import ChatMessage, Reply, Request, Writer


def request(text: str, **changes: Any) -> Request:
    chat = (ChatMessage(role="user", content=text),)
    first = Request(task="rewrite", key="r/0", language="en", source=text, messages=chat)
    return replace(first, **changes)


def replies(writer: Writer, requests: Sequence[Request]) -> list[Reply]:
    found = dict(writer.complete(requests))
    return [found[index] for index in range(len(requests))]
