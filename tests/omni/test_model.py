"""The joined stages: losses, aligned states, generation, gradients, Auto classes."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoProcessor

from omni.config import OmniConfig
from omni.language_model import response_states, run_language_model
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor, left_padded, pad_features
from omni.prompt import IGNORE, Message, PromptIds
from omni.session.config import SessionConfig
from omni.session.events import Done
from omni.session.session import SpeechSession
from omni.values import Frames
from omni.vocoder.chunking import Whole
from tests.tiny import question, tiny_model, tiny_processor

torch.set_num_threads(1)
LENGTH = 12


@cache
def model() -> OmniForConditionalGeneration:
    """Shared by the tests that only read it."""
    return tiny_model()


@cache
def processor() -> OmniProcessor:
    return tiny_processor()


def example(answer: str, seconds: float | None, seed: int = 0) -> tuple[PromptIds, dict]:
    """One spoken (or, with None, written) question and its answer."""
    asked, mels = Message(role="user", text="Tell me"), []
    if seconds is not None:
        mels = [processor().features(question(seconds, seed))]
        asked = Message(role="user", positions=processor().positions(mels[0].shape[1]))
    prompt = processor().prompt([asked, Message(role="assistant", text=answer)])
    return prompt, {"mels": mels}


def batch_of(*examples: tuple[PromptIds, dict]) -> dict[str, torch.Tensor]:
    """A training batch, padded on the right."""
    longest = max(len(prompt.ids) for prompt, _ in examples)

    def padded(rows: list[list[int]], value: int) -> torch.Tensor:
        return torch.tensor([row + [value] * (longest - len(row)) for row in rows])

    mels = [mel for _, speech in examples for mel in speech["mels"]]
    return {
        "input_ids": padded([prompt.ids for prompt, _ in examples], 0),
        "labels": padded([prompt.labels for prompt, _ in examples], IGNORE),
        "attention_mask": padded([[1] * len(prompt.ids) for prompt, _ in examples], 0),
        **(pad_features(mels) if mels else {}),
    }


def three() -> list[tuple[PromptIds, dict]]:
    return [
        example("It is quite warm.", 1.03),
        example("Four.", None),
        example("Paris, I think it is.", 0.5, seed=1),
    ]


@torch.no_grad()
def test_the_loss_is_that_of_the_response_tokens_and_no_others() -> None:
    batch = batch_of(*three())
    output = model()(**batch)
    terms = []
    for row, (prompt, _) in enumerate(three()):
        for place in range(prompt.response_start, len(prompt.ids)):
            log_probs = F.log_softmax(output.logits[row, place - 1], dim=-1)
            terms.append(-log_probs[prompt.ids[place]])
    assert float(output.loss) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-5)


@torch.no_grad()
def test_with_accumulation_every_label_weighs_the_same() -> None:
    rows = [batch_of(one) for one in three()]
    items = sum(int((row["labels"] != IGNORE).sum()) for row in rows)
    parts = sum(model()(**row, num_items_in_batch=items).loss for row in rows)
    assert float(parts) == pytest.approx(float(model()(**batch_of(*three())).loss), rel=1e-5)


@torch.no_grad()
def test_the_loss_needs_scores_only_where_a_token_is_predicted() -> None:
    batch = batch_of(*three())
    whole = model()(**batch)
    kept = (batch["labels"][:, 1:] != IGNORE).any(0).nonzero().flatten()
    part = model()(**batch, logits_to_keep=kept)
    assert part.logits.shape[1] == len(kept) < batch["labels"].shape[1]
    torch.testing.assert_close(part.loss, whole.loss)
    torch.testing.assert_close(part.logits, whole.logits[:, kept])

    last = model()(**batch, logits_to_keep=2)  # the last position predicts nothing
    one = {**batch, "labels": batch["labels"].clone()}
    one["labels"][:, :-1] = IGNORE
    torch.testing.assert_close(last.loss, model()(**one).loss)


@torch.no_grad()
def test_a_row_of_a_batch_comes_out_as_if_alone() -> None:
    together = model()(**batch_of(*three())).logits
    for row, one in enumerate(three()):
        alone = model()(**batch_of(one)).logits[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_frames_from_a_cache_give_what_the_encoder_gives() -> None:
    batch = batch_of(*three())
    frames = model().speech_encoder(batch.pop("input_features"), batch["input_features_mask"])
    del batch["input_features_mask"]
    cached = model()(**batch, encoder_frames=frames.values, encoder_lengths=frames.lengths)
    torch.testing.assert_close(cached.logits, model()(**batch_of(*three())).logits)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=4))
def test_response_states_are_those_before_each_response_token(
    lengths: list[tuple[int, int]],
) -> None:
    hidden = torch.arange(10.0)[None, :, None].repeat(len(lengths), 1, 1)
    predicts = torch.zeros(len(lengths), 10, dtype=torch.bool)
    for row, (prompt, response) in enumerate(lengths):
        predicts[row, prompt - 1 : prompt - 1 + response] = True
    states = response_states(hidden, predicts)
    for row, (prompt, response) in enumerate(lengths):
        expected = torch.arange(prompt - 1.0, prompt - 1 + response)[:, None]
        torch.testing.assert_close(states.sequence(row), expected)


@pytest.mark.parametrize("seconds", [0.3, 1.1])
def test_teacher_forced_states_are_those_that_a_session_collects(seconds: float) -> None:
    speaker = model().unit_decoder
    assert speaker is not None
    collected: list[torch.Tensor] = []
    step = speaker.step
    session = SpeechSession(model(), processor(), SessionConfig(max_new_tokens=LENGTH))
    try:
        speaker.step = lambda states, state: (  # type: ignore[method-assign]
            collected.append(states.values[0]), step(states, state),
        )[1]  # fmt: skip
        done = list(session.ask(question(seconds)))[-1]
    finally:
        del speaker.step
    assert isinstance(done, Done)

    batch = processor()(audio=question(seconds))
    prompt = batch.pop("input_ids")[0].tolist()
    ids = torch.tensor([prompt + done.token_ids])
    labels = torch.tensor([[IGNORE] * len(prompt) + done.token_ids])
    batch["attention_mask"] = torch.ones_like(ids)
    states = model().teacher_forced_states(input_ids=ids, labels=labels, **batch)
    assert states.lengths.tolist() == [len(done.token_ids)] == [len(collected)]
    torch.testing.assert_close(states.values[0], torch.cat(collected), atol=1e-4, rtol=1e-4)


def test_teacher_forced_states_of_a_padded_batch_are_those_of_lone_rows() -> None:
    together = model().teacher_forced_states(**batch_of(*three()))
    for row, one in enumerate(three()):
        alone = model().teacher_forced_states(**batch_of(one))
        torch.testing.assert_close(together.sequence(row), alone.sequence(0), atol=1e-4, rtol=1e-4)


def questions() -> list:
    return [question(1.2), "Tell me", question(0.4, seed=1), "How warm is it today?"]


@pytest.mark.parametrize("use_cache", [True, False])
def test_generate_says_in_a_padded_batch_what_sessions_say_one_by_one(use_cache: bool) -> None:
    audio = [one if not isinstance(one, str) else None for one in questions()]
    text = [one if isinstance(one, str) else None for one in questions()]
    batch = processor()(text=text, audio=audio)
    generated = model().generate(
        **batch, max_new_tokens=LENGTH, do_sample=False, use_cache=use_cache
    )
    config = SessionConfig(max_new_tokens=LENGTH, schedule=Whole(), speak=False)
    for row, one in zip(generated, questions(), strict=True):
        done = list(SpeechSession(model(), processor(), config).ask(one))[-1]
        assert isinstance(done, Done)
        assert row[batch["input_ids"].shape[1] :].tolist()[: len(done.token_ids)] == done.token_ids


def test_left_padding_changes_no_logits() -> None:
    short = processor()(audio=question(0.4))
    ids = short["input_ids"][0].tolist()
    padded = left_padded([ids, [1] * (len(ids) + 7)], 0)
    speech = {name: short[name] for name in ("input_features", "input_features_mask")}
    with torch.no_grad():
        alone = model()(**short).logits[0, -1]
        row = model()(
            input_ids=padded["input_ids"][:1], attention_mask=padded["attention_mask"][:1], **speech
        ).logits[0, -1]
    torch.testing.assert_close(row, alone, atol=1e-4, rtol=1e-4)


def test_speech_slots_without_speech_are_refused() -> None:
    batch = processor()(audio=question())
    with pytest.raises(ValueError, match="no input_features came with them"):
        model()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


def test_features_without_a_mask_and_inputs_without_ids_are_refused() -> None:
    batch = processor()(audio=question())
    with pytest.raises(ValueError, match="without input_features_mask"):
        model()(input_ids=batch["input_ids"], input_features=batch["input_features"])
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
        model()(attention_mask=batch["attention_mask"])


def test_features_of_another_recording_are_refused() -> None:
    batch = processor()(audio=question(1.0)) | pad_features([processor().features(question(0.5))])
    with pytest.raises(ValueError, match="10 speech slots in input_ids, 5 speech positions"):
        model()(**batch)


def test_only_adapter_and_language_model_take_a_gradient_from_the_response() -> None:
    trained = tiny_model()
    trained.train()(**batch_of(*three())).loss.backward()
    touched = {
        name.split(".")[0] for name, parameter in trained.named_parameters()
        if parameter.grad is not None and bool(parameter.grad.any())
    }  # fmt: skip
    assert touched == {"speech_adapter", "language_model"}


def test_gradient_checkpointing_changes_memory_and_no_gradient() -> None:
    plain, saving = tiny_model(), tiny_model()
    saving.gradient_checkpointing_enable()
    for trained in (plain, saving):
        trained.train()(**batch_of(*three())).loss.backward()
    for name, parameter in plain.speech_adapter.named_parameters():
        other = saving.speech_adapter.get_parameter(name)
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-5, rtol=1e-4)


def test_the_model_ends_where_its_language_model_ends() -> None:
    config = tiny_model().config
    language_model = tiny_model().language_model
    language_model.generation_config.eos_token_id = [3, 4]
    built = OmniForConditionalGeneration(config, language_model)
    assert built.generation_config is not None
    assert built.generation_config.eos_token_id == [3, 4]


def test_the_auto_classes_of_transformers_know_a_saved_folder(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path / "omni", self_contained=True, processor=processor())
    config = AutoConfig.from_pretrained(tmp_path / "omni")
    loaded = AutoModel.from_pretrained(tmp_path / "omni")
    reader = AutoProcessor.from_pretrained(tmp_path / "omni")
    assert (type(config), type(loaded), type(reader)) == (
        OmniConfig, OmniForConditionalGeneration, OmniProcessor,
    )  # fmt: skip
    batch = reader(audio=question())
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(**batch).logits, model()(**processor()(audio=question())).logits
        )


def test_auto_classes_pass_on_what_a_model_takes_and_nothing_else(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path / "omni", self_contained=True, processor=processor())
    for name in ("dtype", "torch_dtype"):
        half = AutoModel.from_pretrained(tmp_path / "omni", **{name: torch.bfloat16})
        assert half.language_model.dtype == torch.bfloat16
    AutoModel.from_pretrained(tmp_path / "omni", local_files_only=True, token="none", revision=None)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        AutoModel.from_pretrained(tmp_path / "omni", colour="red")


def test_a_model_without_bases_is_built_from_its_configuration_alone() -> None:
    fresh = OmniForConditionalGeneration(tiny_model().config)
    frames = Frames(torch.randn(1, 10, 32), torch.tensor([10]))
    assert fresh.adapt_speech(frames).values.shape == (1, 2, 32)
    assert not any(p.requires_grad for p in fresh.speech_encoder.parameters())


@torch.no_grad()
def test_the_unit_decoder_reads_the_states_after_the_final_norm() -> None:
    embeddings = torch.randn(1, 7, 32)
    states = run_language_model(model().language_model, embeddings).hidden
    theirs = model().language_model.model(inputs_embeds=embeddings).last_hidden_state
    torch.testing.assert_close(states, theirs)
