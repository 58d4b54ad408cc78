"""Alignment: an adapter that names what it hears, and goes on from a checkpoint's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_tools.manifest.record import Manifest, Record, RecordTurn
from omni.files.errors import UserError
from omni.loading import load
from tests.tiny import tiny_tokenizer
from tests.tones import HEARING, LOOP, RECIPE, tones
from train.stages.align import spoken, token_ids, train_align
from train.stages.stage1 import train_stage1

torch.set_num_threads(1)
Ended = tuple[Path, dict[str, float]]


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


def test_without_a_mixture_the_adapter_is_as_published(
    manifest: Manifest, bases: dict[str, str], tmp_path: Path
) -> None:
    plain = replace(RECIPE, token_mixture=False, loop=replace(RECIPE.loop, epochs=1))
    train_align(manifest, **bases, recipe=plain, output=tmp_path)
    names = set(load_file(tmp_path / "speech_adapter" / "speech_adapter.safetensors"))
    assert names == {f"linear{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}


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


def test_questions_that_are_too_short_for_their_texts_are_refused(
    bases: dict[str, str], tmp_path: Path
) -> None:
    hurried = tones(tmp_path / "data", seconds=0.05)
    with pytest.raises(UserError, match=r"3 of 4 questions have more tokens than positions"):
        train_align(hurried, **bases, recipe=RECIPE, output=tmp_path / "out")
    assert not (tmp_path / "out" / "run.json").exists()  # mended data may go there


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
