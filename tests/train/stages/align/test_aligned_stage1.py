"""Stage 1 that begins with an aligned adapter, or keeps it as it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from data_tools.manifest.record import Manifest
from omni.about.parts import describe
from omni.checkpoint.bases import load_speech_encoder
from omni.files.errors import UserError
from omni.loading import load
from omni.speech_adapter import SpeechAdapterConfig
from omni.speech_encoder import save_speech_encoder
from tests.tiny import tiny_model
from tests.tones import HEARING, LOOP, TEXTS, TONES, tone
from train.stages.align import LearnsToName, token_ids
from train.stages.aligned import adapter_for, token_embeddings
from train.stages.stage1 import train_stage1

torch.set_num_threads(1)
Ended = tuple[Path, dict[str, float]]


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


def test_an_adapter_is_aligned_to_tokens_as_the_llm_reads_them_where_it_scales_its_table() -> None:
    """As Gemma does."""

    class Scaled(nn.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            return 8 * super().forward(ids)

    model = tiny_model(vocoder=None)
    table = model.get_input_embeddings()
    scaled = Scaled(*table.weight.shape, _weight=table.weight.data)
    model.language_model.set_input_embeddings(scaled)
    adapter = adapter_for(model, {5, 9, 11}, goes_on=False)
    assert adapter.mixture is not None
    read = scaled(adapter.mixture.token_ids)
    assert torch.equal(token_embeddings(model, adapter.mixture.token_ids), read)
    heard = torch.randn(4, read.shape[1])
    named = LearnsToName(adapter, token_embeddings(model, adapter.mixture.token_ids))
    in_alignment = adapter.mixture.scores(heard, named.embeddings)
    assert torch.equal(in_alignment, adapter.mixture.scores(heard, read))
    assert not torch.allclose(in_alignment, adapter.mixture.scores(heard, read / 8))
