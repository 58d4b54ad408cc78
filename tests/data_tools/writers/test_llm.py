"""Writers: what a server, a local model and the rules reply, and what happens when they fail."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_tools.steps.journal import LeftOut
from data_tools.steps.service import RetryConfig, ServiceError
from data_tools.writers.base import CachedWriter, Request, Task, kept, writer_config
from data_tools.writers.endpoint import EndpointConfig, EndpointWriter, Pace
from data_tools.writers.rules import RulesConfig, RuleWriter
from tests.standin import Answer, StandIn, stand_in
from tests.writers import replies, request

# A server


def completion(text: Any, reason: str = "stop") -> Answer:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return Answer(json.dumps({"choices": [choice]}).encode())


def shouted(asked: dict[str, Any]) -> Answer:
    return completion(asked["messages"][-1]["content"].upper())


def endpoint(service: StandIn, waits: list[float], **options: Any) -> EndpointWriter:
    retry = RetryConfig(attempts=3, first_wait_s=0.5, timeout_s=options.pop("timeout_s", 5.0))
    config = EndpointConfig(model="m", url=service.url, retry=retry, **options)
    return EndpointWriter(config, sleep=waits.append)


def test_a_server_is_asked_for_a_chat_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    with stand_in(shouted) as service:
        extra = {"top_p": 0.5, "max_tokens": None}
        writer = endpoint(service, [], api_key_env="SOME_KEY", extra=extra)
        assert replies(writer, [request("hello")]) == ["HELLO"]
        writer.close()
    (asked,) = service.requests
    assert asked["path"] == "/v1/chat/completions" and asked["model"] == "m"
    assert asked["messages"] == [{"role": "user", "content": "hello"}]
    assert asked["top_p"] == 0.5 and "max_tokens" not in asked
    assert service.keys == ["Bearer secret"]


def test_many_calls_are_in_flight_at_once_and_find_their_requests() -> None:
    together = threading.Barrier(4, timeout=10)  # breaks unless four calls meet

    def good(asked: dict[str, Any]) -> Answer:
        together.wait()
        return shouted(asked)

    with stand_in(good) as service:
        writer = endpoint(service, [], concurrency=4)
        asked = [request(f"text {number}") for number in range(8)]
        assert replies(writer, asked) == [f"TEXT {number}" for number in range(8)]
        writer.close()


BROKEN = {
    "busy": Answer(status=429),
    "fails": Answer(status=500),
    "no JSON": Answer(b"<html>"),
    "no choices": Answer(b'{"choices": []}'),
    "a list": Answer(b"[1]"),
    "torn": Answer(b'{"choices": [{"mess', declared=500),
    "too slow": Answer(delay_s=0.6),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_call_that_fails_is_made_again(fault: str) -> None:
    waits: list[float] = []
    with stand_in(shouted) as service:
        service.script.append(BROKEN[fault])
        writer = endpoint(service, waits, timeout_s=0.3)
        assert replies(writer, [request("hello")]) == ["HELLO"]
        writer.close()
    assert len(service.requests) == 2 and waits == [0.5]


def test_a_server_that_stays_broken_ends_the_run_after_what_is_in_flight() -> None:
    def good(asked: dict[str, Any]) -> Answer:
        text = asked["messages"][-1]["content"]
        return Answer(status=503) if text == "bad" else shouted(asked)

    with stand_in(good) as service:
        writer = endpoint(service, [], concurrency=1)
        came = []
        with pytest.raises(ServiceError, match=r"no good answer in 3 attempts.*503"):
            for _, reply in writer.complete([request(text) for text in ("a", "bad", *"bcdefg")]):
                came.append(reply)
        writer.close()
    assert came[0] == "A"
    assert len(service.requests) < 9  # one for each request, and two more attempts for one


def test_a_refused_key_ends_the_run_at_once() -> None:
    with stand_in(lambda _: Answer(status=401)) as service:
        writer = endpoint(service, [])
        with pytest.raises(ServiceError, match="check the address, the key"):
            replies(writer, [request("hello")])
        writer.close()
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (completion("Half a sen", "length"), "max_tokens"),
        (completion("", "content_filter"), "content filter"),
        (completion(" "), "empty"),
        (completion(None), "empty"),
        (Answer(b'{"error": "too long"}', status=400), "too long"),
    ],
)
def test_a_request_without_a_good_reply_is_left_out_alone(answer: Answer, reason: str) -> None:
    with stand_in(shouted) as service:
        service.script.append(answer)
        writer = endpoint(service, [], concurrency=1)
        bad, good = replies(writer, [request("a"), request("b")])
        writer.close()
    assert isinstance(bad, LeftOut) and reason in bad.reason
    assert good == "B" and len(service.requests) == 2


CUT_OFF = {
    "Paris. It is the cap": "Paris.",
    "One sentence. Two! Thr": "One sentence. Two!",
    "It costs 3.5 euros. That is 3.": "It costs 3.5 euros.",
    "It was 1990. Then": "It was 1990.",
    "Ask Dr. Who. Then ask Dr.": "Ask Dr. Who.",
    "Do this.\n1. Wash it.\n2.": "Do this.\n1. Wash it.",
    'She said "no." And th': 'She said "no."',
    "<think>Well. Hm.</think>It is so. And": "It is so.",
    "\u5df4\u9ece\u3002\u5b83": "\u5df4\u9ece\u3002",
}


@pytest.mark.parametrize("text", CUT_OFF)
def test_a_response_that_was_cut_off_is_kept_up_to_its_last_full_sentence(text: str) -> None:
    assert kept(text, "respond", cut_off=True) == CUT_OFF[text]
    assert kept(text, "respond", cut_off=False) == text
    with stand_in(lambda _: completion(text, "length")) as service:
        writer = endpoint(service, [])
        assert replies(writer, [request("a", task="respond")]) == [CUT_OFF[text]]
        writer.close()


@pytest.mark.parametrize(
    ("text", "task", "reason"),
    [
        ("Paris is the cap", "respond", "first sentence was cut off; allow it more max_tokens"),
        ("<think>Well. It", "respond", "thinking was cut off"),
        ("<think>Well.</think>It", "respond", "first sentence was cut off"),
        ("1. ", "respond", "first sentence was cut off"),
        ("I have a dog. What", "rewrite", "question was cut off; allow it more max_tokens"),
    ],
)
def test_without_a_full_sentence_it_is_left_out_and_so_is_a_part_of_a_question(
    text: str, task: Task, reason: str
) -> None:
    reply = kept(text, task, cut_off=True)
    assert isinstance(reply, LeftOut) and reason in reply.reason


def test_calls_keep_to_their_pace() -> None:
    now, waits = [100.0], []
    pace = Pace(120, clock=lambda: now[0], sleep=waits.append)
    for _ in range(3):
        pace.wait()
    now[0] = 200.0
    pace.wait()
    assert waits == [0.5, 1.0]


def test_attempts_count_for_the_pace_too() -> None:
    waits: list[float] = []
    with stand_in(shouted) as service:
        service.script.append(Answer(status=500))
        writer = endpoint(service, waits, requests_per_minute=0.001)
        replies(writer, [request("a")])
        writer.close()
    assert waits[0] == 0.5 and waits[1] > 1000


# The cache


class Counting:
    """Says how often it was asked; leaves out what is "bad"."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def complete(self, requests: Sequence[Request]) -> Any:
        for index, item in enumerate(requests):
            self.asked.append(item.messages[0].content)
            bad = item.messages[0].content == "bad"
            yield index, LeftOut("bad") if bad else f"reply {len(self.asked)}"

    def close(self) -> None: ...


