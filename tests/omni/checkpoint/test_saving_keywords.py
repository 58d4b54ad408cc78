"""Saving by what transformers' users know: its keywords, gathered weights, and its Trainer."""

from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments

from omni.loading import load
from tests.saving import PARTS, assert_same, read
from tests.tiny import tiny_model

torch.set_num_threads(1)


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
