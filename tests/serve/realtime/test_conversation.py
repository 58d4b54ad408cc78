"""What the client sees as items the model reads as questions and answers, heard words alone."""

import numpy as np
import pytest

from omni.engine import Recording
from serve.realtime.conversation import Conversation, Entry, Said, asked_of
from serve.realtime.items import FunctionCallItem, FunctionOutputItem, MessageItem, Part
from serve.realtime.wire import Refused


def user(text: str, **fields: str) -> Entry:
    return Entry(MessageItem(role="user", content=[Part(type="input_text", text=text)], **fields))


def spoken() -> Entry:
    item = MessageItem(role="user", content=[Part(type="input_audio")])
    return Entry(item, [Recording(np.zeros(1_600, np.float32))])


def assistant(text: str, said: Said | None = None) -> Entry:
    part = Part(type="output_audio", transcript=text)
    return Entry(MessageItem(role="assistant", content=[part]), said=said)


def said() -> Said:
    """Six tokens, of which two spell one word, in three chunks."""
    words = ["The", " cap", "ital", " is", " Rome", "."]
    return Said(
        [(place, word) for place, word in enumerate(words)],
        [(400.0, 2), (800.0, 4), (1_200.0, 6)],
    )


def pairs(entries: list[Entry]) -> list[tuple[object, str]]:
    return [(exchange.question, exchange.answer) for exchange in asked_of(entries).past]


# The order of items


def test_items_stand_where_they_are_put() -> None:
    talk = Conversation(9)
    assert talk.add(user("b", id="b")) is None
    assert talk.add(user("d", id="d")) == "b"
    assert talk.add(user("a", id="a"), "root") is None
    assert talk.add(user("c", id="c"), "b") == "b"
    assert talk.asked().question == "a\nb\nc\nd"
    talk.delete("b")
    assert talk.asked().question == "a\nc\nd" and talk.last_id == "d"


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    talk = Conversation(2)
    talk.add(user("a", id="a"))
    for code, entry, previous in [
        ("item_create_duplicate_item_id", user("b", id="a"), None),
        ("item_not_found", user("b", id="b"), "nowhere"),
    ]:
        with pytest.raises(Refused) as caught:
            talk.add(entry, previous)
        assert caught.value.code == code
    talk.add(user("b"))
    with pytest.raises(Refused, match="as many as it takes"):
        talk.add(user("c"))
    with pytest.raises(Refused, match="no such item"):
        talk.delete("c")
    assert talk.asked().question == "a\nb"


# What the model is asked


def test_questions_and_answers_are_paired() -> None:
    voice = spoken()
    entries = [user("one"), assistant("eins"), voice, assistant("zwei"), user("three")]
    assert pairs(entries) == [("one", "eins"), (voice.recordings[0], "zwei")]
    assert asked_of(entries).question == "three"


def test_what_nobody_answered_has_an_empty_answer_and_an_empty_answer_is_none() -> None:
    voice = spoken()
    entries = [voice, assistant(""), user("and"), user("also")]
    assert pairs(entries) == [(voice.recordings[0], "")]
    assert asked_of(entries).question == "and\nalso"


def test_answers_that_follow_each_other_are_one_and_a_first_one_has_no_question() -> None:
    entries = [assistant("Hello."), assistant("Well?"), user("Well")]
    assert pairs(entries) == [("", "Hello. Well?")]


def test_after_the_last_answer_there_is_no_question() -> None:
    assert asked_of([user("one"), assistant("eins")]).question is None
    assert asked_of([]).question is None


def test_a_recording_that_was_refused_is_no_question() -> None:
    voice = spoken()
    assert voice.recordings[0] is not None
    voice.recordings[0].refused = True
    assert asked_of([user("one"), voice]).question == "one"


def test_sound_is_kept_until_it_was_heard_and_answered() -> None:
    voice = spoken()
    recording = voice.recordings[0]
    assert recording is not None
    asked_of([voice, assistant("yes")])
    assert recording.samples is not None  # nobody has encoded it
    recording.heard = object()  # type: ignore[assignment]
    asked_of([voice, assistant("")])
    assert recording.samples is not None  # it may be asked again
    asked_of([voice, assistant("yes")])
    assert recording.samples is None


def test_a_replayed_question_is_known_by_its_transcript() -> None:
    part = Part(type="input_audio", transcript="how warm")
    assert asked_of([Entry(MessageItem(role="user", content=[part]))]).question == "how warm"


def test_system_messages_are_told_apart_and_tools_read_as_words() -> None:
    system = Entry(MessageItem(role="system", content=[Part(type="input_text", text="Be kind.")]))
    call = Entry(FunctionCallItem(name="now", arguments="{}", call_id="c"))
    output = Entry(FunctionOutputItem(call_id="c", output="noon"))
    asked = asked_of([system, user("When?"), call, output])
    assert asked.system == ["Be kind."] and asked.question == "noon"
    assert [(one.question, one.answer) for one in asked.past] == [("When?", "now({})")]


def test_what_the_model_said_itself_keeps_its_tokens() -> None:
    (exchange,) = asked_of([user("Where?"), assistant("", said())]).past
    assert (exchange.answer, exchange.answer_ids) == ("The capital is Rome.", (0, 1, 2, 3, 4, 5))


# Words that were not heard


@pytest.mark.parametrize(
    ("audio_end_ms", "heard"),
    [
        (0, ""), (100, ""), (210, "The"), (450, "The"), (650, "The capital"),
        (790, "The capital"), (1_010, "The capital is"), (1_199, "The capital is"),
        (1_200, "The capital is Rome."), (9_999, "The capital is Rome."),
    ],
)  # fmt: skip
def test_words_are_kept_up_to_what_was_heard(audio_end_ms: int, heard: str) -> None:
    answer = said()
    answer.cut(audio_end_ms)
    assert answer.text == heard
    assert answer.audio_ms == min(audio_end_ms, 1_200)
    assert len(answer.ids) == len(answer.tokens)


@pytest.mark.parametrize(
    ("chunks", "kept"), [(0, ""), (1, "The"), (2, "The capital is"), (3, "The capital is Rome.")]
)
def test_of_an_answer_that_was_stopped_what_has_sounded_is_kept(chunks: int, kept: str) -> None:
    answer = said()
    answer.chunks = answer.chunks[:chunks]
    answer.break_off()
    assert answer.text == kept
    answer.cut(9_999)
    assert answer.text == kept
    # It would go on where the next word begins: " cap" is the second half of the first chunk.
    assert answer.words_end_ms == {0: 0, 1: 200, 2: 800, 3: 1_200}[chunks]


def test_a_second_cut_only_takes_more_away() -> None:
    answer = said()
    answer.cut(700)
    once = answer.text
    answer.cut(1_000)
    assert answer.text == once
    answer.cut(300)
    assert answer.text == "The"


def test_a_last_chunk_without_a_new_word_is_cut_too() -> None:
    answer = Said([(0, "Yes"), (1, ".")], [(400.0, 2), (900.0, 2)])
    answer.cut(600)
    assert answer.text == "Yes."


def test_an_answer_without_sound_is_not_cut() -> None:
    answer = Said([(0, "Yes"), (1, ".")])
    answer.cut(0)
    assert answer.text == "Yes."
