"""The messages of a request as a question, what was said before it, and what the model is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omni.engine import Recording
from serve.chat.recordings import Budget, from_base64, from_url, read_recording
from serve.chat.request import (
    AssistantMessage,
    InputAudioPart,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    UserPart,
)
from serve.chat.said import SpokenAnswers
from serve.realtime import (
    MAX_TEXT,
    Asked,
    Entry,
    FunctionCallItem,
    FunctionOutputItem,
    MessageItem,
    Model,
    Part,
    Refused,
    asked_of,
    check_control_tokens,
    new_id,
)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """longest_s: of one recording. together_s: of all of them. longest_text: characters of all that
    is written. spoken: answers that clients may name by their ids."""

    model: Model
    longest_s: float
    together_s: float
    longest_text: int
    spoken: SpokenAnswers

    def read(self, messages: list[Message]) -> Asked:
        """By the rules of a conversation over the WebSocket. Raises Refused for what can't be, and
        where nothing is asked."""
        length = sum(map(_written_in, messages))
        if length > self.longest_text:
            raise Refused(
                "text_too_long",
                f"messages: {length} characters of text, and {self.longest_text} are taken; leave "
                "out the oldest",
                param="messages",
            )
        entries: list[Entry] = []
        budget = Budget(self.together_s)
        for place, message in enumerate(messages):
            entries += self._entries(message, f"messages[{place}]", budget)
        asked = asked_of(entries)
        if asked.question is None:
            raise Refused(
                "no_question",
                "messages: nothing is asked; after the last answer there must be a user's text or "
                "recording",
                param="messages",
            )
        return asked

    def _entries(self, message: Message, where: str, budget: Budget) -> list[Entry]:
        match message:
            case SystemMessage():
                return [
                    _written("system", self._joined([part.text for part in message.content], where))
                ]
            case UserMessage():
                return [self._question(message, where, budget)]
            case ToolMessage():
                output = self._joined([part.text for part in message.content], where)
                return [Entry(FunctionOutputItem(call_id=new_id("call"), output=output))]
            case AssistantMessage():
                return self._answers(message, where)

    def _question(self, message: UserMessage, where: str, budget: Budget) -> Entry:
        parts: list[Part] = []
        recordings: list[Recording | None] = []
        for place, part in enumerate(message.content):
            at = f"{where}.content[{place}]"
            if isinstance(part, TextPart):
                parts.append(Part(type="input_text", text=self._checked(part.text, at)))
                recordings.append(None)
            else:
                parts.append(Part(type="input_audio"))
                recordings.append(self._recording(part, at, budget))
        return Entry(MessageItem(role="user", content=parts), recordings)

    def _recording(self, part: UserPart, where: str, budget: Budget) -> Recording:
        if isinstance(part, InputAudioPart):
            at = f"{where}.input_audio.data"
            data = from_base64(part.input_audio.data, at)
        else:
            assert not isinstance(part, TextPart)
            at = f"{where}.audio_url.url"
            data = from_url(part.audio_url.url, at)
        samples = read_recording(data, at, longest_s=self.longest_s)
        budget.take(samples, at)
        return Recording(samples)

    def _answers(self, message: AssistantMessage, where: str) -> list[Entry]:
        answers: list[Entry] = []
        if message.audio is not None:
            said = self.spoken.find(message.audio.id)
            if said is None:
                at = f"{where}.audio.id"
                raise Refused(
                    "audio_not_found",
                    f"{at}={message.audio.id!r}: not known, or no longer; send its transcript as "
                    "the message's content",
                    param=at,
                )
            part = Part(type="output_audio", transcript=said.text)
            answers.append(Entry(MessageItem(role="assistant", content=[part]), said=said))
        else:
            texts = [
                part.text if isinstance(part, TextPart) else part.refusal
                for part in message.content
            ]
            answers.append(_written("assistant", self._joined(texts, where)))
        for call in message.tool_calls:
            name, arguments = call.function.name, self._checked(call.function.arguments, where)
            answers.append(
                Entry(FunctionCallItem(name=self._checked(name, where), arguments=arguments))
            )
        return answers

    def _joined(self, texts: list[str], where: str) -> str:
        text = "\n".join(texts)
        if len(text) > MAX_TEXT:
            raise Refused(
                "invalid_value",
                f"{where}: {len(text)} characters, and {MAX_TEXT} are taken; shorten it",
                param=where,
            )
        return self._checked(text, where)

    def _checked(self, text: str, where: str) -> str:
        check_control_tokens(text, where, self.model.control_token_in)
        return text


def _written(role: Literal["system", "assistant"], text: str) -> Entry:
    kind = "input_text" if role == "system" else "output_text"
    return Entry(MessageItem(role=role, content=[Part(type=kind, text=text)]))


def _written_in(message: Message) -> int:
    """Characters; the model's tokeniser reads all of them, while others wait."""
    parts = sum(
        len(part.text if isinstance(part, TextPart) else part.refusal)
        for part in message.content
        if isinstance(part, TextPart | RefusalPart)
    )
    if isinstance(message, AssistantMessage):
        parts += sum(len(call.function.arguments) for call in message.tool_calls)
    return parts
