"""Stage 1 on a tiny model: what trains, what is written, and that nothing looks ahead."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_tools.manifest.record import Manifest, read_manifest
from data_tools.speech.augmentation import AugmentConfig
from omni.files import UserError
from omni.loading import load
from omni.model import OmniForConditionalGeneration
from omni.prompt import SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from tests.tiny import tiny_bases, tiny_model, tiny_processor, tiny_records
from train.data.batches import Collate, Dialogues, examples
from train.data.features import LiveEars
from train.loop.loop import LoopConfig
from train.stages.beginning import join_bases
from train.stages.stage1 import LearnsToListen, Lora, Stage1, train_stage1

torch.set_num_threads(1)
RECIPE = Stage1(
    adapter=SpeechAdapterConfig(stack=5, hidden=32),
    prompt=PromptConfig(speech_line=SPEECH),
    loop=LoopConfig(epochs=2, batch_size=4, learning_rate=3e-3, save_steps=3, eval_steps=4),
    text_share=0.2,
    augmentation=AugmentConfig(),
    cached_variants=1,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(tiny_records(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return tiny_bases(tmp_path_factory.mktemp("bases"))


def run(
    manifest: Manifest, bases: tuple[str, str], output: Path, recipe: Stage1 = RECIPE
) -> dict[str, float]:
    encoder, llm = bases
    return train_stage1(
        manifest, speech_encoder=encoder, language_model=llm, recipe=recipe, output=output
    )


@pytest.fixture(scope="module")
def trained(
    manifest: Manifest, bases: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("stage1")
    metrics = run(manifest, bases, output)
    assert metrics["eval_loss"] > 0
    return output


def test_the_checkpoint_holds_what_trained_and_names_what_did_not(
    trained: Path, bases: tuple[str, str]
) -> None:
    folder = trained / "checkpoint"
    model, _ = load(folder)
    start, _ = join_bases(*bases, RECIPE, seed=RECIPE.loop.seed)
    before, after = start.state_dict(), model.state_dict()
    for name, value in before.items():
        stands = name.startswith("speech_encoder.")
        assert torch.equal(value, after[name]) == stands, name
    assert not (folder / "speech_encoder").exists()
    assert model.config.bases["speech_encoder"] == bases[0]
    assert model.config.trained == {"stage1": ["speech_adapter", "language_model"]}


def test_what_stands_still_is_bit_for_bit_what_it_was_also_where_weights_train_in_16_bits(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tiny_model().state_dict()
    tiny_model().save_pretrained(
        tmp_path / "whole", self_contained=True, processor=tiny_processor()
    )

    def as_deepspeed_does(module, *, finish, **_):
        finish({name: weight.bfloat16() for name, weight in module.state_dict().items()})
        return {}

    monkeypatch.setattr("train.stages.stage1.train", as_deepspeed_does)
    train_stage1(manifest, checkpoint=tmp_path / "whole", recipe=RECIPE, output=tmp_path / "stage1")
    after = load(tmp_path / "stage1/checkpoint")[0].state_dict()
    for part in ("speech_encoder.", "unit_decoder.", "vocoder."):
        names = [name for name in before if name.startswith(part)]
        assert names and all(torch.equal(before[name], after[name]) for name in names), part


def test_data_that_are_refused_leave_the_folder_to_those_that_are_mended(
    manifest: Manifest, bases: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no answered question in split train"):
        run(replace(manifest, records=[]), bases, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_lies_beside_every_checkpoint_of_the_training(trained: Path) -> None:
    folders = sorted(trained.glob("checkpoint-*"))
    assert len(folders) == 2
    last, _ = load(folders[-1] / "model")
    final, _ = load(trained / "checkpoint")
    assert all(
        torch.equal(value, final.state_dict()[name]) for name, value in last.state_dict().items()
    )


def test_training_brings_the_loss_down(
    trained: Path, manifest: Manifest, bases: tuple[str, str]
) -> None:
    processor = tiny_processor()
    ears = LiveEars(processor, augmentation=None, seed=0)
    data = Dialogues(examples(manifest, "train"), processor, ears)
    batch = Collate(processor, ears)([data[index] for index in range(len(data))])
    start, _ = join_bases(*bases, RECIPE, seed=1)
    final, _ = load(trained / "checkpoint")
    with torch.no_grad():
        before, after = (LearnsToListen(m).eval()(**batch)["loss"] for m in (start, final))
    assert float(after) < float(before) - 0.1


def test_a_joined_language_model_never_looks_ahead(bases: tuple[str, str]) -> None:
    model, _ = join_bases(*bases, RECIPE, seed=1)
    ids = torch.randint(5, 200, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0  # with padding, for a mask is then made by hand
    other = ids.clone()
    other[:, 5:] = 7
    with torch.no_grad():
        first, second = (model(input_ids=i, attention_mask=mask).logits for i in (ids, other))
    assert torch.equal(first[:, :5], second[:, :5])
    assert not torch.equal(first[:, 5:], second[:, 5:])


def test_a_configuration_shared_with_the_language_model_does_not_unmask_it(
    bases: tuple[str, str],
) -> None:
    """PreTrainedModel clears the attention kind of sub-configurations."""
    model, _ = join_bases(*bases, RECIPE, seed=1)
    model.config.text_config = model.language_model.config
    OmniForConditionalGeneration(model.config, language_model=model.language_model)
    assert model.language_model.config._attn_implementation == "sdpa"


def test_a_killed_and_resumed_stage_ends_bitwise_like_one_that_was_not(
    trained: Path,
    manifest: Manifest,
    bases: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        steps, forward = [], LearnsToListen.forward

        def limited(self, labels, **batch):
            steps.append(None)
            if len(steps) == 5:  # after the first checkpoint, within the second epoch
                raise KeyboardInterrupt
            return forward(self, labels, **batch)

        patch.setattr(LearnsToListen, "forward", limited)
        # Trainer looks for **kwargs to see whether the loss takes the number of labels.
        with pytest.raises(KeyboardInterrupt):
            run(manifest, bases, tmp_path)
    assert (tmp_path / "checkpoint-3").is_dir() and not (tmp_path / "checkpoint").exists()
    run(manifest, bases, tmp_path)
    for name in ("speech_adapter.safetensors", "language_model/model.safetensors"):
        whole, resumed = (load_file(o / "checkpoint" / name) for o in (trained, tmp_path))
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items()), name


def test_with_a_frozen_llm_only_the_adapter_is_written(
    manifest: Manifest, bases: tuple[str, str], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, language_model="frozen", cached_variants=None)
    run(manifest, bases, tmp_path, recipe)
    assert not (tmp_path / "checkpoint" / "language_model").exists()
    model, _ = load(tmp_path / "checkpoint")
    start, _ = join_bases(*bases, recipe, seed=1)
    changed = [
        n for n, v in start.state_dict().items() if not torch.equal(v, model.state_dict()[n])
    ]
    assert changed and all(name.startswith("speech_adapter.") for name in changed)


def test_with_lora_the_llm_itself_stands_still(
    manifest: Manifest, bases: tuple[str, str], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, language_model="lora", lora=Lora(rank=2, alpha=4))
    run(manifest, bases, tmp_path, recipe)
    assert (tmp_path / "checkpoint" / "language_model" / "adapter_config.json").is_file()
    model, _ = load(tmp_path / "checkpoint")
    start, _ = join_bases(*bases, recipe, seed=1)
    after = model.state_dict()
    for name, value in start.state_dict().items():
        trains = name.startswith("speech_adapter.") or "lora_" in name
        assert torch.equal(value, after[name]) != trains, name


def test_a_cache_of_another_encoder_is_refused_by_name(
    trained: Path, manifest: Manifest, bases: tuple[str, str], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, loop=replace(RECIPE.loop, seed=2))
    with pytest.raises(ValueError, match=r"frames: was made with seed=1, this run wants 2"):
        train_stage1(
            manifest, speech_encoder=bases[0], language_model=bases[1], recipe=recipe,
            output=tmp_path, cache=trained / "frames",
        )  # fmt: skip


def test_questions_all_in_writing_still_give_the_adapter_a_gradient(
    bases: tuple[str, str], manifest: Manifest
) -> None:
    """Data-parallel training waits for one."""
    model, processor = join_bases(*bases, RECIPE, seed=1)
    ears = LiveEars(processor, augmentation=None, seed=0)
    data = Dialogues(examples(manifest, "train"), processor, ears)
    batch = Collate(processor, ears)([data.prepare(0, 0, written=True)])
    LearnsToListen(model)(**batch)["loss"].backward()
    gradient = model.speech_adapter.linear1.weight.grad
    assert gradient is not None and not gradient.any()
