"""A conversation as events: the same words whatever the schedule, and bad questions are refused."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.audio import AudioError
from omni.ctc import best_units
from omni.prompt import IGNORE
from omni.session.config import SessionConfig
from omni.session.events import AudioDelta, Done, Event, TextDelta
from omni.session.sampling import Sampling
from omni.session.session import SpeechSession
from omni.vocoder import Vocoder, vocode
from omni.vocoder.chunking import Whole, parse_schedule
from tests.talk import BAD, SHORT, answer, fresh_second_turn, model, processor, session
from tests.tiny import question, tiny_model

torch.set_num_threads(1)


def joined(events: list[Event]) -> np.ndarray:
    waves = [event.waveform for event in events if isinstance(event, AudioDelta)]
    return np.concatenate(waves) if waves else np.zeros(0, np.float32)


@pytest.mark.parametrize("asked", ["Tell me", 1.0, 2.35])
def test_the_streamed_text_is_that_of_generate(asked: str | float) -> None:
    events, done = answer(session(), question(asked) if isinstance(asked, float) else asked)
    batch = processor()(audio=question(asked)) if isinstance(asked, float) else processor()(asked)
    generated = model().generate(**batch, max_new_tokens=10, do_sample=False)
    reply = generated[0, batch["input_ids"].shape[1] :].tolist()
    assert done.token_ids == reply
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert "".join(delta.text for delta in deltas) == done.text
    assert [delta.token_id for delta in deltas] == done.token_ids
    assert done.text == processor().decode(reply)


def test_units_are_those_of_the_whole_unit_decoder_on_the_same_states() -> None:
    _, done = answer(session(), question())
    batch = processor()(audio=question())
    prompt = batch.pop("input_ids")[0].tolist()
    ids = torch.tensor([prompt + done.token_ids])
    labels = torch.tensor([[IGNORE] * len(prompt) + done.token_ids])
    batch["attention_mask"] = torch.ones_like(ids)
    states = model().teacher_forced_states(input_ids=ids, labels=labels, **batch)
    decoder = model().unit_decoder
    assert decoder is not None
    with torch.no_grad():
        assert done.units == best_units(decoder(states))[0]
    assert len(done.units) > 5


@pytest.mark.parametrize("vocoder", ["nsf", "hifigan"])
@pytest.mark.parametrize("schedule", ["1", "3", "2,5", "all"])
def test_with_full_right_context_joined_chunks_are_the_whole_waveform(
    schedule: str, vocoder: str
) -> None:
    voice = model(vocoder).vocoder
    assert isinstance(voice, Vocoder)
    config = replace(
        SHORT, schedule=parse_schedule(schedule), right_context_frames=voice.context_frames
    )
    events, done = answer(SpeechSession(model(vocoder), processor(), config), question())
    whole = vocode(voice, torch.tensor(done.units)).numpy()
    np.testing.assert_allclose(joined(events), whole, atol=1e-4)


@settings(max_examples=12, deadline=None)
@given(
    schedule=st.sampled_from(["all", "auto", "1", "4", "1,2,9"]),
    right=st.sampled_from([None, 0, 3]),
    crossfade_ms=st.sampled_from([0.0, 5.0]),
    speak=st.booleans(),
)
def test_the_schedule_changes_when_sound_comes_and_never_what_is_said(
    schedule: str, right: int | None, crossfade_ms: float, speak: bool
) -> None:
    config = SessionConfig(
        schedule=parse_schedule(schedule), right_context_frames=right, crossfade_ms=crossfade_ms,
        max_new_tokens=10, speak=speak,
    )  # fmt: skip
    events, done = answer(session(config), question())
    _, plain = answer(session(replace(SHORT, schedule=Whole())), question())
    assert (done.text, done.token_ids, done.units) == (plain.text, plain.token_ids, plain.units)
    if speak:
        assert sum(chunk.units for chunk in done.chunks) == len(done.units)
        assert len(joined(events)) == sum(chunk.samples for chunk in plain.chunks)
    else:
        assert done.chunks == []


def test_chunks_come_in_order_and_are_what_done_says_of_them() -> None:
    early = replace(SHORT, schedule=parse_schedule("2"), right_context_frames=0)
    events, done = answer(session(early), question())
    deltas = [event for event in events if isinstance(event, AudioDelta)]
    assert [delta.index for delta in deltas] == list(range(len(done.chunks)))
    assert [delta.units for delta in deltas] == [chunk.units for chunk in done.chunks]
    assert [len(delta.waveform) for delta in deltas] == [chunk.samples for chunk in done.chunks]
    assert {delta.waveform.dtype for delta in deltas} == {np.dtype(np.float32)}
    assert len(done.chunks) > 2 and done.chunks[0].tokens < len(done.token_ids)


def test_a_reply_ends_at_the_end_token_whose_state_is_still_spoken() -> None:
    _, free = answer(session(), question())
    ending = tiny_model()
    assert ending.generation_config is not None
    ending.generation_config.eos_token_id = [1, free.token_ids[5]]
    place = free.token_ids.index(free.token_ids[5])
    events, done = answer(SpeechSession(ending, processor(), SHORT), question())
    assert done.reason == "end"
    assert done.token_ids == free.token_ids[: place + 1]
    assert done.units == free.units[: len(done.units)]
    assert sum(isinstance(event, TextDelta) for event in events) == place
    _, shorter = answer(session(replace(SHORT, max_new_tokens=place)), question())
    assert len(done.units) > len(shorter.units)  # the state that predicts the end has its sound


@pytest.mark.parametrize("limit", [1, 4])
def test_a_reply_of_full_length_says_so(limit: int) -> None:
    _, done = answer(session(replace(SHORT, max_new_tokens=limit)), question())
    assert (done.reason, len(done.token_ids)) == ("length", limit)


def test_sampling_repeats_with_its_seed() -> None:
    def said(seed: int) -> list[int]:
        config = replace(SHORT, sampling=Sampling(temperature=1.0, top_p=0.9, seed=seed))
        return answer(session(config), question())[1].token_ids

    assert said(1) == said(1) != said(2)


def test_a_forward_that_fails_leaves_the_conversation_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk = session()
    answer(talk, question())
    history = list(talk.history)
    forward, calls = model().language_model.forward, count()

    def failing(*args, **kwargs):
        output = forward(*args, **kwargs)  # the cache is written by then
        if next(calls) == 2:
            raise MemoryError
        return output

    with monkeypatch.context() as patch:
        patch.setattr(model().language_model, "forward", failing)
        with pytest.raises(MemoryError):
            list(talk.ask("Tell me"))
    assert talk.history == history
    expected = fresh_second_turn(talk, "How warm is it?")
    assert answer(talk, "How warm is it?")[1].token_ids == expected.token_ids


@pytest.mark.parametrize("bad", BAD)
def test_a_failed_question_leaves_the_conversation_unchanged_and_usable(bad: str) -> None:
    talk, other = session(), session()
    for one in (talk, other):
        answer(one, question())
    history = list(talk.history)
    asked, message = BAD[bad]
    with pytest.raises(ValueError, match=message):
        list(talk.ask(asked))
    assert talk.history == history
    again, expected = answer(talk, "Tell me")[1], answer(other, "Tell me")[1]
    assert (again.token_ids, again.units) == (expected.token_ids, expected.units)


def test_nothing_pushed_is_refused() -> None:
    with pytest.raises(AudioError, match="no question"):
        list(session().run())


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        session().push_text("  ")


@pytest.mark.parametrize(
    "samples", [np.zeros(8, np.int16), np.zeros((8, 2), np.float32)], ids=["int16", "stereo"]
)
def test_samples_of_another_form_are_refused_at_the_door(samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match=r"must be \[n\] floats"):
        session().push_audio(samples)


def test_audio_pushed_in_pieces_is_one_question() -> None:
    talk = session()
    for piece in np.array_split(question(), 7):
        talk.push_audio(piece)
    done = list(talk.run())[-1]
    assert isinstance(done, Done)
    assert done.token_ids == answer(session(), question())[1].token_ids


def test_reset_forgets_the_conversation() -> None:
    talk = session()
    _, first = answer(talk, question())
    answer(talk, "Tell me")
    talk.reset()
    assert answer(talk, question())[1].token_ids == first.token_ids


def test_a_reply_stops_where_the_language_models_positions_end() -> None:
    talk = session(replace(SHORT, max_new_tokens=400, speak=False))
    asked = "word" + " word" * 99
    used = len(processor()(asked)["input_ids"][0])
    done = answer(talk, asked)[1]
    assert used + len(done.token_ids) == 512
    assert done.reason == "length"


def test_without_a_unit_decoder_there_is_text_alone() -> None:
    mute = tiny_model(vocoder=None)
    mute.unit_decoder = None
    events, done = answer(SpeechSession(mute, processor(), SHORT), question())
    assert all(isinstance(event, TextDelta | Done) for event in events)
    assert (done.units, done.chunks, done.timings.first_unit_ms) == ([], [], None)
    assert done.token_ids == answer(session(), question())[1].token_ids


def test_timings_agree_with_the_clock_that_was_handed_in() -> None:
    ticks = count()
    talk = session(replace(SHORT, schedule=parse_schedule("2")), clock=lambda: next(ticks) * 0.01)
    _, done = answer(talk, question())
    timings = done.timings
    assert timings.first_token_ms is not None and timings.first_audio_ms is not None
    assert timings.first_unit_ms is not None and timings.real_time_factor is not None
    assert timings.encode_ms == pytest.approx(10)  # the clock's second reading
    assert timings.encode_ms + timings.prefill_ms == pytest.approx(timings.first_token_ms)
    moments = [
        timings.first_token_ms,
        timings.first_unit_ms,
        timings.first_audio_ms,
        timings.total_ms,
    ]
    assert moments == sorted(moments)
    arrivals = [chunk.at_ms for chunk in done.chunks]
    assert arrivals == sorted(arrivals) and arrivals[0] == timings.first_audio_ms
    assert timings.audio_ms == sum(chunk.samples for chunk in done.chunks) / 16
    assert timings.real_time_factor == pytest.approx(timings.total_ms / timings.audio_ms)


def test_receivers_of_events_may_take_gradients() -> None:
    for _ in session().ask(question()):
        assert not torch.is_inference_mode_enabled()


def test_a_reply_of_no_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        SessionConfig(max_new_tokens=0)
