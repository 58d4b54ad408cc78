"""Items that a client makes, shows, cuts and deletes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from omni.audio import SAMPLE_RATE
from omni.engine import Recording
from serve.realtime.conversation import Asked, Conversation, Entry, asked_of
from serve.realtime.events import (
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemRetrieved,
    ItemTruncated,
    ServerEvent,
)
from serve.realtime.formats import Kind, WireDecoder, read_base64
from serve.realtime.items import Item, MessageItem, Part, shown
from serve.realtime.messages import CreateItem, TruncateItem
from serve.realtime.served import check_control_tokens
from serve.realtime.session_object import refusal
from serve.realtime.wire import Refused

ITEM: TypeAdapter[Item] = TypeAdapter(Item)


class Editing:
    """All raise Refused for what can't be done, and nothing has changed then.

    input_kind: the format of sound in items. control_token_in: see Model. cut_later: takes the
    cut of an item that is still being made, and says whether it is. longest: samples of one
    recording.
    """

    def __init__(
        self,
        conversation: Conversation,
        emit: Callable[[ServerEvent], None],
        *,
        input_kind: Callable[[], Kind],
        control_token_in: Callable[[str], str | None],
        cut_later: Callable[[str, float], bool],
        longest: int,
    ) -> None:
        self._conversation = conversation
        self._emit = emit
        self._input_kind = input_kind
        self._control_token_in = control_token_in
        self._cut_later = cut_later
        self._longest = longest

    def create(self, event: CreateItem) -> None:
        """A new item in its place."""
        self.add(self._entry(event.item), event.previous_item_id)

    def add(self, entry: Entry, previous_item_id: str | None = None) -> None:
        """Put an item into the conversation and tell the client."""
        previous = self._conversation.add(entry, previous_item_id)
        item = shown(entry.item)
        self._emit(ItemAdded(previous_item_id=previous, item=item))
        self._emit(ItemDone(previous_item_id=previous, item=item))

    def retrieve(self, item_id: str) -> None:
        """Show an item as it is now."""
        entry = self._conversation.find(item_id, "item_retrieve_invalid_item_id")
        self._emit(ItemRetrieved(item=shown(entry.item)))

    def delete(self, item_id: str) -> None:
        """Forget an item."""
        self._conversation.delete(item_id)
        self._emit(ItemDeleted(item_id=item_id))

    def truncate(self, event: TruncateItem) -> None:
        """Keep what was heard of an answer. A time after its end keeps all, and is no error:
        clients count what they play, and round."""
        entry = self._conversation.find(event.item_id, "item_truncate_invalid_item_id")
        item = entry.item
        if not isinstance(item, MessageItem) or item.role != "assistant":
            raise Refused(
                "invalid_value",
                f"item_id={event.item_id!r}: only what the model said can be cut",
                param="item_id",
            )
        if entry.said is not None and not self._cut_later(item.id, event.audio_end_ms):
            entry.said.cut(event.audio_end_ms)
            kind = item.content[0].type
            words = {"transcript" if kind == "output_audio" else "text": entry.said.text}
            item.content[0] = Part(type=kind, **words)
        self._emit(
            ItemTruncated(
                item_id=item.id, content_index=event.content_index, audio_end_ms=event.audio_end_ms
            )
        )

    def read_input(self, values: list[dict[str, Any]]) -> Asked:
        """The items that a response is to answer instead of the conversation."""
        entries: list[Entry] = []
        for place, value in enumerate(values):
            if value.get("type") == "item_reference":
                entries.append(self._conversation.find(str(value.get("id"))))
                continue
            try:
                entries.append(self._entry(ITEM.validate_python(value)))
            except ValidationError as error:
                raise refusal(error, f"response.input[{place}]") from None
        return asked_of(entries)

    def _entry(self, item: Item) -> Entry:
        """An item with its sound as the model takes it."""
        entry = Entry(item)
        if not isinstance(item, MessageItem):
            for name in ("name", "arguments", "output"):  # of a call, and what it gave
                text = getattr(item, name, "")
                check_control_tokens(text, f"item.{name}", self._control_token_in)
            return entry
        for place, part in enumerate(item.content):
            where = f"item.content[{place}]"
            for text in filter(None, (part.text, part.transcript)):
                check_control_tokens(text, where, self._control_token_in)
            heard = part.type == "input_audio" and part.audio is not None
            entry.recordings.append(self._recording(part.audio or "", where) if heard else None)
            part.audio = None  # the client has it
        return entry

    def _recording(self, audio: str, where: str) -> Recording:
        kind = self._input_kind()
        data = read_base64(audio, kind, f"{where}.audio")
        samples = WireDecoder(kind).decode(data, last=True)
        if len(samples) > self._longest:
            raise Refused(
                "invalid_value",
                f"{where}.audio: {len(samples) / SAMPLE_RATE:.1f} s of sound; a turn has "
                f"{self._longest / SAMPLE_RATE:g} s at most",
                param="item",
            )
        return Recording(samples)
