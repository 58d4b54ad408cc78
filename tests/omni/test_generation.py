"""generate(return_audio=True) says what a session says, row by row, and transformers' way."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import omni
from omni.audio import load_audio
from omni.generation import OmniGenerateOutput
from omni.session.config import SessionConfig
from omni.session.events import AudioDelta, Done
from omni.vocoder.chunking import Whole
from tests.tiny import question, tiny_model, tiny_processor

QUESTIONS = sorted((Path(omni.__file__).parent / "nano" / "questions").glob("*.wav"))
LENGTH = 12


@cache
def nano() -> tuple[Any, Any]:
    torch.set_num_threads(1)
    return omni.load()


@cache
def tiny() -> tuple[Any, Any]:
    return tiny_model(), tiny_processor()


def session_says(parts: tuple[Any, Any], asked: Any, tokens: int) -> tuple[Done, np.ndarray]:
    config = SessionConfig(schedule=Whole(), max_new_tokens=tokens)
    *events, done = omni.SpeechSession(*parts, config).ask(asked)
    assert isinstance(done, Done)
    chunks = [event.waveform for event in events if isinstance(event, AudioDelta)]
    return done, np.concatenate(chunks) if chunks else np.empty(0, np.float32)


def check_rows(output: OmniGenerateOutput, prompt: int, said: list[tuple[Done, Any]]) -> None:
    """Ids and units are those of the sessions, the sound within 1e-4 of theirs."""
    assert output.sequences is not None and output.audio is not None
    assert output.units == [done.units for done, _ in said]
    for row, sound, (done, waveform) in zip(output.sequences, output.audio, said, strict=True):
        assert row[prompt : prompt + len(done.token_ids)].tolist() == done.token_ids
        assert sound.shape == waveform.shape
        np.testing.assert_allclose(sound.numpy(), waveform, atol=1e-4, rtol=0)


@pytest.mark.parametrize("path", QUESTIONS, ids=lambda path: path.stem)
def test_one_question_is_answered_as_a_session_answers_it(path: Path) -> None:
    model, processor = nano()
    batch = processor(audio=str(path))
    output = model.generate(
        **batch, max_new_tokens=64, return_audio=True, return_dict_in_generate=True
    )
    said = session_says(nano(), load_audio(path), 64)
    assert len(said[1]) > 8000
    check_rows(output, batch["input_ids"].shape[1], [said])


@pytest.mark.parametrize(
    "keeping", [{}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str
)
def test_a_padded_batch_says_what_sessions_say_one_by_one(keeping: dict[str, Any]) -> None:
    model, processor = nano()
    asked = [load_audio(QUESTIONS[4]), load_audio(QUESTIONS[0]), load_audio(QUESTIONS[2])]
    batch = processor(
        text=[None, "What is the capital of Italy?", None, None],
        audio=[asked[0], None, *asked[1:]],
    )
    output = model.generate(
        **batch, max_new_tokens=64, return_audio=True, return_dict_in_generate=True, **keeping
    )  # fmt: skip
    questions = [asked[0], "What is the capital of Italy?", *asked[1:]]
    said = [session_says(nano(), one, 64) for one in questions]
    assert len({len(done.token_ids) for done, _ in said}) > 1
    check_rows(output, batch["input_ids"].shape[1], said)


def test_a_reply_cut_by_its_length_is_spoken_so_far() -> None:
    model, processor = nano()
    batch = processor(audio=str(QUESTIONS[0]))
    output = model.generate(
        **batch, max_new_tokens=4, return_audio=True, return_dict_in_generate=True
    )
    done, waveform = session_says(nano(), load_audio(QUESTIONS[0]), 4)
    assert done.reason == "length"
    check_rows(output, batch["input_ids"].shape[1], [(done, waveform)])


def test_one_row_gives_ids_and_a_waveform_and_several_give_a_list() -> None:
    model, processor = tiny()
    settings = {"max_new_tokens": LENGTH, "do_sample": False}
    one, two = processor(audio=question()), processor(audio=[question(), question(0.5, seed=1)])
    ids, waveform = model.generate(**one, **settings, return_audio=True)
    assert ids.tolist() == model.generate(**one, **settings).tolist()
    assert isinstance(waveform, torch.Tensor) and waveform.ndim == 1
    ids, waveforms = model.generate(**two, **settings, return_audio=True)
    assert len(ids) == len(waveforms) == 2
    torch.testing.assert_close(waveforms[0], waveform, atol=1e-4, rtol=0)


def test_the_pipelines_word_for_it_is_known() -> None:
    model, processor = tiny()
    batch = processor(audio=question())
    assert isinstance(model.generate(**batch, max_new_tokens=3, generation_mode="audio"), tuple)
    for mode in ("text", None):
        ids = model.generate(**batch, max_new_tokens=3, generation_mode=mode)
        assert isinstance(ids, torch.Tensor)
    with pytest.raises(ValueError, match="generation_mode='image': must be 'text' or 'audio'"):
        model.generate(**batch, generation_mode="image")


def test_what_else_was_asked_of_transformers_comes_along() -> None:
    model, processor = tiny()
    output = model.generate(
        **processor(audio=question()), max_new_tokens=5, min_new_tokens=5, output_scores=True,
        return_audio=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert len(output.text.scores) == len(output.text.hidden_states) == 5


def units_of_states(model: Any, batch: Any, reply: list[int]) -> list[int]:
    """What the voice makes of a reply that the language model is told to have said."""
    from omni.ctc import best_units
    from omni.prompt import IGNORE

    prompt = batch["input_ids"].shape[1]
    ids = torch.cat([batch["input_ids"], torch.tensor([reply])], 1)
    labels = torch.full_like(ids, IGNORE)
    labels[:, prompt:] = ids[:, prompt:]
    speech = {name: batch[name] for name in ("input_features", "input_features_mask")}
    states = model.teacher_forced_states(ids, torch.ones_like(ids), labels, **speech)
    return best_units(model.unit_decoder(states))[0]


@pytest.mark.parametrize(
    "search", [{"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True, "top_k": 20}]
)
def test_replies_of_beams_and_of_chance_are_spoken_from_their_own_states(search: Any) -> None:
    model, processor = nano()
    batch = processor(audio=str(QUESTIONS[5]))
    torch.manual_seed(3)
    output = model.generate(
        **batch, max_new_tokens=24, return_audio=True, return_dict_in_generate=True, **search
    )
    prompt, end = batch["input_ids"].shape[1], processor.tokenizer.eos_token_id
    for row, units in zip(output.sequences[:, prompt:].tolist(), output.units, strict=True):
        reply = row[: row.index(end) + 1] if end in row else row
        assert units == units_of_states(model, batch, reply)


def test_with_beams_every_row_hears_its_own_recordings_in_their_order() -> None:
    """Padded together: a row of two recordings, one of none, one of one."""
    model, processor = tiny()
    sounds = [question(seconds, seed) for seed, seconds in enumerate((0.6, 1.1, 0.8))]
    talks = [
        [spoken(sounds[0]), {"role": "assistant", "content": "Yes."}, spoken(sounds[1])],
        [{"role": "user", "content": "What is two and two?"}],
        [spoken(sounds[2])],
    ]
    batch = processor.apply_chat_template(
        talks, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    expected = model.embed_prompt(
        batch["input_ids"],
        model.encode_speech(batch["input_features"], batch["input_features_mask"]),
    )
    ids, inputs = model._expand_inputs_for_generation(
        expand_size=3, input_ids=batch["input_ids"],
        **{name: batch[name] for name in batch if name != "input_ids"},
    )  # fmt: skip
    speech = model.encode_speech(inputs["input_features"], inputs["input_features_mask"])
    assert torch.equal(model.embed_prompt(ids, speech), expected.repeat_interleave(3, 0))
    beams = model.generate(**batch, max_new_tokens=4, num_beams=3)
    assert beams.shape[0] == 3


def spoken(sound: np.ndarray) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "audio", "audio": sound}]}


def test_a_reply_that_a_stop_string_ends_is_spoken_up_to_there() -> None:
    model, processor = nano()
    batch = processor(audio=[str(QUESTIONS[0]), str(QUESTIONS[4])])
    output = model.generate(
        **batch, max_new_tokens=64, stop_strings=["capital"], tokenizer=processor.tokenizer,
        return_audio=True, return_dict_in_generate=True,
    )  # fmt: skip
    stopped, whole = (len(sound) for sound in output.audio)
    assert 0 < stopped < whole / 2


@pytest.mark.parametrize("part", ["unit decoder", "vocoder"])
def test_a_checkpoint_without_a_voice_says_so_before_it_thinks(part: str) -> None:
    silent = tiny_model()
    setattr(silent, part.replace(" ", "_"), None)
    batch = tiny_processor()(audio=question())
    with pytest.raises(ValueError, match=f"this checkpoint has no {part}; use one"):
        silent.generate(**batch, return_audio=True)
    assert silent.generate(**batch, max_new_tokens=2).shape[0] == 1
