"""Alignment: an adapter that names what it hears, and stage 1 that begins with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_tools.manifest.record import Manifest, Record, RecordTurn, read_manifest, write_manifest
from omni.about.parts import describe
from omni.audio import save_wav
from omni.checkpoint.bases import load_speech_encoder
from omni.files.errors import UserError
from omni.loading import load
from omni.prompt import SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from omni.speech_encoder import save_speech_encoder
from tests.tiny import tiny_bases, tiny_tokenizer
from train.loop.loop import LoopConfig
from train.stages.align import Align, spoken, token_ids, train_align
from train.stages.stage1 import Stage1, train_stage1

torch.set_num_threads(1)
LOOP = LoopConfig(epochs=1, batch_size=4, learning_rate=3e-3, device="cpu", dtype="float32")
HEARING = Stage1(
    adapter=SpeechAdapterConfig(stack=2, hidden=64),
    prompt=PromptConfig(speech_line=SPEECH),
    loop=LOOP,
    cached_variants=0,
)
RECIPE = Align(
    hearing=HEARING, loop=replace(LOOP, epochs=500, learning_rate=1e-2), frame_masking=0.0
)
TEXTS = ("yes", "no", "one", "two")
TONES = (150, 600, 1800, 4500)  # Hz: an untrained encoder tells these apart
Ended = tuple[Path, dict[str, float]]


def tone(hertz: float, seconds: float) -> np.ndarray:
    time = np.arange(int(16_000 * seconds)) / 16_000
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def tones(folder: Path, seconds: float = 2.0, texts: tuple[str, ...] = TEXTS) -> Manifest:
    """Four questions to learn, and the same four for validation: can it say what it has heard?"""
    (folder / "audio").mkdir(parents=True)
    records = []
    for number, text in enumerate(texts):
        path = f"audio/{number}.wav"
        save_wav(folder / path, tone(TONES[number], seconds))
        turns = (
            RecordTurn(role="user", text=f"{text.title()}!", speech=path),
            RecordTurn(role="assistant", text="Fine."),
        )
        for split in ("train", "validation"):
            records.append(Record(id=f"{split}-{number}", turns=turns, split=split))
    write_manifest(folder / "records.jsonl", records)
    return read_manifest(folder / "records.jsonl")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tones(tmp_path_factory.mktemp("data") / "spoken")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    encoder, llm = tiny_bases(tmp_path_factory.mktemp("bases"))
    return {"speech_encoder": encoder, "language_model": llm}


@pytest.fixture(scope="module")
def aligned(
    manifest: Manifest, bases: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Ended:
    output = tmp_path_factory.mktemp("align")
    return output, train_align(manifest, **bases, recipe=RECIPE, output=output)


def test_a_word_has_one_spelling() -> None:
    tokenizer = tiny_tokenizer()
    assert token_ids("What's the time?", tokenizer) == token_ids("what's  the time", tokenizer)
    assert tokenizer.decode(token_ids("Yes, one!", tokenizer)).strip() == "yes one"


def asked(
    number: int, text: str, language: str, split: str = "train", speech: str | None = None
) -> Record:
    turns = (
        RecordTurn(role="user", text=text, speech=speech),
        RecordTurn(role="assistant", text="Fine."),
    )
    return Record(id=f"{split}-{number}", turns=turns, language=language, split=split)


def test_what_is_no_speech_of_the_main_language_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [
        asked(0, "Wie spät ist es?", "de", speech="0.wav"),
        *(asked(number, "", "fr", speech="sound.wav") for number in (1, 2, 3)),
        *(asked(number, "Bonjour.", "fr") for number in (4, 5)),
        asked(6, "What's that?", "en", speech="6.wav"),
        asked(7, "Yes!", "en", speech="7.wav"),
        asked(0, "Hola.", "es", "validation", speech="8.wav"),
        asked(1, "No.", "en", "validation", speech="9.wav"),
    ]
    with caplog.at_level("INFO"):
        training, validation = spoken(Manifest(records=records, root=tmp_path))
    assert [item.question.text for item in training] == ["What's that?", "Yes!"]
    assert [item.question.text for item in validation] == ["No."]
    assert "2 questions are not in the main language, en, and are left out: 1 de, 1 es" in (
        caplog.text
    )


def test_data_without_a_spoken_question_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no question for training is spoken; give recordings"):
        spoken(Manifest(records=[asked(0, "Yes!", "en")], root=tmp_path))


def test_the_adapter_learns_to_name_what_it_hears(
    manifest: Manifest,
    bases: dict[str, str],
    aligned: Ended,
    tmp_path: Path,
) -> None:
    _, after = aligned
    brief = replace(RECIPE, loop=replace(RECIPE.loop, epochs=1))
    before = train_align(manifest, **bases, recipe=brief, output=tmp_path)
    assert before["eval_wer"] >= 0.75
    assert after["eval_wer"] == 0.0 and after["eval_loss"] < 0.5 * before["eval_loss"]


def test_stage_1_begins_with_the_aligned_adapter(
    manifest: Manifest,
    bases: dict[str, str],
    aligned: Ended,
    tmp_path: Path,
) -> None:
    folder = aligned[0] / "speech_adapter"
    still = replace(
        HEARING, language_model="frozen", loop=replace(LOOP, learning_rate=1e-12, max_steps=1)
    )
    for name, adapter in (("aligned", folder), ("random", None)):
        train_stage1(manifest, **bases, recipe=still, output=tmp_path / name, adapter=adapter)
    before = load_file(folder / "speech_adapter.safetensors")
    weights = {
        name: load_file(tmp_path / name / "checkpoint" / "speech_adapter.safetensors")
        for name in ("aligned", "random")
    }
    for key, value in before.items():
        kept = weights["aligned"][key].to(value.dtype)
        torch.testing.assert_close(kept, value, rtol=1e-3, atol=1e-3)
    assert (
        weights["random"]["linear1.weight"].float() - before["linear1.weight"]
    ).abs().max() > 0.1


def test_what_was_learnt_of_the_tokens_stays_in_the_checkpoint_and_answers(
    manifest: Manifest,
    bases: dict[str, str],
    aligned: Ended,
    tmp_path: Path,
) -> None:
    short = replace(HEARING, language_model="lora", loop=replace(LOOP, max_steps=1))
    folder = aligned[0] / "speech_adapter"
    train_stage1(manifest, **bases, recipe=short, output=tmp_path, adapter=folder)
    model, processor = load(tmp_path / "checkpoint")
    mixture = model.speech_adapter.mixture
    assert mixture is not None and model.config.adapter.vocabulary == len(mixture.token_ids)
    said = sorted({t for text in TEXTS for t in token_ids(text, processor.tokenizer)})
    assert mixture.token_ids.tolist() == said
    shapes = [part.shape for part in describe(tmp_path / "checkpoint").parts]
    assert any(f"mixes {len(said)} tokens" in shape for shape in shapes)

    words = []
    with torch.no_grad():
        for number in range(len(TEXTS)):
            mel = processor.features(tone(TONES[number], 2.0))[None]
            heard = model.encode_speech(mel, torch.ones_like(mel[:, 0], dtype=torch.bool))
            nearest = torch.cdist(heard.values[0], model.get_input_embeddings().weight.float())
            words.append(processor.tokenizer.decode(nearest.argmin(-1)))
    assert all(text in word for text, word in zip(TEXTS, words, strict=True)), words


def test_without_a_mixture_the_adapter_is_as_published(
    manifest: Manifest, bases: dict[str, str], tmp_path: Path
) -> None:
    plain = replace(RECIPE, token_mixture=False, loop=replace(RECIPE.loop, epochs=1))
    train_align(manifest, **bases, recipe=plain, output=tmp_path)
    names = set(load_file(tmp_path / "speech_adapter" / "speech_adapter.safetensors"))
    assert names == {f"linear{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}


def test_an_adapter_that_was_aligned_anew_takes_the_place_of_a_checkpoints(
    manifest: Manifest,
    bases: dict[str, str],
    aligned: Ended,
    tmp_path: Path,
) -> None:
    short = replace(HEARING, language_model="lora", loop=replace(LOOP, max_steps=1))
    train_stage1(manifest, **bases, recipe=short, output=tmp_path / "first")
    checkpoint = tmp_path / "first" / "checkpoint"
    assert load(checkpoint)[0].config.adapter.vocabulary == 0
    still = replace(short, loop=replace(short.loop, learning_rate=1e-12))
    folder = aligned[0] / "speech_adapter"
    train_stage1(
        manifest, checkpoint=checkpoint, adapter=folder, recipe=still, output=tmp_path / "second"
    )
    model, _ = load(tmp_path / "second" / "checkpoint")
    assert model.config.adapter.vocabulary > 0
    taken = model.speech_adapter.state_dict()
    for name, value in load_file(folder / "speech_adapter.safetensors").items():
        torch.testing.assert_close(taken[name], value.to(taken[name].dtype), rtol=1e-3, atol=1e-3)


def test_an_adapter_of_a_checkpoint_is_aligned_further_and_keeps_the_words_it_knew(
    manifest: Manifest,
    bases: dict[str, str],
    aligned: Ended,
    tmp_path: Path,
) -> None:
    kept = replace(HEARING, language_model="lora", loop=replace(LOOP, max_steps=1))
    folder = aligned[0] / "speech_adapter"
    train_stage1(manifest, **bases, recipe=kept, output=tmp_path / "first", adapter=folder)
    checkpoint = tmp_path / "first" / "checkpoint"
    known = load(checkpoint)[0].speech_adapter

    other = tones(tmp_path / "more", texts=("yes", "no", "three", "four"))
    still = replace(RECIPE, loop=replace(LOOP, learning_rate=1e-12, max_steps=1))
    result = train_align(other, checkpoint=checkpoint, recipe=still, output=tmp_path / "more")
    assert result["eval_wer"] == 0.5  # yes and no are still known, three and four not yet
    longer = replace(RECIPE, loop=replace(RECIPE.loop, epochs=300))
    result = train_align(other, checkpoint=checkpoint, recipe=longer, output=tmp_path / "longer")
    assert result["eval_wer"] == 0.0
    train_stage1(
        other,
        checkpoint=checkpoint,
        adapter=tmp_path / "longer" / "speech_adapter",
        recipe=replace(kept, loop=replace(kept.loop, learning_rate=1e-12)),
        output=tmp_path / "second",
    )
    model, processor = load(tmp_path / "second" / "checkpoint")
    assert known.mixture is not None and model.speech_adapter.mixture is not None
    tokens = model.speech_adapter.mixture.token_ids.tolist()
    before = known.mixture.token_ids.tolist()
    assert tokens[: len(before)] == before
    new = {token for text in ("three", "four") for token in token_ids(text, processor.tokenizer)}
    assert new <= set(tokens) and len(tokens) == len(set(tokens))


def test_another_checkpoints_adapter_is_another_alignment(
    manifest: Manifest, bases: dict[str, str], aligned: Ended, tmp_path: Path
) -> None:
    short = replace(HEARING, language_model="lora", loop=replace(LOOP, max_steps=1))
    for name, adapter in (("a", None), ("b", aligned[0] / "speech_adapter")):
        train_stage1(manifest, **bases, recipe=short, output=tmp_path / name, adapter=adapter)
    brief = replace(RECIPE, loop=replace(LOOP, max_steps=1))
    output = tmp_path / "out"
    train_align(manifest, checkpoint=tmp_path / "a" / "checkpoint", recipe=brief, output=output)
    with pytest.raises(UserError, match="speech_adapter"):
        train_align(manifest, checkpoint=tmp_path / "b" / "checkpoint", recipe=brief, output=output)


def test_a_kept_adapter_changes_in_what_the_llm_reads_in_silence_alone(
    manifest: Manifest,
    bases: dict[str, str],
    aligned: Ended,
    tmp_path: Path,
) -> None:
    kept = replace(
        HEARING, language_model="lora", keep_adapter=True, loop=replace(LOOP, max_steps=9)
    )
    folder = aligned[0] / "speech_adapter"
    train_stage1(manifest, **bases, recipe=kept, output=tmp_path, adapter=folder)
    before = load_file(folder / "speech_adapter.safetensors")
    after = load_file(tmp_path / "checkpoint" / "speech_adapter.safetensors")
    changed = {
        name
        for name, value in before.items()
        if not torch.equal(after[name], value.to(after[name].dtype))
    }
    assert changed == {"mixture.silence"}


def test_a_random_adapter_is_not_kept(
    manifest: Manifest, bases: dict[str, str], tmp_path: Path
) -> None:
    kept = replace(HEARING, language_model="lora", keep_adapter=True)
    with pytest.raises(UserError, match="no adapter is given"):
        train_stage1(manifest, **bases, recipe=kept, output=tmp_path / "out")


def test_a_kept_adapter_and_a_frozen_llm_leave_nothing_to_train() -> None:
    with pytest.raises(UserError, match="nothing would train"):
        replace(HEARING, language_model="frozen", keep_adapter=True)


def test_another_adapter_is_another_run(
    manifest: Manifest,
    bases: dict[str, str],
    aligned: Ended,
    tmp_path: Path,
) -> None:
    short = replace(HEARING, loop=replace(LOOP, max_steps=1))
    train_stage1(manifest, **bases, recipe=short, output=tmp_path)
    with pytest.raises(UserError, match=r"speech_adapter"):
        train_stage1(
            manifest, **bases, recipe=short, output=tmp_path, adapter=aligned[0] / "speech_adapter"
        )


def test_an_adapter_of_another_size_or_other_bases_is_refused(
    manifest: Manifest,
    bases: dict[str, str],
    aligned: Ended,
    tmp_path: Path,
) -> None:
    folder = aligned[0] / "speech_adapter"
    larger = replace(HEARING, adapter=SpeechAdapterConfig(stack=2, hidden=65))
    with pytest.raises(UserError, match="align with the same recipe"):
        train_stage1(manifest, **bases, recipe=larger, output=tmp_path / "a", adapter=folder)
    encoder = load_speech_encoder(bases["speech_encoder"])
    with torch.no_grad():
        encoder.conv1.weight += 0.1
    save_speech_encoder(encoder, tmp_path / "encoder")
    others = bases | {"speech_encoder": str(tmp_path / "encoder")}
    with pytest.raises(UserError, match="another speech encoder"):
        train_stage1(manifest, **others, recipe=HEARING, output=tmp_path / "b", adapter=folder)


def test_questions_that_are_too_short_for_their_texts_are_refused(
    bases: dict[str, str], tmp_path: Path
) -> None:
    hurried = tones(tmp_path / "data", seconds=0.05)
    with pytest.raises(UserError, match=r"3 of 4 questions have more tokens than positions"):
        train_align(hurried, **bases, recipe=RECIPE, output=tmp_path / "out")


def test_a_finished_alignment_is_not_done_again(
    manifest: Manifest, bases: dict[str, str], aligned: Ended
) -> None:
    output, result = aligned
    weights = output / "speech_adapter" / "speech_adapter.safetensors"
    written = weights.stat().st_mtime_ns
    assert train_align(manifest, **bases, recipe=RECIPE, output=output) == result
    assert weights.stat().st_mtime_ns == written
    other = replace(RECIPE, frame_masking=0.2)
    with pytest.raises(UserError, match=r"recipe\.frame_masking"):
        train_align(manifest, **bases, recipe=other, output=output)
    assert np.isfinite(result["eval_loss"])
