"""A checkpoint goes on: stage 1 from its adapter and LoRA, stage 2 from its unit decoder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_tools.manifest.record import Manifest, read_manifest
from omni.files import UserError
from omni.language_model import is_lora
from omni.loading import load
from omni.prompt import SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from tests.tiny import UNITS, tiny_bases, tiny_model, tiny_records
from train.loop.loop import LoopConfig
from train.stages.beginning import begin_with, heard_by, join_bases
from train.stages.stage1 import Lora, Stage1, train_stage1
from train.stages.stage2 import Stage2, train_stage2

torch.set_num_threads(1)
FIRST = Stage1(
    adapter=SpeechAdapterConfig(stack=5, hidden=32),
    prompt=PromptConfig(speech_line=SPEECH, system="You are kept."),
    loop=LoopConfig(epochs=1, batch_size=4, learning_rate=3e-3),
    language_model="lora",
    lora=Lora(rank=2, alpha=4),
)
# What a recipe says of sizes and prompt does not hold for a model that has its own.
OTHER = replace(
    FIRST,
    adapter=SpeechAdapterConfig(stack=4, hidden=16),
    prompt=PromptConfig(speech_line=SPEECH, system="You are dropped."),
    lora=Lora(rank=3, alpha=3),
)
SPEAKS = Stage2(
    hearing=FIRST, loop=LoopConfig(epochs=1, batch_size=4, learning_rate=5e-3),
    units=UNITS, width=32, layers=1, heads=2, ffn=64, upsample=6,
)  # fmt: skip
WIDER = replace(SPEAKS, width=64, upsample=5, warm_start=True)
STILL = replace(FIRST.loop, learning_rate=0.0, max_steps=1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(tiny_records(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def spoken(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after both stages, with LoRA."""
    folder = tmp_path_factory.mktemp("first")
    encoder, language_model = tiny_bases(folder)
    train_stage1(
        manifest,
        speech_encoder=encoder,
        language_model=language_model,
        recipe=FIRST,
        output=folder / "stage1",
    )
    heard = folder / "stage1" / "checkpoint"
    train_stage2(heard, manifest, recipe=SPEAKS, output=folder / "stage2")
    return folder / "stage2" / "checkpoint"


def test_a_stage_1_goes_on_where_the_checkpoint_stands(
    spoken: Path, manifest: Manifest, tmp_path: Path
) -> None:
    still = replace(OTHER, loop=STILL)
    train_stage1(manifest, checkpoint=spoken, recipe=still, output=tmp_path / "still")
    train_stage1(manifest, checkpoint=spoken, recipe=OTHER, output=tmp_path / "on")
    before, _ = load(spoken)
    unmoved, processor = load(tmp_path / "still" / "checkpoint")
    moved, _ = load(tmp_path / "on" / "checkpoint")
    assert processor.config.prompt_config.system == "You are kept."
    assert processor.config.adapter == FIRST.adapter
    assert unmoved.state_dict().keys() == before.state_dict().keys() == moved.state_dict().keys()
    for name, value in before.state_dict().items():
        assert torch.equal(value, unmoved.state_dict()[name]), name
        trains = name.startswith("speech_adapter.") or "lora_" in name
        assert torch.equal(value, moved.state_dict()[name]) != trains, name
    assert moved.unit_decoder is not None
    assert moved.config.trained == {
        "stage1": ["speech_adapter", "language_model"],
        "stage2": ["unit_decoder"],
    }


def test_lora_is_added_to_a_whole_language_model_and_merged_before_all_of_it_trains(
    spoken: Path, manifest: Manifest, tmp_path: Path
) -> None:
    whole = replace(FIRST, language_model="full")
    train_stage1(manifest, checkpoint=spoken, recipe=whole, output=tmp_path / "whole")
    merged, _ = load(tmp_path / "whole" / "checkpoint")
    assert not is_lora(merged.language_model)
    begun = begin_with(
        OTHER, checkpoint=tmp_path / "whole" / "checkpoint",
        speech_encoder=None, language_model=None, adapter=None,
    )  # fmt: skip
    llm = begun.model.language_model
    assert is_lora(llm) and llm.peft_config["default"].r == OTHER.lora.rank
    begun.model.save_pretrained(tmp_path / "again", processor=begun.processor)
    ids = torch.randint(5, 100, (1, 7))
    with torch.no_grad():
        read, expected = load(tmp_path / "again")[0], merged  # LoRA begins without an effect
        assert torch.equal(read(input_ids=ids).logits, expected(input_ids=ids).logits)


