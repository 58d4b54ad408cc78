"""Stage 2 on a tiny model: only the unit decoder changes, and impossible pairs are named first."""

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_tools.manifest.record import Manifest, Record, read_manifest
from data_tools.speech.augmentation import AugmentConfig
from omni.files import read_json
from omni.frame_cache import CLEAN
from omni.loading import load
from omni.prompt import SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from omni.spelling import spelled
from omni.unit_decoder import UnitDecoder
from omni.values import Frames
from tests.tiny import UNITS, tiny_bases, tiny_records
from train.data.batches import Collate, Dialogues, examples, spread
from train.data.features import LiveEars
from train.data.fingerprint import state_content, state_key
from train.loop import LoopConfig
from train.loop.order import Item
from train.stages.beginning import join_bases
from train.stages.stage1 import Stage1
from train.stages.stage2 import LearnsToSpeak, Stage2, train_stage2
from train.stages.states import WRITTEN, CachedStates, ResponseTokens, cache_states, collate

torch.set_num_threads(1)
RECIPE = Stage2(
    hearing=Stage1(
        adapter=SpeechAdapterConfig(stack=5, hidden=32),
        prompt=PromptConfig(speech_line=SPEECH),
        loop=LoopConfig(epochs=1, batch_size=4, learning_rate=1e-3),
    ),
    loop=LoopConfig(epochs=3, batch_size=4, learning_rate=5e-3, save_steps=2, eval_steps=4),
    units=UNITS, width=32, layers=2, heads=2, ffn=64, upsample=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(tiny_records(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as stage 1 leaves it, untrained."""
    folder = tmp_path_factory.mktemp("stage1")
    model, processor = join_bases(*tiny_bases(folder), RECIPE.hearing, seed=1)
    model.save_pretrained(folder / "checkpoint", processor=processor)
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def trained(stage1: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("stage2")
    metrics = train_stage2(stage1, manifest, recipe=RECIPE, output=output)
    assert metrics["eval_unit_error_rate"] > 0
    return output


def with_units(manifest: Manifest, record_id: str, units: tuple[int, ...] | None) -> Manifest:
    """The manifest with other units in the last answer of one record."""

    def changed(record: Record) -> Record:
        if record.id != record_id:
            return record
        return replace(record, turns=(*record.turns[:-1], replace(record.turns[-1], units=units)))

    return Manifest(records=[changed(record) for record in manifest.records], root=manifest.root)


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_nothing_on_disk_changes_but_the_unit_decoder_and_its_configuration(
    stage1: Path, trained: Path
) -> None:
    before, after = hashes(stage1), hashes(trained / "checkpoint")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"unit_decoder.safetensors", "config.json", "README.md"}  # the card
    model, _ = load(trained / "checkpoint")
    assert model.config.trained["stage2"] == ["unit_decoder"]
    assert model.unit_decoder is not None and model.unit_decoder.upsample == 6


def test_cached_states_are_those_of_a_forward_now(
    stage1: Path, trained: Path, manifest: Manifest
) -> None:
    model, processor = load(stage1)
    items = examples(manifest, "train")
    ears = LiveEars(processor, augmentation=None, seed=0)
    kept, variants = cache_states(
        model, processor, items, [], RECIPE.hearing, RECIPE.loop, trained / "states", frames=None
    )
    assert variants == (CLEAN, WRITTEN)
    data = Dialogues(items, processor, ears)
    tokens = ResponseTokens(model, processor, UnitDecoder(RECIPE.decoder(32, 0)))
    states = CachedStates(items, kept, variants, tokens)
    for index in (0, 5):
        for epoch in (0, 1):
            written = (epoch + index) % 2 == 1
            batch = Collate(processor, ears)([data.prepare(index, 0, written=written)])
            now = model.teacher_forced_states(**batch).sequence(0)
            read = states[Item(epoch, index)]["states"]
            assert torch.allclose(read, now, atol=5e-3)
            assert len(read) == int((batch["labels"] != -100).sum())


def test_questions_in_writing_alone_will_do_and_their_states_are_kept_once(
    stage1: Path, manifest: Manifest, tmp_path: Path
) -> None:
    def unheard(record: Record) -> Record:
        turns = (replace(t, speech=None) if t.role == "user" else t for t in record.turns)
        return replace(record, turns=tuple(turns))

    written = Manifest(records=[unheard(record) for record in manifest.records], root=manifest.root)
    train_stage2(stage1, written, recipe=RECIPE, output=tmp_path)
    kept = (tmp_path / "states" / "index.jsonl").read_text().splitlines()[1:]
    contents = {state_content(item) for item in examples(written, "train", "validation")}
    assert len(kept) == len(contents) > 3
    assert load(tmp_path / "checkpoint")[0].unit_decoder is not None


def test_a_recipe_may_take_some_of_the_answers_after_clean_questions_alone(
    stage1: Path, trained: Path, manifest: Manifest, tmp_path: Path
) -> None:
    items = examples(manifest, "train")
    few = spread(items, 3)
    assert len(few) == 3 < len(items)
    assert [few[0], few[-1]] == [items[0], items[2 * len(items) // 3]]
    hearing = replace(RECIPE.hearing, cached_variants=1, augmentation=AugmentConfig())
    recipe = replace(RECIPE, hearing=hearing, answers=3, clean_alone=True)
    train_stage2(stage1, manifest, recipe=recipe, output=tmp_path)
    (encoded,) = (tmp_path / "frames").glob("index.jsonl")
    keys = [key for key, _, _ in map(json.loads, encoded.read_text().splitlines()[1:])]
    assert keys and all(key.startswith("0 ") for key in keys)  # the clean variant's
    model, processor = load(stage1)
    kept, variants = cache_states(
        model, processor, few, [], hearing, RECIPE.loop, tmp_path / "states", frames=None,
        clean_alone=True,
    )  # fmt: skip
    assert variants == (CLEAN,)
    assert all(state_key(state_content(item), CLEAN) in kept for item in few)
    left_out = [state_key(state_content(item), CLEAN) for item in items if item not in few]
    assert not any(key in kept for key in left_out)
    assert state_key(state_content(few[0]), WRITTEN) not in kept


def test_with_tokens_and_letters_training_reads_what_speaking_reads(
    stage1: Path, trained: Path, manifest: Manifest, tmp_path: Path
) -> None:
    """And what is kept of the states is the same as without: the tokens follow from the text."""
    recipe = replace(RECIPE, gate_fusion=True, spelling=5)
    train_stage2(stage1, manifest, recipe=recipe, output=tmp_path)
    assert hashes(tmp_path / "states") == hashes(trained / "states")
    model, processor = load(tmp_path / "checkpoint")
    vocabulary = model.config.text_config.vocab_size
    assert model.config.units == recipe.decoder(32, vocabulary)
    assert model.unit_decoder is not None
    codes = spelled(processor.tokenizer, vocabulary, 5)
    assert codes.any() and torch.equal(model.unit_decoder.spelling.codes, codes)
    weights = load_file(tmp_path / "checkpoint" / "unit_decoder.safetensors")
    assert weights.keys() == model.unit_decoder.state_dict().keys()
    items = examples(manifest, "train")
    ears = LiveEars(processor, augmentation=None, seed=0)
    kept, variants = cache_states(
        model, processor, items, [], RECIPE.hearing, RECIPE.loop, tmp_path / "states", frames=None
    )
    data = Dialogues(items, processor, ears)
    states = CachedStates(
        items, kept, variants, ResponseTokens(model, processor, model.unit_decoder)
    )
    for index in (0, 5):  # two turns and one, spoken and in writing
        for epoch in (0, 1):
            written = (epoch + index) % 2 == 1
            batch = Collate(processor, ears)([data.prepare(index, 0, written=written)])
            now = model.teacher_forced_inputs(**batch).sequence(0)
            read = states[Item(epoch, index)]["states"]
            assert torch.allclose(read, now, atol=5e-3)
            assert torch.equal(read[:, 32:], now[:, 32:])


def test_a_stage_begun_before_gate_fusion_was_known_goes_on(
    stage1: Path, trained: Path, manifest: Manifest
) -> None:
    made_of = read_json(trained / "run.json")["made_of"]
    assert "gate_fusion" not in made_of["recipe"]
    with pytest.raises(ValueError, match="gate_fusion"):
        train_stage2(stage1, manifest, recipe=replace(RECIPE, gate_fusion=True), output=trained)


def test_a_killed_and_resumed_stage_ends_bitwise_like_one_that_was_not(
    stage1: Path,
    trained: Path,
    manifest: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        steps, forward = [], LearnsToSpeak.forward

        def limited(self, **batch):
            steps.append(None)
            if len(steps) == 4:
                raise KeyboardInterrupt
            return forward(self, **batch)

        patch.setattr(LearnsToSpeak, "forward", limited)
        with pytest.raises(KeyboardInterrupt):
            train_stage2(stage1, manifest, recipe=RECIPE, output=tmp_path)
    train_stage2(stage1, manifest, recipe=RECIPE, output=tmp_path)
    name = "checkpoint/unit_decoder.safetensors"
    whole, resumed = load_file(trained / name), load_file(tmp_path / name)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_pairs_without_a_ctc_path_are_named_before_the_first_step(
    stage1: Path, manifest: Manifest, tmp_path: Path
) -> None:
    long = with_units(manifest, "dialogue-2", tuple(range(UNITS)) * 10)
    with pytest.raises(ValueError, match=r"1 of 8 pairs .* `upsample` .*dialogue-2#0: its units"):
        train_stage2(stage1, long, recipe=RECIPE, output=tmp_path)
    assert not list(tmp_path.glob("checkpoint*"))


def test_a_tolerated_share_of_impossible_pairs_is_left_out_and_named(
    stage1: Path, manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = with_units(manifest, "dialogue-2", tuple(range(UNITS)) * 10)
    recipe = replace(RECIPE, max_infeasible=0.2, loop=replace(RECIPE.loop, max_steps=1))
    with caplog.at_level(logging.WARNING, "train.data.feasible"):
        train_stage2(stage1, long, recipe=recipe, output=tmp_path)
    assert "1 of 8 pairs have no CTC path" in caplog.text and "dialogue-2#0" in caplog.text
    (left_out,) = (item for item in examples(long, "train") if item.id == "dialogue-2#0")
    index = (tmp_path / "states" / "index.jsonl").read_text()
    assert state_content(left_out) not in index
    assert state_content(examples(long, "train")[0]) in index


def test_answers_without_units_are_named_with_the_command_that_makes_them(
    stage1: Path, manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"1 of 8 answers have no units, dialogue-4#0.*omni-train"):
        bare = with_units(manifest, "dialogue-4", None)
        train_stage2(stage1, bare, recipe=RECIPE, output=tmp_path)


def test_units_of_another_extractor_are_refused(
    stage1: Path, manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"unit {UNITS} in the manifest.* 0 to {UNITS - 1}"):
        other = with_units(manifest, "dialogue-4", (1, UNITS))
        train_stage2(stage1, other, recipe=RECIPE, output=tmp_path)


def test_the_unit_decoder_learns_its_targets(trained: Path) -> None:
    model, _ = load(trained / "checkpoint")
    torch.manual_seed(0)
    rows = [{"states": torch.randn(8, 32), "units": torch.randperm(UNITS)[:6]} for _ in range(3)]
    batch = collate(rows)
    module = LearnsToSpeak(model.unit_decoder.requires_grad_(True))  # type: ignore[union-attr]
    before = module.eval()(**batch)
    optimiser = torch.optim.AdamW(module.parameters(), 3e-3)
    for _ in range(150):
        loss = module.train()(**batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    after = module.eval()(**batch)
    assert after["loss"].item() < 0.2 * before["loss"].item()
    assert int(after["errors"].sum()) <= 3 < 12 <= int(before["errors"].sum())
    assert after["lengths"].tolist() == [6, 6, 6]


@pytest.mark.parametrize("gate_fusion", [True, False])
def test_only_with_gate_fusion_units_are_learned_from_tokens_that_the_states_do_not_tell(
    gate_fusion: bool,
) -> None:
    torch.manual_seed(0)
    decoder = UnitDecoder(
        replace(RECIPE, gate_fusion=gate_fusion, step_embedding=True, upsample=4).decoder(32, 0)
    )
    table = 0.02 * torch.randn(6, 32)  # as small as an LLM's
    spoken = torch.randperm(UNITS)[:12].reshape(6, 2)  # two units for each token
    module = LearnsToSpeak(decoder)
    optimiser = torch.optim.AdamW(module.parameters(), 5e-3)

    def batch() -> dict[str, torch.Tensor]:
        ids = torch.randint(6, (8, 5))
        states = Frames(torch.randn(8, 5, 32), torch.full((8,), 5))
        read = decoder.inputs(states, ids, lambda ids: table[ids])
        units = spoken[ids].flatten(1)
        return {
            "states": read.values, "state_lengths": read.lengths,
            "labels": units, "label_lengths": torch.full((8,), units.shape[1]),
        }  # fmt: skip

    for _ in range(250):
        loss = module.train()(**batch())["loss"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    after = module.eval()(**batch())
    wrong = int(after["errors"].sum()) / int(after["lengths"].sum())
    assert (wrong < 0.1) if gate_fusion else (wrong > 0.6)
