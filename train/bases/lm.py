"""A small Llama and its tokenizer from dialogues as text: the embedded default's base LLM.

Who has a LLaMA, Qwen or SmolLM uses that one; nothing later in the pipeline knows the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.utils.data import Dataset
from transformers import EvalPrediction, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_tools.manifest import Manifest, Record
from omni.files import replace_folder
from omni.prompt import (
    IGNORE,
    Message,
    PromptConfig,
    add_speech_token,
    encode_prompt,
    special_id,
)
from train.data import data_of, plain, thinned
from train.loop import (
    Item,
    LoopConfig,
    Weights,
    begin_run,
    check_installed,
    filled,
    from_first,
    train,
)

BEGIN, USER, ASSISTANT, END, PAD = "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{{ '" + BEGIN + "' }}"
    "{% for message in messages %}"
    "{{ '" + USER + "' if message['role'] == 'user' else '" + ASSISTANT + "' }}"
    "{{ message['content'] }}"
    "{{ '" + END + "' if message['role'] == 'assistant' else '' }}"
    "{% endfor %}"
    "{{ '" + ASSISTANT + "' if add_generation_prompt else '' }}"
)
NANO_PROMPT = PromptConfig(speech_line="<speech>")


@dataclass(frozen=True, kw_only=True)
class SmallLlama:
    """Sizes of a small Llama; embeddings are tied."""

    vocabulary: int = 1024
    width: int = 256
    layers: int = 4
    heads: int = 4
    ffn: int = 704
    max_positions: int = 1024


def build_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-pair encoding over bytes, so that any text can be asked, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BEGIN, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    add_speech_token(fast)
    return fast


def llama_config(size: SmallLlama, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """A LlamaConfig of these sizes whose special ids are the tokenizer's."""
    return LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        intermediate_size=size.ffn,
        max_position_embeddings=size.max_positions,
        tie_word_embeddings=True,
        bos_token_id=special_id(tokenizer, "bos"),
        eos_token_id=special_id(tokenizer, "eos"),
        pad_token_id=special_id(tokenizer, "pad"),
    )


class TextDialogues(Dataset[dict[str, list[int]]]):
    """One example per assistant turn: history and question as text, the answer as label.

    word_dropout: share of the users' words that an example of training leaves out, others in each
    epoch (Iyyer et al. 2015): a small LLM would know every sentence by heart, and understand none
    that is put otherwise. Validation (plain int) leaves out nothing.
    """

    def __init__(
        self,
        records: Sequence[Record],
        tokenizer: PreTrainedTokenizerFast,
        prompt: PromptConfig,
        *,
        word_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._tokenizer, self._prompt = tokenizer, prompt
        self._word_dropout, self._seed = word_dropout, seed
        self._dialogues = [
            [Message(role=t.role, text=t.text) for t in record.turns[: place + 1]]
            for record in records
            for place in range(1, len(record.turns), 2)
        ]
        self._whole = [encode_prompt(tokenizer, said, prompt) for said in self._dialogues]

    def __len__(self) -> int:
        return len(self._dialogues)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example with all its words, for batches of like length."""
        return [len(example.ids) for example in self._whole]

    def __getitem__(self, item: Item | int) -> dict[str, list[int]]:
        place = item if isinstance(item, Item) else Item(0, item)
        example = self._whole[place.index]
        if isinstance(item, Item) and self._word_dropout:
            rng = np.random.default_rng((self._seed, place.epoch, place.index))
            said = thinned(self._dialogues[place.index], self._word_dropout, rng)
            example = encode_prompt(self._tokenizer, said, self._prompt)
        return {"input_ids": example.ids, "labels": example.labels}


class TextCollator:
    """Pad on the right to the longest of the batch."""

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """input_ids, labels and attention_mask [B, T] of B examples."""
        longest = max(len(example["input_ids"]) for example in examples)

        def padded(name: str, value: int) -> torch.Tensor:
            rows = [e[name] + [value] * (longest - len(e[name])) for e in examples]
            return torch.tensor(rows)

        ids = padded("input_ids", self._pad)
        lengths = torch.tensor([len(example["input_ids"]) for example in examples])
        mask = torch.arange(longest)[None, :] < lengths[:, None]
        return {
            "input_ids": ids,
            "labels": padded("labels", IGNORE),
            "attention_mask": mask.long(),
        }


class _LossAndHits(nn.Module):
    """The causal LM, returning what the metrics need instead of all logits."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        attention_mask: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> dict[str, torch.Tensor]:
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, labels=labels,
            num_items_in_batch=num_items_in_batch,
        )  # fmt: skip
        best = output.logits[:, :-1].argmax(-1)
        wrong = (best != labels[:, 1:]) & (labels[:, 1:] != IGNORE)
        return {"loss": output.loss, "exact": ~wrong.any(-1)}


def answer_tokens(batch: Mapping[str, torch.Tensor]) -> int:
    """How many tokens of a batch the loss looks at: a first one is predicted by nothing."""
    return int((batch["labels"][:, 1:] != IGNORE).sum())


def exact_answers(prediction: EvalPrediction) -> dict[str, float]:
    """Share of answers of which every token is the best one given those before it."""
    return {"exact": float(np.mean(prediction.predictions))}


def train_lm(
    manifest: Manifest,
    *,
    size: SmallLlama,
    loop: LoopConfig,
    output: Path,
    prompt: PromptConfig = NANO_PROMPT,
    word_dropout: float = 0.0,
    restart: bool = False,
) -> dict[str, float]:
    """Train tokenizer and LLM on the split "train"; leave both in `output/language_model`.

    word_dropout: see `TextDialogues`. Resumes from what `output` holds; restart: removes that
    first. Raises UserError if it holds a run of something else.
    """
    check_installed(loop)
    records = manifest.records
    parts = {s: [r for r in records if r.split == s] for s in ("train", "validation")}
    if not parts["train"]:
        raise ValueError("records: none has split 'train'; mark at least one")
    run = begin_run(
        output,
        "lm",
        {
            "data": data_of(manifest, "train", "validation", heard=()),
            "recipe": {
                "size": plain(size),
                "loop": plain(loop),
                "prompt": plain(prompt),
                "word_dropout": word_dropout,
            },
        },
        product="language_model",
        also_writes=("checkpoint-*", "runs"),
        restart=restart,
        names={"data": str(manifest.root)},
    )
    if run.result is not None:
        return run.result
    texts = [turn.text for record in parts["train"] for turn in record.turns]
    tokenizer = from_first(lambda: build_tokenizer(texts, size.vocabulary))
    torch.manual_seed(loop.seed)
    model = LlamaForCausalLM(llama_config(size, tokenizer))
    dataset = TextDialogues(
        parts["train"], tokenizer, prompt, word_dropout=word_dropout, seed=loop.seed
    )
    validation = TextDialogues(parts["validation"], tokenizer, prompt)

    def finish(weights: Weights) -> None:
        made = filled(LlamaForCausalLM(model.config), weights, "model")
        with replace_folder(output / "language_model") as folder:
            made.half().save_pretrained(folder)
            tokenizer.save_pretrained(folder)

    result = train(
        _LossAndHits(model),
        config=loop,
        output=output,
        dataset=dataset,
        lengths=dataset.lengths,
        collate=TextCollator(special_id(tokenizer, "pad")),
        count=answer_tokens,
        validation=validation if len(validation) else None,
        metrics=exact_answers,
        finish=finish,
    )
    return run.finish(result)
