"""A causal LM of transformers in this process, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from data_tools.steps import LeftOut
from data_tools.writers.base import Reply, Request, Writer, chat_key
from omni.files import UserError


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """model: hub id or folder of an instruction-tuned LM (one with a chat template).

    device: "auto" takes a GPU if there is one. temperature: 0 always takes the likeliest token.
    batch_size: chats at a time. max_tokens: a reply that needs more is left out.
    """

    model: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    temperature: float = 0.0
    max_tokens: int = 256
    batch_size: int = 16
    workers: ClassVar[int] = 1

    @property
    def label(self) -> str:
        return f"transformers {self.model}"

    def settings(self) -> dict[str, Any]:
        values = asdict(self)
        del values["device"], values["batch_size"]
        return {"writer": "transformers", **values}

    def build(self) -> Writer:
        return LocalWriter(self)


class LocalWriter:
    """Loaded when built. Chats of like length share a batch."""

    def __init__(self, config: LocalConfig, model: Any = None, tokenizer: Any = None) -> None:
        """model, tokenizer: loaded ones, instead of `config.model`."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.config = config
        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        names = {"revision": config.revision}
        self.tokenizer = tokenizer or AutoTokenizer.from_pretrained(config.model, **names)
        if not self.tokenizer.chat_template:
            raise UserError(
                f"model {config.model}: has no chat template; name one tuned on instructions"
            )
        self.model: Any = model or AutoModelForCausalLM.from_pretrained(
            config.model, dtype=config.dtype, **names
        )
        self.model.to(device).eval()

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        prompts = [self.ids(request) for request in requests]
        order = sorted(range(len(requests)), key=lambda index: len(prompts[index]))
        for start in range(0, len(order), self.config.batch_size):
            batch = order[start : start + self.config.batch_size]
            seeds = [
                int(chat_key(requests[index], self.config.settings())[:7], 16) for index in batch
            ]
            replies = self.generate([prompts[index] for index in batch], seeds)
            yield from zip(batch, replies, strict=True)

    def ids(self, request: Request) -> list[int]:
        chat = [asdict(message) for message in request.messages]
        text = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def generate(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[Reply]:
        """One reply per prompt, whatever else is in the batch (up to rounding)."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        ends = end_tokens(self.model, self.tokenizer)
        pad = next((t for t in (self.tokenizer.pad_token_id, *sorted(ends)) if t is not None), 0)
        longest = max(map(len, prompts))
        # Padded on the left, so that every prompt ends where its reply begins.
        ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])  # [B, S]
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        draw = [SeededDraw(seeds, self.config.temperature)] if self.config.temperature else []
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                generation_config=GenerationConfig(
                    max_new_tokens=self.config.max_tokens,
                    do_sample=False,  # SeededDraw draws
                    eos_token_id=sorted(ends) or None,
                    pad_token_id=pad,
                ),
                logits_processor=LogitsProcessorList(draw),
            )
        return [self.reply(row, ends) for row in out[:, longest:].tolist()]

    def reply(self, ids: list[int], ends: set[int]) -> Reply:
        stop = next((at for at, token in enumerate(ids) if token in ends), None)
        if stop is None:
            return LeftOut("the reply was cut off; allow it more max_tokens")
        text = self.tokenizer.decode(ids[:stop], skip_special_tokens=True)
        return text if text.strip() else LeftOut("the reply was empty")

    def close(self) -> None:
        self.model = None


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a reply, as the model's own generation settings list them."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}


class SeededDraw:
    """Samples by adding Gumbel noise and taking the best, each row from a generator of its own.

    So a reply does not depend on who shares its batch, as it would with one generator for all.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        import torch

        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """scores: [B, V] logits; the noisy ones come back."""
        import torch

        noise = torch.stack([
            -torch.empty(scores.shape[1]).exponential_(generator=generator).log()
            for generator in self.generators
        ])  # fmt: skip
        return scores.float() / self.temperature + noise.to(scores.device)
