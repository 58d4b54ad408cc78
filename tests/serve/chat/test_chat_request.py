"""What a request may say, and how what it may not is told."""

from typing import Any

import pytest

from serve.chat.making import answer_config
from serve.chat.request import chat_request
from serve.realtime import Refused
from tests.chat import user
from tests.talk import SHORT

PLAIN = {"model": "tiny", "messages": [user("Hello")]}
SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}


def refused(**fields: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        chat_request(PLAIN | fields)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"n": 2}, "n", "2: one answer is made"),
        ({"logprobs": True}, "logprobs", "no probabilities"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "likelier"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not penalised"),
        ({"response_format": {"type": "json_object"}}, "response_format", "plain text"),
        ({"tool_choice": "required"}, "tool_choice", "calls no function"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": float("nan")}, "temperature", "finite"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"seed": 2**70}, "seed", "less than"),
        ({"stop": ["a"] * 5}, "stop", "at most 4"),
        ({"stop": ""}, "stop[0]", "at least 1"),
        ({"modalities": ["video"]}, "modalities[0]", "'text' or 'audio'"),
        ({"modalities": ["text", "audio"]}, None, "audio is missing"),
        (SPOKEN | {"audio": {"voice": "a", "format": "opus"}}, "audio.format", "'wav' or 'pcm16'"),
        (SPOKEN | {"stream": True}, None, "a stream is pcm16"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "bard", "content": ""}]}, "messages[0]", "'assistant'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        ({"messages": [user({"type": "image_url"})]}, "messages[0].content[0]", "'input_audio'"),
        (
            {"messages": [user("a", {"type": "input_audio", "input_audio": {"format": "wav"}})]},
            "messages[0].content[1].input_audio.data",
            "required",
        ),
        (
            {
                "messages": [
                    user({"type": "input_audio", "input_audio": {"data": "", "format": "aac"}})
                ]
            },
            "messages[0].content[0].input_audio.format",
            "'wav'",
        ),
    ],
)
def test_what_cannot_be_done_is_told_with_its_place(
    fields: dict[str, Any], param: str | None, told: str
) -> None:
    found = refused(**fields)
    assert found.param == param and told in found.message
    assert "Value error" not in found.message and (param or "") in found.message


def test_what_is_missing_has_its_own_code() -> None:
    with pytest.raises(Refused) as caught:
        chat_request({"messages": [user("Hello")]})
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "model")


def test_unknown_fields_and_nulls_are_passed_over() -> None:
    extra = {"store": False, "service_tier": "auto", "temperature": None, "audio": None, "n": None}
    request = chat_request(PLAIN | extra | {"stop": None, "modalities": None})
    assert request.n == 1 and request.temperature is None and not request.speaks


def test_what_is_asked_of_the_model_stands_in_its_settings() -> None:
    given = {"max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": "END"}
    config = answer_config(chat_request(PLAIN | given), SHORT)
    sampling = config.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.5, 0.9, 3)
    assert (config.max_new_tokens, config.stop, config.speak) == (7, ("END",), False)
    assert answer_config(chat_request(PLAIN | SPOKEN), SHORT).speak


def test_the_newer_name_of_the_longest_answer_goes_first_and_is_bounded() -> None:
    given = {"max_tokens": 7, "max_completion_tokens": 9}
    assert chat_request(PLAIN | given).longest == 9
    assert chat_request(PLAIN | {"max_tokens": 10**9}).longest == 4_096


def test_without_a_seed_every_answer_has_another_and_a_cold_one_needs_none() -> None:
    configs = [answer_config(chat_request(PLAIN), SHORT) for _ in range(2)]
    assert configs[0].sampling.seed != configs[1].sampling.seed
    cold = answer_config(chat_request(PLAIN | {"temperature": 1e-300}), SHORT)
    assert cold.sampling.temperature == 0
