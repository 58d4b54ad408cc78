"""Whatever was trained is in the saved folder, whoever trained it and however."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from torch import nn
from transformers import Trainer, TrainingArguments

from omni.checkpoint.touched import touched
from omni.files.folders import CheckpointError, read_json
from omni.language_model import is_lora
from omni.loading import NANO, load
from omni.model import OmniForConditionalGeneration
from tests.tiny import question, tiny_bases, tiny_model, tiny_processor

torch.set_num_threads(1)
PARTS = ("speech_encoder", "speech_adapter", "language_model", "unit_decoder", "vocoder")


def lora(**settings) -> LoraConfig:
    """peft writes into the one that it is given, so each wrap has its own."""
    return LoraConfig(**({"r": 2, "lora_alpha": 4, "target_modules": "all-linear"} | settings))


@pytest.fixture(scope="module")
def stage1(tmp_path_factory) -> Path:
    """What stage 1 leaves: adapter and tokenizer; the encoder and the LLM are bases by name."""
    folder = tmp_path_factory.mktemp("stage1")
    encoder, llm = tiny_bases(folder)
    model = tiny_model(vocoder=None)
    model.unit_decoder, model.config.unit_decoder = None, None
    model.config.bases = {"speech_encoder": encoder, "language_model": llm}
    stored = {k: v.half() for k, v in model.speech_encoder.state_dict().items()}
    model.speech_encoder.load_state_dict(stored)  # as tiny_bases has rounded it
    model.save_pretrained(folder / "checkpoint", processor=tiny_processor(model.config))
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def stage2(stage1: Path) -> Path:
    """What stage 2 leaves: the same with a unit decoder, here also with a vocoder."""
    model, processor = load(stage1)
    spoken = tiny_model()
    model.unit_decoder, model.config.unit_decoder = spoken.unit_decoder, spoken.config.unit_decoder
    model.vocoder = spoken.vocoder
    folder = stage1.with_name("stage2")
    model.save_pretrained(folder, processor=processor)
    return folder


@pytest.fixture(scope="module")
def carried(tmp_path_factory) -> Path:
    """tests/tiny.py's model with all its parts inside."""
    folder = tmp_path_factory.mktemp("carried") / "checkpoint"
    tiny_model().save_pretrained(folder, processor=tiny_processor())
    return folder


@pytest.fixture(params=["stage1", "stage2", "carried", "nano"])
def source(request) -> Path:
    return NANO if request.param == "nano" else request.getfixturevalue(request.param)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), atol=0, rtol=0)


def read(folder: Path, **kwargs) -> OmniForConditionalGeneration:
    return OmniForConditionalGeneration.from_pretrained(folder, **kwargs)


@torch.no_grad()
def train_by_hand(module: nn.Module) -> None:
    """One weight of the last matrix moves a little, as a first step of an optimiser's would."""
    *_, last = (weight for weight in module.parameters() if weight.dim() >= 2)
    last.view(-1)[0] += 0.01


def shake(model: OmniForConditionalGeneration) -> None:
    for name, parameter in model.language_model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)


def test_a_checkpoint_read_and_saved_is_the_same_checkpoint(source: Path, tmp_path: Path) -> None:
    read(source).save_pretrained(tmp_path / "a")
    again, processor = load(tmp_path / "a")
    assert_same(again, read(source))
    assert processor.tokenizer.get_vocab() == load(source)[1].tokenizer.get_vocab()
    assert (tmp_path / "a" / "units").is_dir() == (source / "units").is_dir()
    for name in ("speech_encoder", "language_model"):  # untouched: still a name
        assert (tmp_path / "a" / name).is_dir() == (source / name).is_dir()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_the_user_has_trained_is_saved(source: Path, part: str, tmp_path: Path) -> None:
    model = read(source)
    if getattr(model, part) is None:
        assert source.name == "checkpoint" and part in ("unit_decoder", "vocoder")
        return
    train_by_hand(getattr(model, part))
    model.save_pretrained(tmp_path / "a")
    again = read(tmp_path / "a")
    assert_same(again, model)
    with pytest.raises(AssertionError):
        assert_same(again, read(source))


