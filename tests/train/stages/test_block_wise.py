"""Block-wise hearing: LoRA alone learns what the frozen encoder hears in whole questions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_tools.manifest.record import Manifest, read_manifest
from data_tools.speech import AugmentConfig
from omni.checkpoint import base_digest
from omni.encoder_lora import TARGETS
from omni.files.errors import UserError
from omni.loading import load
from omni.prompt import SPEECH, PromptConfig
from omni.session import SpeechSession
from omni.speech_adapter import SpeechAdapterConfig
from tests.tiny import question, tiny_bases, tiny_processor, tiny_records
from train.data import examples, recordings_of
from train.loop.loop import LoopConfig
from train.loop.order import Item
from train.stages.beginning import join_bases
from train.stages.block_wise import Blocks, Heard, HearsInBlocks, collate, measure, train_blocks
from train.stages.stage1 import Lora, Stage1

torch.set_num_threads(1)
RECIPE = Blocks(
    loop=LoopConfig(
        epochs=30, batch_size=4, learning_rate=1e-2, weight_decay=0.0, save_steps=7,
        device="cpu", dtype="float32",
    ),
    lora=Lora(rank=4, alpha=8),
    block_frames=5,
    augmentation=AugmentConfig(),
)  # fmt: skip
HEARING = Stage1(
    adapter=SpeechAdapterConfig(stack=5, hidden=32), prompt=PromptConfig(speech_line=SPEECH),
    loop=RECIPE.loop, language_model="frozen",
)  # fmt: skip
Ended = tuple[Path, dict[str, float]]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(tiny_records(tmp_path_factory.mktemp("data"), train=12))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose encoder looks both ways; its bases are named."""
    folder = tmp_path_factory.mktemp("whole")
    model, processor = join_bases(*tiny_bases(folder), HEARING, seed=1)
    model.save_pretrained(folder / "checkpoint", processor=processor)
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def trained(whole: Path, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    output = tmp_path_factory.mktemp("blocks")
    return output, train_blocks(whole, manifest, recipe=RECIPE, output=output)


def test_frames_come_closer_to_those_of_the_whole(trained: Ended) -> None:
    _, told = trained
    assert told["before_relative_rms"] > 0.05
    assert told["eval_relative_rms"] < 0.8 * told["before_relative_rms"]
    assert told["eval_cosine"] > told["before_cosine"]
    assert told["eval_relative_rms"] ** 2 == pytest.approx(told["eval_loss"], rel=1e-3)


def test_nothing_but_lora_trains(whole: Path, trained: Ended) -> None:
    before, after = load(whole)[0], load(trained[0] / "checkpoint")[0]
    base = before.config.bases["speech_encoder"]
    assert after.config.bases == before.config.bases
    assert after.config.base_digests == before.config.base_digests
    assert after.config.base_digests[base] == base_digest("speech_encoder", base)
    kept = load_file(next(trained[0].glob("checkpoint-*")) / "model.safetensors")
    assert kept and all("lora_" in name for name in kept)
    for name, value in before.state_dict().items():
        moved = not torch.equal(value, after.state_dict()[name])
        adapted = name.split(".")[-2] in TARGETS and name.endswith("weight")
        assert moved == (name.startswith("speech_encoder.layers.") and adapted), name
    assert after.config.trained["blocks"] == ["speech_encoder"]


def test_fresh_lora_hears_as_the_base_does_and_blocks_make_the_difference(
    whole: Path, manifest: Manifest
) -> None:
    model, processor = load(whole)
    encoder = model.speech_encoder
    path = manifest.audio_path(manifest.records[0].turns[0])
    losses = []
    for frames in (500, 5):
        recipe = replace(RECIPE, block_frames=frames)
        in_blocks = recipe.of(encoder.config)
        module = HearsInBlocks(encoder, in_blocks, recipe.lora).eval()
        batch = collate([Heard([path], processor, in_blocks)[0]])
        with torch.no_grad():
            # The same log-mel for both, so that the blocks alone differ.
            found = module(**batch | {"input_features": batch["whole_features"]})
        losses.append(float(found["loss"]))
    assert losses[0] < 1e-10 and losses[1] > 1e-4


def test_what_is_said_live_is_what_is_said_of_the_whole(trained: Ended) -> None:
    model, processor = load(trained[0] / "checkpoint")
    assert model.speech_encoder.config.block_frames == RECIPE.block_frames
    asked = question(0.9)
    live, given = (SpeechSession(model, processor) for _ in range(2))
    for start in range(0, len(asked), 1600):
        live.push_audio(asked[start : start + 1600])
    said = [type(event).__name__ + str(getattr(event, "text", "")) for event in live.run()]
    assert said == [
        type(event).__name__ + str(getattr(event, "text", "")) for event in given.ask(asked)
    ]


def test_a_killed_and_resumed_run_ends_bitwise_like_one_that_was_not(
    whole: Path, manifest: Manifest, trained: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        trains, forward = [], HearsInBlocks.forward

        def limited(self, labels, **batch):
            trains.append(self.training)
            if sum(trains) == 10:  # after the first checkpoint
                raise KeyboardInterrupt
            return forward(self, labels=labels, **batch)

        patch.setattr(HearsInBlocks, "forward", limited)
        with pytest.raises(KeyboardInterrupt):
            train_blocks(whole, manifest, recipe=RECIPE, output=tmp_path)
    assert (tmp_path / "checkpoint-7").is_dir() and not (tmp_path / "checkpoint").exists()
    told = train_blocks(whole, manifest, recipe=RECIPE, output=tmp_path)
    name = "checkpoint/speech_encoder/adapter_model.safetensors"
    one, other = (load_file(folder / name) for folder in (trained[0], tmp_path))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert told["eval_relative_rms"] == trained[1]["eval_relative_rms"]


def test_other_blocks_are_another_run(whole: Path, manifest: Manifest, trained: Ended) -> None:
    other = replace(RECIPE, block_frames=10)
    with pytest.raises(UserError, match=r"recipe\.block_frames=5, this one has 10"):
        train_blocks(whole, manifest, recipe=other, output=trained[0])


def test_an_encoder_that_hears_in_blocks_already_is_refused(
    manifest: Manifest, trained: Ended, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"block_frames=5: .* in blocks already"):
        train_blocks(trained[0] / "checkpoint", manifest, recipe=RECIPE, output=tmp_path)


def test_blocks_without_a_frame_are_refused(
    whole: Path, manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="block_frames=0: must be at least 1"):
        train_blocks(whole, manifest, recipe=replace(RECIPE, block_frames=0), output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_hears_30_s_of_padding_is_refused(
    whole: Path, manifest: Manifest, tmp_path: Path
) -> None:
    model, processor = load(whole)
    model.config.pad_to_window = True
    model.save_pretrained(tmp_path / "padded", processor=processor)
    with pytest.raises(UserError, match="30 s of padding"):
        train_blocks(tmp_path / "padded", manifest, recipe=RECIPE, output=tmp_path / "out")


def test_the_first_of_several_processes_measures_in_any_type_without_the_others(
    whole: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for what it measures, so it may not ask them anything meanwhile."""
    model, processor = load(whole)
    encoder = model.speech_encoder
    module = HearsInBlocks(encoder, RECIPE.of(encoder.config), RECIPE.lora)
    heard = Heard(recordings_of(examples(manifest, "validation")), processor, encoder.config)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert measure(module, heard, replace(RECIPE.loop, dtype="bfloat16"))["relative_rms"] > 0


def test_training_hears_clean_and_augmented_recordings_by_turns(manifest: Manifest) -> None:
    paths = [manifest.audio_path(record.turns[0]) for record in manifest.records[:2]]
    processor = tiny_processor()
    data = Heard(paths, processor, RECIPE.of(processor.config.encoder), AugmentConfig(), 1)
    clean = [data[index]["whole"] for index in range(2)]
    for epoch in range(2):
        heard = [data[Item(epoch, index)]["whole"] for index in range(2)]
        same = [np.array_equal(a, b) for a, b in zip(clean, heard, strict=True)]
        assert same == [epoch == 0, epoch == 1]