def test_a_stage_2_goes_on_with_the_checkpoints_own_unit_decoder(
    spoken: Path, manifest: Manifest, tmp_path: Path
) -> None:
    still = replace(WIDER, loop=STILL)
    train_stage2(spoken, manifest, recipe=still, output=tmp_path / "still")
    train_stage2(spoken, manifest, recipe=WIDER, output=tmp_path / "on")
    before, unmoved, moved = (
        load(folder)[0].unit_decoder
        for folder in (spoken, tmp_path / "still" / "checkpoint", tmp_path / "on" / "checkpoint")
    )
    assert before and unmoved and moved
    assert before.config == unmoved.config == moved.config
    for name, value in before.state_dict().items():
        assert torch.equal(value, unmoved.state_dict()[name]), name
    assert any(
        not torch.equal(value, moved.state_dict()[name])
        for name, value in before.state_dict().items()
    )


def test_a_warm_start_adds_letters_to_a_decoder_that_reads_none(
    spoken: Path, manifest: Manifest, tmp_path: Path
) -> None:
    spelling = replace(WIDER, spelling=4)
    train_stage2(spoken, manifest, recipe=spelling, output=tmp_path / "on")
    on = tmp_path / "on" / "checkpoint"
    still = replace(spelling, spelling=0, loop=STILL)  # it keeps the letters that it has
    train_stage2(on, manifest, recipe=still, output=tmp_path / "still")
    before, moved, unmoved = (
        load(folder)[0].unit_decoder for folder in (spoken, on, tmp_path / "still" / "checkpoint")
    )
    assert before and moved and unmoved
    assert (before.config.spelling, moved.config.spelling) == (0, 4)
    assert moved.spelling.codes.any() and moved.spelling.out_proj.weight.any()
    assert unmoved.config == moved.config
    for name, value in moved.state_dict().items():
        assert torch.equal(value, unmoved.state_dict()[name]), name


def test_a_warm_start_wants_a_unit_decoder_for_these_units(
    spoken: Path, manifest: Manifest, tmp_path: Path
) -> None:
    other = replace(WIDER, units=UNITS + 1)
    with pytest.raises(UserError, match=f"says {UNITS} units, the data have {UNITS + 1}"):
        train_stage2(spoken, manifest, recipe=other, output=tmp_path / "out")
    silent, processor = join_bases(*tiny_bases(tmp_path), FIRST, seed=1)
    silent.save_pretrained(tmp_path / "silent", processor=processor)
    with pytest.raises(UserError, match="has no unit decoder to begin with"):
        train_stage2(tmp_path / "silent", manifest, recipe=WIDER, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_beginnings_or_none_are_refused(
    spoken: Path, manifest: Manifest, tmp_path: Path
) -> None:
    encoder, language_model = tiny_bases(tmp_path)
    with pytest.raises(UserError, match="brings its own speech encoder"):
        train_stage1(
            manifest, checkpoint=spoken, speech_encoder=encoder, recipe=FIRST, output=tmp_path / "o"
        )
    with pytest.raises(UserError, match="no speech encoder; give both bases, or a checkpoint"):
        train_stage1(manifest, language_model=language_model, recipe=FIRST, output=tmp_path / "o")


def test_a_run_is_not_resumed_from_another_checkpoint(
    spoken: Path, manifest: Manifest, tmp_path: Path
) -> None:
    train_stage1(manifest, checkpoint=spoken, recipe=FIRST, output=tmp_path / "on")
    other = tmp_path / "on" / "checkpoint"
    with pytest.raises(UserError, match=r"made with checkpoint\.speech_adapter"):
        train_stage1(manifest, checkpoint=other, recipe=FIRST, output=tmp_path / "on")


@pytest.mark.parametrize("changed", [{"system": "You are somebody else."}, {}])
def test_a_checkpoint_whose_configuration_asks_otherwise_is_another_one(
    changed: dict[str, str],
) -> None:
    model = tiny_model()
    before = heard_by(model)
    assert heard_by(tiny_model()) == before
    model.config.prompt = model.config.prompt | changed
    model.config.pad_to_window = not changed
    assert heard_by(model) != before