def test_saved_twice_and_over_itself_it_stays_the_same(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "a")
    for _ in range(2):
        model = read(tmp_path / "a")
        train_by_hand(model.language_model)
        train_by_hand(model.speech_encoder)
        model.save_pretrained(tmp_path / "a")
        assert_same(load(tmp_path / "a")[0], model)
        model.save_pretrained(tmp_path / "a")
        assert_same(load(tmp_path / "a")[0], model)


def test_a_self_contained_copy_needs_no_base(stage2: Path, tmp_path: Path) -> None:
    model = read(stage2)
    model.save_pretrained(tmp_path / "a", self_contained=True)
    assert read_json(tmp_path / "a" / "config.json")["bases"] == {}
    assert_same(read(tmp_path / "a"), model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_base_in_another_precision_is_still_its_base(
    stage1: Path, dtype: str, tmp_path: Path
) -> None:
    model = read(stage1, dtype=dtype)
    model.save_pretrained(tmp_path / "a")
    model.float().save_pretrained(tmp_path / "b")  # what was rounded stays rounded
    read(stage1).to(torch.bfloat16).save_pretrained(tmp_path / "c")
    for name in "abc":
        assert not (tmp_path / name / "language_model").exists()
        assert not (tmp_path / name / "speech_encoder").exists()


def test_a_base_that_cannot_be_read_any_more_is_carried_and_told(
    stage1: Path, tmp_path: Path, caplog
) -> None:
    model = read(stage1)
    model.config.bases = {name: str(tmp_path / "gone" / name) for name in model.config.bases}
    model.save_pretrained(tmp_path / "a")
    assert "language_model is saved whole" in caplog.text
    assert "speech_encoder is saved whole" in caplog.text
    assert_same(read(tmp_path / "a"), model)


def test_a_base_that_has_changed_on_disk_is_carried(stage1: Path, tmp_path: Path) -> None:
    shutil.copytree(stage1.parent, tmp_path / "all")
    model = read(stage1)
    model.config.bases["language_model"] = str(tmp_path / "all" / "llm")
    other = tiny_model(seed=3)
    other.language_model.save_pretrained(tmp_path / "all" / "llm")
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_a_base_inside_the_folder_that_is_replaced_is_carried(
    carried: Path, tmp_path: Path
) -> None:
    shutil.copytree(carried, tmp_path / "a")
    model = read(tmp_path / "a")
    model.config.bases = {"language_model": str(tmp_path / "a" / "language_model")}
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_grown_embeddings_are_saved(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model.resize_token_embeddings(model.config.text_config.vocab_size + 8)
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_an_untied_output_layer_is_saved(tmp_path: Path) -> None:
    model = read(NANO)
    assert model.config.text_config.tie_word_embeddings
    model.language_model.save_pretrained(tmp_path / "llm")
    model.config.bases = {"language_model": str(tmp_path / "llm")}
    model.save_pretrained(tmp_path / "tied")
    assert not (tmp_path / "tied" / "language_model").exists()
    llm = model.language_model
    llm.lm_head.weight = nn.Parameter(llm.lm_head.weight + 1)
    llm.config.tie_word_embeddings = False
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_offloaded_weights_count_as_their_base(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    state = {
        name: value.to("meta") if name.startswith("language_model.model.layers") else value
        for name, value in model.state_dict().items()
    }
    model.save_pretrained(tmp_path / "a", state_dict=state)
    assert not (tmp_path / "a" / "language_model").exists()
    assert_same(read(tmp_path / "a"), model)


WRAPS: dict[str, dict] = {
    "all linear layers": {},
    "embeddings too": {
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens", "lm_head"],
    },
    "of the embeddings": {"target_modules": ["embed_tokens", "v_proj"]},
    "of singular values": {"target_modules": ["q_proj"], "init_lora_weights": "pissa"},
    "of other tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [1, 2]},
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", ["default", "mine"])
@pytest.mark.parametrize("origin", ["stage1", "carried"])
def test_an_adapter_of_peft_comes_back(
    wrap: str, name: str, origin: str, tmp_path: Path, request
) -> None:
    model = read(request.getfixturevalue(origin))
    model.language_model = get_peft_model(
        model.language_model, lora(**WRAPS[wrap]), adapter_name=name
    )
    shake(model)
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name or "trainable_tokens_delta" in name:
            nn.init.normal_(parameter, std=0.1)
    said = heard(model)
    model.save_pretrained(tmp_path / "a")
    again = read(tmp_path / "a")
    assert is_lora(again.language_model)
    torch.testing.assert_close(heard(again), said)
    again.save_pretrained(tmp_path / "b")
    torch.testing.assert_close(heard(read(tmp_path / "b")), said)


@torch.no_grad()
def heard(model: OmniForConditionalGeneration) -> torch.Tensor:
    return model.eval()(**tiny_processor()(audio=question())).logits


def test_packed_weights_of_a_quantised_llm_count_as_its_base_and_the_others_are_compared(
    stage1: Path,
) -> None:
    model = read(stage1)
    llm, base = model.language_model, model.config.bases["language_model"]
    packed = dict(llm.state_dict())
    packed["model.layers.0.mlp.up_proj.weight"] = torch.zeros(7, dtype=torch.uint8)
    packed["model.layers.0.mlp.up_proj.weight.absmax"] = torch.ones(3)
    assert touched("language_model", base, llm, packed)
    llm.hf_quantizer = object()
    assert not touched("language_model", base, llm, packed)
    packed["model.norm.weight"] = packed["model.norm.weight"] + 1
    assert touched("language_model", base, llm, packed)


def test_a_base_in_pickles_is_compared_as_well(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model.config.save_pretrained(tmp_path / "llm")
    torch.save(model.language_model.state_dict(), tmp_path / "llm" / "pytorch_model.bin")
    model.config.bases["language_model"] = str(tmp_path / "llm")
    model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a" / "language_model").exists()
    train_by_hand(model.language_model)
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_an_adapter_on_a_named_base_is_saved_alone_and_peft_reads_it(
    stage1: Path, tmp_path: Path
) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    shake(model)
    model.save_pretrained(tmp_path / "a")
    folder = tmp_path / "a" / "language_model"
    assert sorted(file.name for file in folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    other = read(stage1)
    other.language_model = PeftModel.from_pretrained(other.language_model, str(folder))
    torch.testing.assert_close(heard(other), heard(model))
    other.save_pretrained(tmp_path / "b")
    assert_same(read(tmp_path / "b"), model)


def test_a_base_that_was_trained_below_its_adapter_is_saved_with_it(
    stage1: Path, tmp_path: Path
) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    shake(model)
    train_by_hand(model.language_model.get_base_model().model.layers[0].self_attn.q_proj.base_layer)
    model.save_pretrained(tmp_path / "a")
    assert_same(read(tmp_path / "a"), model)


def test_merged_weights_are_saved_whole(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    shake(model)
    said = heard(model)
    model.language_model = model.language_model.merge_and_unload()
    model.save_pretrained(tmp_path / "a")
    again = read(tmp_path / "a")
    assert not is_lora(again.language_model)
    assert_same(again, model)
    torch.testing.assert_close(heard(again), said, atol=1e-4, rtol=1e-4)


def test_an_adapter_taken_off_again_leaves_the_base_a_name(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora()).unload()
    model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a" / "language_model").exists()


@pytest.mark.parametrize("origin", ["stage1", "carried"])
def test_an_adapter_added_without_a_wrapper_comes_back(
    origin: str, tmp_path: Path, request
) -> None:
    """As transformers' add_adapter does, which wants a newer peft than its other parts."""
    model = read(request.getfixturevalue(origin))
    inject_adapter_in_model(lora(), model.language_model)
    model.language_model._hf_peft_config_loaded = True
    shake(model)
    model.save_pretrained(tmp_path / "a")
    torch.testing.assert_close(heard(read(tmp_path / "a")), heard(model))
    with pytest.raises(CheckpointError, match=r"can't be merged; .*get_peft_model"):
        model.save_pretrained(tmp_path / "b", self_contained=True)


def test_two_adapters_are_refused_by_name(stage1: Path, tmp_path: Path) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    model.language_model.add_adapter("second", lora())
    with pytest.raises(CheckpointError, match=r"adapters default, second, .*holds one; merge"):
        model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_lora_merged_for_a_self_contained_copy_takes_gathered_weights_and_a_dtype(
    stage1: Path, tmp_path: Path
) -> None:
    model = read(stage1)
    model.language_model = get_peft_model(model.language_model, lora())
    gathered = {name: value.clone() for name, value in model.state_dict().items()}
    shake(model)
    expected = heard(model)
    gathered |= {name: value for name, value in model.state_dict().items() if "lora_" in name}
    model.save_pretrained(
        tmp_path / "a", state_dict=gathered, self_contained=True, dtype=torch.bfloat16
    )
    assert read(tmp_path / "a", dtype="auto").language_model.dtype == torch.bfloat16
    torch.testing.assert_close(heard(read(tmp_path / "a")), expected, atol=0.1, rtol=0.1)


def test_the_llm_is_sharded_as_asked(carried: Path, tmp_path: Path) -> None:
    model = read(carried)
    model.save_pretrained(tmp_path / "a", max_shard_size="20KB")
    assert len(list((tmp_path / "a" / "language_model").glob("model-*.safetensors"))) > 1
    assert_same(read(tmp_path / "a"), model)


def test_gathered_weights_are_written_for_every_part_and_lacking_parts_are_the_models(
    carried: Path, tmp_path: Path
) -> None:
    model, other = read(carried), tiny_model(seed=5)
    gathered = {k: v for k, v in other.state_dict().items() if not k.startswith("vocoder.")}
    model.save_pretrained(tmp_path / "a", state_dict=gathered)
    again = read(tmp_path / "a")
    for part in PARTS:
        assert_same(getattr(again, part), getattr(model if part == "vocoder" else other, part))


@pytest.mark.parametrize(
    ("keyword", "told"),
    [
        ({"safe_serialization": False}, r"safe_serialization=False: .*safetensors alone"),
        ({"variant": "fp16"}, r"variant='fp16': .*another folder"),
        ({"distributed_checkpoint": True}, r"distributed_checkpoint=True: .*state_dict"),
        ({"save_peft_format": False}, r"save_peft_format=False"),
        ({"commit_message": "mine"}, r"commit_message: say push_to_hub=True"),
    ],
)
def test_a_keyword_that_means_nothing_here_is_refused_by_name(
    keyword: dict, told: str, carried: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        read(carried).save_pretrained(tmp_path / "a", **keyword)
    assert not (tmp_path / "a").exists()


def test_an_unknown_keyword_is_named(carried: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="shards"):
        read(carried).save_pretrained(tmp_path / "a", shards=3)


def test_the_usual_keywords_of_transformers_are_taken(carried: Path, tmp_path: Path) -> None:
    model = read(carried)
    model.save_pretrained(
        tmp_path / "a", safe_serialization=True, variant=None, token=None, push_to_hub=False,
        max_shard_size="5GB", is_main_process=True, state_dict=model.state_dict(),
    )  # fmt: skip
    assert_same(read(tmp_path / "a"), model)


def test_another_process_than_the_main_one_leaves_even_a_wrong_folder_alone(
    carried: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    read(carried).save_pretrained(tmp_path, is_main_process=False, push_to_hub=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_trainer_of_transformers_saves_checkpoints_and_the_last_model(
    carried: Path, tmp_path: Path
) -> None:
    model, processor = load(carried)
    rows = [
        {**processor(text=text), "labels": processor(text=text)["input_ids"]}
        for text in ("What is two and two?", "How warm is it?")
    ]
    rows = [{name: value[0] for name, value in row.items()} for row in rows]
    trainer = Trainer(
        model,
        TrainingArguments(
            str(tmp_path / "out"), max_steps=2, save_steps=1, per_device_train_batch_size=1,
            report_to=[], use_cpu=True, learning_rate=1e-3, disable_tqdm=True,
        ),
        train_dataset=rows,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    assert_same(load(tmp_path / "out")[0], model)
    assert_same(read(tmp_path / "out" / "checkpoint-2"), model)
    with pytest.raises(AssertionError):
        assert_same(read(tmp_path / "out" / "checkpoint-1"), model)
    trainer.save_model()  # over itself, and the checkpoints stay
    assert (tmp_path / "out" / "checkpoint-1" / "optimizer.pt").is_file()