def test_what_was_replied_once_is_never_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    first = CachedWriter(Counting(), {"model": "m"}, path)
    asked = [request("a"), request("bad"), request("a", key="another record"), request("b")]
    assert replies(first, asked) == ["reply 1", LeftOut("bad"), "reply 1", "reply 3"]
    inner = Counting()
    assert replies(CachedWriter(inner, {"model": "m"}, path), asked)[::3] == ["reply 1", "reply 3"]
    assert inner.asked == ["bad"]
    other = Counting()
    replies(CachedWriter(other, {"model": "n"}, path), asked)
    assert other.asked == ["a", "bad", "b"]  # another model says other things


def test_a_torn_line_of_the_cache_costs_one_reply(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    replies(CachedWriter(Counting(), {}, path), [request("a"), request("b")])
    path.write_bytes(path.read_bytes()[:-4])
    inner = Counting()
    replies(CachedWriter(inner, {}, path), [request("a"), request("b"), request("c")])
    assert inner.asked == ["b", "c"]
    last = Counting()
    replies(CachedWriter(last, {}, path), [request("a"), request("b"), request("c")])
    assert last.asked == []


# Rules


def test_rules_say_the_same_of_the_same_record() -> None:
    writer = RuleWriter(RulesConfig(fillers=0.5, politeness=0.5))
    asked = [request("Name 3 fruits.", key=f"r{number}/0") for number in range(40)]
    said = replies(writer, asked)
    assert said == replies(writer, asked[::-1])[::-1]
    assert "Name three fruits." in said and "Can you name three fruits?" in said
    assert "Hey, name three fruits." in said and "So, can you name three fruits?" in said
    assert said != replies(RuleWriter(RulesConfig(seed=1)), asked)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request("5 > 3?"), "Hey, Five is more than three?"),
        (request("What is it?"), "Hey, what is it?"),
        (request("Paris is where?"), "Hey, Paris is where?"),
        (request("Write 2 lines. Be quick!"), "Hey, can you write two lines? Be quick!"),
        (request("Name (all) 3.", task="respond"), "Name, all, three."),
        (request("Nenne 3!", language="de"), "Nenne 3!"),
    ],
)
def test_rules_change_a_question_as_its_first_word_allows(
    asked: Request, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_tools.writers.rules.FILLERS", ("Hey,",))
    writer = RuleWriter(RulesConfig(fillers=1.0, politeness=1.0))
    assert replies(writer, [asked]) == [expected]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request("Run ```x = 1```."), "code"),
        (request("Why?", task="respond", source=None), "language model"),
    ],
)
def test_rules_leave_out_what_they_can_not_say(asked: Request, reason: str) -> None:
    (reply,) = replies(RuleWriter(RulesConfig()), [asked])
    assert isinstance(reply, LeftOut) and reason in reply.reason


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("magic", {}, ["'magic'", "rules, openai, transformers"]),
        ("openai", {}, ["writer openai", "model"]),
        ("rules", {"model": "m"}, ["writer rules", "model"]),
        ("rules", {"fillers": 2}, ["fillers=2", "0 to 1"]),
        ("openai", {"model": "m", "concurrency": 0}, ["concurrency=0"]),
        ("openai", {"model": "m", "requests_per_minute": 0}, ["requests_per_minute=0"]),
    ],
)
def test_writers_are_named_and_their_options_checked(
    kind: str, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValueError) as raised:
        writer_config(kind, **options)
    assert all(word in str(raised.value) for word in words), raised.value
