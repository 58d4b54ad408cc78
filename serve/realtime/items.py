"""Conversation items as they travel."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serve.realtime.wire import Wire, new_id

MAX_ID = 200
MAX_TEXT = 100_000
Status = Literal["completed", "incomplete", "in_progress"]
# What a turn of each role may hold, by the names that clients use, and how we call it.
PARTS = {
    "user": {"input_text": "input_text", "input_audio": "input_audio"},
    "system": {"input_text": "input_text"},
    "assistant": {
        "output_text": "output_text", "text": "output_text", "input_text": "output_text",
        "output_audio": "output_audio", "audio": "output_audio",
    },
}  # fmt: skip


class Part(Wire):
    """A piece of a message. audio: base64, in the session's input format."""

    type: str
    text: str | None = Field(default=None, max_length=MAX_TEXT)
    audio: str | None = None
    transcript: str | None = Field(default=None, max_length=MAX_TEXT)


class ItemBase(Wire):
    """What all items have; an id that a client chose is kept."""

    id: str = Field(default_factory=lambda: new_id("item"), min_length=1, max_length=MAX_ID)
    object: Literal["realtime.item"] = "realtime.item"
    status: Status = "completed"


class MessageItem(ItemBase):
    """Something said or written."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system"]
    content: list[Part] = Field(max_length=64)

    @model_validator(mode="after")
    def _parts_of_its_role(self) -> MessageItem:
        known = PARTS[self.role]
        for place, part in enumerate(self.content):
            if part.type not in known:
                raise ValueError(
                    f"content[{place}]: a part of type {part.type!r}; a turn of {self.role!r} "
                    f"takes {', '.join(known)}"
                )
            part.type = known[part.type]
        return self


class FunctionCallItem(ItemBase):
    """A function that the model asks to be called."""

    type: Literal["function_call"] = "function_call"
    call_id: str = Field(default_factory=lambda: new_id("call"), max_length=MAX_ID)
    name: str = Field(max_length=MAX_ID)
    arguments: str = Field(max_length=MAX_TEXT)


class FunctionOutputItem(ItemBase):
    """What a called function gave."""

    type: Literal["function_call_output"] = "function_call_output"
    call_id: str = Field(max_length=MAX_ID)
    output: str = Field(max_length=MAX_TEXT)


Item = Annotated[MessageItem | FunctionCallItem | FunctionOutputItem, Field(discriminator="type")]


def shown(item: Item) -> dict[str, Any]:
    """The item as events carry it: without the audio itself, which its client has."""
    return item.model_dump(exclude_none=True, exclude={"content": {"__all__": {"audio"}}})
