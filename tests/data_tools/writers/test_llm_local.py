"""A local model as the writer: its type, its progress, and replies that depend on no batch."""

import re
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM

from data_tools.steps.journal import LeftOut
from data_tools.writers.base import Task
from data_tools.writers.local import LocalConfig, LocalWriter, Progress
from tests.tiny import tiny_tokenizer
from tests.writers import replies, request
from train.bases.lm import SmallLlama, llama_config

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


def local(**options: Any) -> LocalWriter:
    torch.manual_seed(0)
    tokenizer = deepcopy(tiny_tokenizer())  # shared with other tests
    tokenizer.chat_template = TEMPLATE
    size = SmallLlama(
        vocabulary=len(tokenizer), width=32, layers=1, heads=2, ffn=64, max_positions=256
    )
    model = LlamaForCausalLM(llama_config(size, tokenizer))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)  # the usual small ones only repeat the last token
    options = {"max_tokens": 24, "device": "cpu", "dtype": "float32"} | options
    writer = LocalWriter(LocalConfig(model="tiny", **options), model, tokenizer)
    # Random weights never end by themselves: let a fifth of the vocabulary end a reply.
    writer.model.generation_config.eos_token_id = list(range(0, len(tokenizer), 5))
    return writer


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_local_reply_does_not_depend_on_its_batch(temperature: float) -> None:
    asked = [request(text) for text in ("What?", "How warm is it today?", "France", "It is four.")]
    alone = replies(local(temperature=temperature, batch_size=1), asked)
    together = replies(local(temperature=temperature, batch_size=3), asked)
    assert alone == together
    assert any(isinstance(reply, str) for reply in alone)


def test_temperature_draws_by_the_chat() -> None:
    asked = [request(f"What is {number}?") for number in range(6)]
    greedy, drawn = (replies(local(temperature=t), asked) for t in (0.0, 3.0))
    assert drawn == replies(local(temperature=3.0), asked[::-1])[::-1]
    assert drawn != greedy


@pytest.mark.parametrize("task", ["respond", "rewrite"])
def test_a_local_reply_that_does_not_end_is_cut_as_any_other(task: Task) -> None:
    writer = local(max_tokens=6)
    writer.model.generation_config.eos_token_id = None
    writer.tokenizer.eos_token = None
    (reply,) = replies(writer, [request("What?", task=task)])
    assert isinstance(reply, LeftOut) and "max_tokens" in reply.reason
    ids = writer.tokenizer("It is Paris. I thi", add_special_tokens=False)["input_ids"]
    cut, whole = writer.reply(ids, set(), task), writer.reply(ids, {ids[-1]}, task)
    assert cut == "It is Paris." if task == "respond" else isinstance(cut, LeftOut)
    assert isinstance(whole, str) and whole.startswith("It is Paris. I")


@pytest.mark.parametrize("fast", [True, False])
def test_a_local_model_computes_in_what_the_machine_is_fast_in_however_it_is_stored(
    fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seconds = {torch.float32: 2.0, torch.bfloat16: 1.0 if fast else 9.0}
    monkeypatch.setattr("omni.devices.product", lambda device: seconds.__getitem__)
    stored = local()
    stored.model.to(torch.float16).save_pretrained(tmp_path / "llm")
    stored.tokenizer.save_pretrained(tmp_path / "llm")
    options = {"model": str(tmp_path / "llm"), "device": "cpu", "max_tokens": 4}
    writer = LocalWriter(LocalConfig(**options))
    assert writer.model.dtype == (torch.bfloat16 if fast else torch.float32)
    assert len(replies(writer, [request("What?")])) == 1
    assert LocalWriter(LocalConfig(**options, dtype="float16")).model.dtype == torch.float16


def test_a_local_writer_shows_tokens_per_second_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("data_tools.writers.local.tqdm", partial(tqdm, mininterval=0, miniters=1))
    asked = [request(f"What is {number}?") for number in range(5)]
    replies(local(batch_size=2), asked)
    shown = capsys.readouterr().err
    assert re.search(r"tokens: .*\[00:00<00:00, *[\d.]+k?tok/s\]", shown), shown


def test_the_tokens_left_are_those_of_replies_as_long_as_the_ones_before() -> None:
    with Progress(4, max_tokens=10) as progress:
        progress.begin(2, ends={0})
        assert progress.expected() == 40
        for step in ([5, 5], [5, 0], [5, 0]):  # the second reply ends with its second token
            progress(torch.tensor([[9, token] for token in step]), None)
        assert progress.bar.n == 3 + 2
        assert progress.expected() == 2 + 4 + 2 * 2
        progress(torch.tensor([[9, 0], [9, 0]]), None)
        assert progress.bar.n == 6 and progress.expected() == 6 + 2 * 3 == progress.bar.total


def test_a_model_without_a_chat_template_is_refused() -> None:
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"tiny: has no chat template; name one tuned"):
        LocalWriter(LocalConfig(model="tiny", dtype="float32"), torch.nn.Linear(1, 1), tokenizer)
