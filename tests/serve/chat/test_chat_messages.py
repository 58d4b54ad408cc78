"""Messages of a request as question, past and what the model is told."""

import weakref
from typing import Any

import numpy as np
import pytest

from omni.engine import Recording
from serve.chat.reading import Reader
from serve.chat.request import chat_request
from serve.chat.said import LIVES_S, MOST, SpokenAnswers
from serve.realtime import Asked, Refused, Said
from tests.chat import file_of, spoken, text64, user, written
from tests.realtime import model_info, silence
from tests.talk import SHORT

TONE = np.sin(np.arange(8_000) / 5).astype(np.float32) / 2
LONG = written("x" * 60_000)
ANSWER = {"role": "assistant", "content": "Paris."}


def read(*messages: dict[str, Any], spoken: SpokenAnswers | None = None) -> Asked:
    answers = spoken or SpokenAnswers(lambda: 1_000.0)
    reader = Reader(
        model=model_info(SHORT), longest_s=2.0, together_s=5.0, longest_text=150_000, spoken=answers
    )
    return reader.read(chat_request({"model": "tiny", "messages": list(messages)}).messages)


def refused(*messages: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        read(*messages)
    return caught.value


def test_turns_become_exchanges_and_the_last_is_the_question() -> None:
    asked = read(
        {"role": "developer", "content": "Be kind."}, user(spoken(file_of(TONE))), ANSWER,
        user("And Italy?"),
    )  # fmt: skip
    assert asked.system == ["Be kind."] and asked.question == "And Italy?"
    (exchange,) = asked.past
    assert isinstance(exchange.question, Recording) and exchange.answer == "Paris."
    assert exchange.question.samples is not None
    np.testing.assert_allclose(exchange.question.samples, TONE, atol=1e-4)


def test_a_text_alone_is_as_good_as_a_list_of_it() -> None:
    assert read({"role": "user", "content": "Hello"}).question == "Hello"
    assert read(user("Hello", "there")).question == "Hello\nthere"


def test_functions_are_read_as_a_conversation_over_the_socket_reads_them() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = read(
        user("How warm is it?"), {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "20 degrees"},
    )  # fmt: skip
    assert asked.past[0].answer == "f({})" and asked.question == "20 degrees"


def test_an_answer_in_sound_is_named_by_its_id_while_it_is_known() -> None:
    now = 1_000.0
    answers = SpokenAnswers(lambda: now)
    answers.keep("audio_1", Said(tokens=[(5, "Pa"), (6, "ris")]))
    asked = read(
        user("?"), {"role": "assistant", "audio": {"id": "audio_1"}}, user("Sure?"), spoken=answers
    )
    assert (asked.past[0].answer, asked.past[0].answer_ids) == ("Paris", (5, 6))
    assert answers.expiry() == now + LIVES_S
    now += LIVES_S + 1
    assert answers.find("audio_1") is None


def test_only_so_many_answers_in_sound_are_known() -> None:
    answers = SpokenAnswers(lambda: 0.0)
    for number in range(MOST + 1):
        answers.keep(str(number), Said())
    assert answers.find("0") is None and answers.find(str(MOST)) is not None


def test_what_has_expired_is_forgotten() -> None:
    now = 1_000.0
    answers = SpokenAnswers(lambda: now)
    said = Said()
    gone = weakref.ref(said)
    answers.keep("early", said)
    del said
    now += LIVES_S / 2
    answers.keep("later", Said())
    assert gone() is not None
    now += LIVES_S / 2
    answers.keep("last", Said())
    assert gone() is None and answers.find("later") is not None


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_every_format_is_heard(format: str) -> None:
    asked = read(user(spoken(file_of(TONE, format=format), format.lower())))
    assert isinstance(asked.question, Recording) and asked.question.samples is not None
    assert abs(len(asked.question.samples) - len(TONE)) < 2_000  # coders add some at the ends


def test_other_rates_and_two_channels_are_brought_to_what_the_model_hears() -> None:
    both = np.stack([np.repeat(TONE, 3)] * 2, axis=1)
    asked = read(user(spoken(file_of(both, 48_000))))
    assert isinstance(asked.question, Recording) and asked.question.samples is not None
    assert len(asked.question.samples) == len(TONE)


def test_an_address_may_hold_the_recording_itself() -> None:
    url = f"data:audio/wav;base64,{text64(file_of(TONE))}"
    asked = read(user({"type": "audio_url", "audio_url": {"url": url}}))
    assert isinstance(asked.question, Recording)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1/a.wav", "unsupported_url"),
        ("https://example.org/a.wav", "unsupported_url"),
        ("file:///etc/passwd", "unsupported_url"),
        ("data:audio/wav,abc", "invalid_url"),
        ("data:audio/wav;base64", "invalid_url"),
        ("data:audio/wav;base64,!!", "invalid_base64"),
    ],
)
def test_no_address_is_fetched(url: str, code: str) -> None:
    found = refused(user({"type": "audio_url", "audio_url": {"url": url}}))
    assert (found.code, found.param) == (code, "messages[0].content[0].audio_url.url")


@pytest.mark.parametrize(
    ("data", "code", "told"),
    [
        (b"", "invalid_audio", "not readable as audio"),
        (b"RIFF but no wav at all", "invalid_audio", "not readable as audio"),
        (file_of(TONE[:0]), "invalid_audio", "no samples"),
        (file_of(silence(3)), "audio_too_long", "longer than 2 s"),
        (file_of(silence(600), format="FLAC"), "audio_too_long", "longer than 2 s"),
        (file_of(TONE, 4_000), "invalid_audio", "4000 Hz"),
        (file_of(TONE, 200_000), "invalid_audio", "200000 Hz"),
        (file_of(np.stack([TONE] * 3, axis=1)), "invalid_audio", "3 channels"),
    ],
)
def test_what_is_no_question_in_sound_is_refused(data: bytes, code: str, told: str) -> None:
    found = refused(user("listen", spoken(data)))
    assert found.code == code and told in found.message and "BytesIO" not in found.message
    assert found.param == "messages[0].content[1].input_audio.data"


def test_recordings_that_are_small_files_and_long_sound_are_refused_together() -> None:
    packed = spoken(file_of(silence(2), format="FLAC"), "flac")
    assert read(user(packed, packed), ANSWER, user("And?")).past
    found = refused(user(packed, packed), ANSWER, user("And?", packed))
    assert found.code == "audio_too_long" and "6.0 s" in found.message and "5 s" in found.message
    assert found.param == "messages[2].content[1].input_audio.data"


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([{"role": "system", "content": "Be kind."}], "no_question"),
        ([user("Hello"), ANSWER], "no_question"),
        ([user("")], "no_question"),
        ([user("Hello <speech>")], "invalid_value"),
        ([{"role": "system", "content": "<speech>"}, user("a")], "invalid_value"),
        ([user("a"), ANSWER | {"content": "<speech>"}, user("b")], "invalid_value"),
        ([user("a"), {"role": "assistant", "audio": {"id": "x"}}, user("b")], "audio_not_found"),
        ([{"role": "system", "content": [LONG, LONG]}, user("a")], "invalid_value"),
        ([user("x" * 80_000), ANSWER, user("x" * 80_000)], "text_too_long"),
    ],
)
def test_conversations_that_cannot_be(messages: list[dict[str, Any]], code: str) -> None:
    assert refused(*messages).code == code
