"""The conversation as its client sees and edits it, and as the model is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from omni.audio import SAMPLE_RATE
from omni.engine import Exchange, Recording
from serve.realtime.items import FunctionCallItem, FunctionOutputItem, Item, MessageItem
from serve.realtime.wire import Refused

ROOT = "root"
# Where clients know a code of OpenAI's own, that is used: some end a session at any other.
NOT_FOUND = "item_not_found"
WAITING_S = 600.0  # sound of recordings that wait for an answer; 38 MB


@dataclass
class Said:
    """What the model said, as it came: each token with the text that it added, and for each chunk
    of sound where it ends (ms) and how many tokens had been said by then.

    words_end_ms: once it was cut, where the last word that was kept ends, as far as chunks tell.
    """

    tokens: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    chunks: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    words_end_ms: float | None = None

    @property
    def audio_ms(self) -> float:
        """How long it sounds."""
        return self.chunks[-1][0] if self.chunks else 0.0

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(text for _, text in self.tokens)

    @property
    def ids(self) -> tuple[int, ...]:
        """Its tokens."""
        return tuple(token for token, _ in self.tokens)

    def _begins_ms(self, token: int) -> float:
        start_ms, start = 0.0, 0
        for end_ms, end in self.chunks:
            if token < end:
                return start_ms + (end_ms - start_ms) * (token - start) / (end - start)
            start_ms, start = end_ms, end
        return start_ms

    def _whole_words(self, tokens: int) -> int:
        while 0 < tokens < len(self.tokens) and not self.tokens[tokens][1][:1].isspace():
            tokens -= 1
        return tokens

    def break_off(self) -> None:
        """It was stopped: words for which no sound came were never said."""
        sounded = self.chunks[-1][1] if self.chunks else 0
        self.tokens = self.tokens[: self._whole_words(sounded)]

    def cut(self, audio_end_ms: float) -> None:
        """Keep what was heard by then, in whole words."""
        if audio_end_ms >= self.audio_ms:
            self.words_end_ms = self._begins_ms(len(self.tokens))
            return
        start_ms, start = 0.0, 0
        heard = 0
        for end_ms, end in self.chunks:
            if audio_end_ms < end_ms:
                share = (audio_end_ms - start_ms) / (end_ms - start_ms)
                heard = int(start + share * (end - start))
                break
            start_ms, start = end_ms, end
        heard = self._whole_words(min(heard, len(self.tokens)))
        self.words_end_ms = self._begins_ms(heard)
        self.tokens = self.tokens[:heard]
        self.chunks = [(min(ms, audio_end_ms), min(n, heard)) for ms, n in self.chunks]


@dataclass(eq=False)
class Entry:
    """An item. recordings: the sound of each of its parts, None for text; said: of an answer that
    the model gave itself. passing: a sound that was no question, or a text that can't be one: the
    model is not told of it."""

    item: Item
    recordings: list[Recording | None] = field(default_factory=list[Recording | None])
    said: Said | None = None
    passing: bool = False


def _waiting_s(entry: Entry) -> float:
    recordings = [] if entry.passing else [one for one in entry.recordings if one is not None]
    waiting = [one.samples for one in recordings if one.heard is None]
    return sum(len(samples) for samples in waiting if samples is not None) / SAMPLE_RATE


@dataclass(frozen=True)
class Asked:
    """What the model is asked. system: what the conversation's system messages say. written: the
    items that a question in writing is made of."""

    past: list[Exchange]
    question: Recording | str | None
    system: list[str]
    written: list[Entry]


@dataclass
class _Waiting:
    """Questions that nobody has answered yet. written: the items of the last one, if it is text."""

    questions: list[Recording | str] = field(default_factory=list[Recording | str])
    written: list[Entry] = field(default_factory=list[Entry])

    def add(self, entry: Entry, question: Recording | str) -> None:
        if isinstance(question, Recording):
            if question.refused:
                question.samples = None  # nobody will hear it again
            else:
                self.questions.append(question)
                self.written = []
        elif question.strip():
            if self.written:
                self.questions[-1] = f"{self.questions[-1]}\n{question.strip()}"
            else:
                self.questions.append(question.strip())
            self.written = [*self.written, entry]

    def take(self) -> list[Recording | str]:
        """All of them: they are answered now."""
        taken, self.questions, self.written = self.questions, [], []
        return taken


class Conversation:
    """Items in their order."""

    def __init__(self, longest: int) -> None:
        self._entries: list[Entry] = []
        self._by_id: dict[str, Entry] = {}
        self._longest = longest

    def add(self, entry: Entry, previous_item_id: str | None = None) -> str | None:
        """Put an item after another, at the beginning ("root") or at the end (None).

        Returns the id of the item before it. Raises Refused for an id that is taken, a previous
        item that is not there, and a conversation that is full: of items, or of sound that waits.
        """
        if self.holds(entry.item.id):
            raise Refused(
                "item_create_duplicate_item_id",
                f"item.id={entry.item.id!r}: is taken; choose another or leave it out",
                param="item.id",
            )
        if len(self._entries) >= self._longest:
            raise Refused(
                "conversation_full",
                f"conversation: {len(self._entries)} items, as many as it takes; delete some",
            )
        waiting = sum(map(_waiting_s, self._entries))
        if waiting + (more := _waiting_s(entry)) > WAITING_S and more:
            raise Refused(
                "conversation_full",
                f"conversation: {waiting:.0f} s of sound that nobody has answered, "
                f"{more:.1f} s more: it takes {WAITING_S:g} s; have some answered, or delete it",
            )
        place = len(self._entries)
        if previous_item_id == ROOT:
            place = 0
        elif previous_item_id is not None:
            before = self.find(previous_item_id, param="previous_item_id")
            place = self._entries.index(before) + 1
        self._entries.insert(place, entry)
        self._by_id[entry.item.id] = entry
        return self._entries[place - 1].item.id if place else None

    @property
    def last_id(self) -> str | None:
        """The id of the last item."""
        return self._entries[-1].item.id if self._entries else None

    def holds(self, item_id: str | None) -> bool:
        """Whether there is an item of that id."""
        return item_id in self._by_id

    def find(self, item_id: str, code: str = NOT_FOUND, param: str = "item_id") -> Entry:
        """The item of that id. Raises Refused with this code, for this field of the event."""
        if (entry := self._by_id.get(item_id)) is None:
            raise Refused(
                code, f"{param}={item_id!r}: no such item in the conversation", param=param
            )
        return entry

    def delete(self, item_id: str) -> None:
        """Forget an item. Raises Refused."""
        self._entries.remove(self.find(item_id, "item_delete_invalid_item_id"))
        del self._by_id[item_id]

    def asked(self) -> Asked:
        """The whole conversation as past and question; None where nothing is left to answer."""
        return asked_of(self._entries)


def asked_of(entries: list[Entry]) -> Asked:
    """Items as a conversation of questions and answers by turns, which is what a model knows.

    Questions in writing that follow each other are one; a spoken one that nobody answered has an
    empty answer; an answer that is empty is none.
    """
    past: list[Exchange] = []
    waiting = _Waiting()
    system: list[str] = []
    for entry in entries:
        if entry.passing:
            continue
        item = entry.item
        if isinstance(item, FunctionOutputItem):
            waiting.add(entry, item.output)
        elif isinstance(item, FunctionCallItem):
            _answer(past, waiting, f"{item.name}({item.arguments})", None)
        elif item.role == "user":
            for part, recording in zip(item.content, _recordings(entry), strict=True):
                written = part.text or part.transcript or ""
                waiting.add(entry, written if recording is None else recording)
        elif item.role == "system":
            system += [part.text for part in item.content if part.text]
        else:
            own = entry.said
            text = own.text if own is not None else _text_of(item)
            _answer(past, waiting, text, own.ids if own is not None else None)
    written = waiting.written
    *unanswered, question = waiting.take() or [None]
    past += [Exchange(one) for one in unanswered if one is not None]
    return Asked(past, question, system, written)


def _recordings(entry: Entry) -> list[Recording | None]:
    assert isinstance(entry.item, MessageItem)
    return entry.recordings or [None] * len(entry.item.content)


def _text_of(item: MessageItem) -> str:
    return " ".join(filter(None, (part.text or part.transcript for part in item.content)))


def _answer(
    past: list[Exchange], waiting: _Waiting, text: str, ids: tuple[int, ...] | None
) -> None:
    if not text.strip():
        return
    if not waiting.questions and past:  # two answers to one question
        before = past.pop()
        past.append(Exchange(before.question, f"{before.answer} {text}".strip()))
        return
    *unanswered, question = waiting.take() or [""]
    past += [Exchange(one) for one in unanswered]
    if isinstance(question, Recording) and question.heard is not None:
        question.samples = None  # heard and answered: the model needs its samples no more
    past.append(Exchange(question, text, ids))
