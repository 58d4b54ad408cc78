"""A session answers as its checkpoint says: what tune chose, how to sample, how long."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import omni
from omni.cli import app
from omni.model import OmniForConditionalGeneration
from omni.session import SpeechSession
from omni.session.config import SessionConfig
from omni.session.events import Done
from omni.session.sampling import Sampling
from omni.vocoder.chunking import AUTO, Fixed
from omni.vocoder.streaming import StreamContext
from serve.tune import write_schedule
from tests.talk import answer, processor
from tests.tiny import question, tiny_model, tiny_processor


def model_with(**settings: Any) -> OmniForConditionalGeneration:
    model = tiny_model()
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    return model


def said(model: OmniForConditionalGeneration, config: SessionConfig | None) -> Done:
    return answer(SpeechSession(model, processor(), config), question())[1]


def test_a_checkpoint_that_says_nothing_leaves_the_defaults() -> None:
    assert SessionConfig.from_model(tiny_model()) == SessionConfig()


def test_what_tune_wrote_is_what_a_session_does(tmp_path: Path) -> None:
    short = model_with(max_new_tokens=8)
    short.save_pretrained(tmp_path, self_contained=True, processor=tiny_processor())
    write_schedule(tmp_path, "1", 0)
    model, _ = omni.load(str(tmp_path))
    config = SessionConfig.from_model(model)
    assert config == SessionConfig(schedule=Fixed(1), right_context_frames=0, max_new_tokens=8)
    first, *_ = tuned = said(model, None).chunks
    waiting, *_ = said(model, replace(config, right_context_frames=40)).chunks
    assert {chunk.units for chunk in tuned} == {1}
    assert first.tokens < waiting.tokens


def test_overrides_win_over_the_checkpoint() -> None:
    model = model_with(chunk_schedule="3", right_context_frames=2, max_new_tokens=6)
    config = SessionConfig.from_model(model, schedule=AUTO, right_context_frames=None, speak=False)
    assert config == SessionConfig(max_new_tokens=6, speak=False)


def test_texts_where_others_belong_are_refused_and_not_taken_letter_by_letter() -> None:
    given: Any = {"stop": "END"}, {"schedule": "10,40"}
    for wrong, remedy in zip(given, (r"write \('END',\)", "parse_schedule"), strict=True):
        with pytest.raises(ValueError, match=remedy):
            SessionConfig.from_model(tiny_model(), **wrong)


def test_an_override_that_is_no_field_is_refused() -> None:
    with pytest.raises(TypeError, match="omega"):
        SessionConfig.from_model(tiny_model(), omega=10)


def test_a_schedule_that_was_written_as_a_number_is_read() -> None:
    assert SessionConfig.from_model(model_with(chunk_schedule=10)).schedule == Fixed(10)


def test_sampling_is_that_of_the_checkpoint() -> None:
    model = model_with(do_sample=True, temperature=1.5, top_p=0.9, top_k=30, max_new_tokens=8)
    drawn = said(model, None)
    sampling = Sampling(temperature=1.5, top_p=0.9, top_k=30)
    greedy = SessionConfig(max_new_tokens=8)
    assert drawn.token_ids == said(model, replace(greedy, sampling=sampling)).token_ids
    assert drawn.token_ids != said(model, greedy).token_ids
    assert len(drawn.token_ids) == 8


def test_a_temperature_without_do_sample_draws_nothing() -> None:
    assert SessionConfig.from_model(model_with(temperature=0.7)).sampling == Sampling()


def test_what_the_settings_do_not_name_is_transformers_default() -> None:
    model = model_with(do_sample=True)
    assert SessionConfig.from_model(model).sampling == Sampling(temperature=1.0, top_k=50)


def test_the_command_answers_as_the_checkpoint_says(tmp_path: Path) -> None:
    model = model_with(chunk_schedule="3", right_context_frames=2, max_new_tokens=8)
    model.save_pretrained(tmp_path, self_contained=True, processor=tiny_processor())
    arguments = [
        "ask", "--text", "Tell me", "--checkpoint", str(tmp_path), "--threads", "1", "--json",
        "-o", str(tmp_path / "answer.wav"),
    ]  # fmt: skip

    def reply(*more: str) -> dict[str, Any]:
        result = CliRunner().invoke(app, [*arguments, *more])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    _, expected = answer(SpeechSession(model, processor()), "Tell me")
    stored = reply()
    assert stored["token_ids"] == expected.token_ids and len(expected.token_ids) == 8
    for name in ("units", "tokens"):
        values = [chunk[name] for chunk in stored["chunks"]]
        assert values == [getattr(chunk, name) for chunk in expected.chunks]
    assert len(reply("--max-new-tokens", "3")["token_ids"]) == 3
    assert len(reply("--chunk-units", "all")["chunks"]) == 1 < len(stored["chunks"])


def test_cross_fades_have_one_default() -> None:
    model = tiny_model()
    talk = SpeechSession(model, processor(), SessionConfig())
    assert talk._speaker is not None and talk._speaker._vocoder is not None
    assert model.vocoder is not None
    assert talk._speaker._vocoder.context == StreamContext.recommended(model.vocoder)


def test_a_negative_cross_fade_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 0 or more"):
        SpeechSession(tiny_model(), processor(), SessionConfig(crossfade_ms=-1))
