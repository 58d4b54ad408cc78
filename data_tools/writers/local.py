"""A causal LM of transformers in this process, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from data_tools.writers.base import Reply, Request, Task, Writer, chat_key, kept
from omni.devices import check_names, choose_device, choose_dtype
from omni.files import UserError


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """model: hub id, folder or GGUF file of an instruction-tuned LM (one with a chat template).

    device, dtype: names that omni.devices knows; how the weights are stored doesn't matter, as a
    CPU that is slow in float16 would take many times as long. temperature: 0 always takes the
    likeliest token. batch_size: chats at a time. max_tokens: a reply that needs more is cut off
    there, see `llm.kept`.
    """

    model: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    temperature: float = 0.0
    max_tokens: int = 256
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_names(self.device, self.dtype)

    @property
    def workers(self) -> int | None:
        """One: the model is loaded once."""
        return 1

    @property
    def label(self) -> str:
        """transformers and the model."""
        return f"transformers {self.model}"

    def settings(self) -> dict[str, Any]:
        """Model, type and sampling; not where it computes, nor how many chats at a time."""
        values = asdict(self)
        del values["device"], values["batch_size"]
        return {"writer": "transformers", **values}

    def build(self) -> Writer:
        """Loads the model. Raises UserError if it has no chat template."""
        return LocalWriter(self)


class LocalWriter:
    """Loaded when built. Chats of like length share a batch."""

    def __init__(self, config: LocalConfig, model: Any = None, tokenizer: Any = None) -> None:
        """model, tokenizer: loaded ones, instead of `config.model`."""
        self.config = config
        device = choose_device(config.device)
        dtype = choose_dtype(config.dtype, device)
        self.tokenizer = tokenizer or tokenizer_of(config)
        if not self.tokenizer.chat_template:
            raise UserError(
                f"model {config.model}: has no chat template; name one tuned on instructions"
            )
        self.model: Any = model or model_of(config, dtype)
        self.model.to(device=device, dtype=dtype).eval()

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """As `Writer.complete`, the shortest chats first."""
        prompts = [self.ids(request) for request in requests]
        order = sorted(range(len(requests)), key=lambda index: len(prompts[index]))
        with Progress(len(requests), self.config.max_tokens) as progress:
            for start in range(0, len(order), self.config.batch_size):
                batch = order[start : start + self.config.batch_size]
                settings = self.config.settings()
                seeds = [int(chat_key(requests[index], settings)[:7], 16) for index in batch]
                tasks: list[Task] = [requests[index].task for index in batch]
                replies = self.generate([prompts[index] for index in batch], seeds, tasks, progress)
                yield from zip(batch, replies, strict=True)

    def ids(self, request: Request) -> list[int]:
        """Token ids of the chat by the model's template, up to where the reply begins."""
        chat = [asdict(message) for message in request.messages]
        text = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        tasks: Sequence[Task],
        progress: Progress,
    ) -> list[Reply]:
        """One reply per prompt, whatever else is in the batch (up to rounding)."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        ends = end_tokens(self.model, self.tokenizer)
        pad = next((t for t in (self.tokenizer.pad_token_id, *sorted(ends)) if t is not None), 0)
        longest = max(map(len, prompts))
        # Padded on the left, so that every prompt ends where its reply begins.
        ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])  # [B, S]
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        draw = [SeededDraw(seeds, self.config.temperature)] if self.config.temperature else []
        progress.begin(len(prompts), ends)
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
                stopping_criteria=StoppingCriteriaList([progress]),
            )
        rows = out[:, longest:].tolist()
        return [self.reply(row, ends, task) for row, task in zip(rows, tasks, strict=True)]

    def reply(self, ids: list[int], ends: set[int], task: Task) -> Reply:
        """What is kept of the generated ids; cut off where no end token is among them."""
        stop = next((at for at, token in enumerate(ids) if token in ends), None)
        text = self.tokenizer.decode(ids[:stop], skip_special_tokens=True)
        return kept(text, task, cut_off=stop is None)

    def close(self) -> None:
        """Lets go of the model."""
        self.model = None


def tokenizer_of(config: LocalConfig) -> Any:
    """The model's tokenizer: at its revision, or as this machine has it."""
    if config.revision is None:
        from omni.checkpoint import load_tokenizer  # also finds the bases that this machine has

        return load_tokenizer(config.model)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(config.model, revision=config.revision)


def model_of(config: LocalConfig, dtype: Any) -> Any:
    """The model: at its revision, or as this machine has it."""
    if config.revision is None:
        from omni.checkpoint import load_language_model

        return load_language_model(config.model, dtype=dtype)
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(config.model, revision=config.revision, dtype=dtype)


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a reply, as the model's own generation settings list them."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}


class Progress:
    """A bar of tokens, with tokens per second and the time left, in the place of one that never
    moves: a batch takes minutes on a CPU. A criterion of `generate` that stops nothing.

    The time left is that of replies as long as those that have ended, max_tokens before any has.
    """

    def __init__(self, replies: int, max_tokens: int) -> None:
        self.replies, self.max_tokens = replies, max_tokens
        self.finished: list[int] = []  # tokens of each reply that is complete
        self.lengths: list[int] = []  # of the batch in hand, so far
        self.open: list[bool] = []
        self.ends: set[int] = set()
        self.bar = tqdm(total=replies * max_tokens, unit="tok", desc="tokens", leave=False)

    def begin(self, rows: int, ends: set[int]) -> None:
        """The next batch of replies, which one of the tokens `ends` ends."""
        self.lengths, self.open, self.ends = [0] * rows, [True] * rows, ends

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """input_ids: [B, S], after each step; returns [B] False, bool."""
        import torch

        new = sum(self.open)
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if self.open[row]:
                self.lengths[row] += 1
                if token in self.ends or self.lengths[row] == self.max_tokens:
                    self.open[row] = False
                    self.finished.append(self.lengths[row])
        self.bar.total = round(self.expected())
        self.bar.update(new)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def expected(self) -> float:
        """Tokens in all, by what is known so far."""
        going = [n for n, still in zip(self.lengths, self.open, strict=True) if still]
        done = sum(self.finished)
        usual = done / len(self.finished) if self.finished else self.max_tokens
        waiting = self.replies - len(self.finished) - len(going)
        return done + sum(max(usual, length + 1) for length in going) + waiting * usual

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


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
