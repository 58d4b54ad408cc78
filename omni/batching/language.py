"""The LLM's next step for many replies."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, DynamicLayer, PreTrainedModel

from omni.batching.compiled import Backend, BufferKind, CompiledSteps, Size, compile_step
from omni.batching.rows import Layers, Row, Rows
from omni.batching.together import Together
from omni.language_model import is_lora, run_language_model

log = logging.getLogger(__name__)

# Rotary positions that are scaled by the longest of a batch: a neighbour would change the others.
SCALED_BY_LENGTH = frozenset({"dynamic", "longrope"})


class CacheRow(Row[Cache]):
    """Keys and values of one reply: a cache, or a row of a buffer."""

    def layers(self, own: Cache) -> Layers:
        """Of every layer of the cache."""
        return [_tensors(layer) for layer in own.layers]

    def copied(self, layers: Layers) -> Cache:
        """A cache as a forward makes it, which can be cut back."""
        cache = DynamicCache()
        for place, (keys, values) in enumerate(layers):
            cache.update(keys[None], values[None], place)  # joins them to nothing: a copy
        return cache


def by_itself(past: Cache | CacheRow | None) -> Cache | None:
    """A past as a cache; it leaves the buffer that it is in."""
    return past.own() if isinstance(past, CacheRow) else past


@dataclass(frozen=True)
class StepInputs:
    """The LLM's next forward: embeddings [1, T, H] of what follows the past's content."""

    embeddings: Tensor
    past: Cache | CacheRow | None

    @property
    def cache(self) -> Cache | None:
        """The past as a cache, for a forward of this reply alone."""
        return by_itself(self.past)


@dataclass(frozen=True)
class StepOutput:
    """hidden: [1, T, H], the last layer's states; logits: [1, 1, vocabulary], of the last
    position; past: with the positions of this step."""

    hidden: Tensor
    logits: Tensor
    past: Cache | CacheRow | None


class LanguageModelSteps(Together[StepInputs, CacheRow, StepOutput]):
    """Replies that go on by one position share a forward; a prompt has its own."""

    def __init__(self, model: PreTrainedModel, *, compiled: bool = True) -> None:
        super().__init__(model, new=1, compiled=compiled)
        self._model = model
        self.one_by_one = _refuses_batches(model)

    def row(self, item: StepInputs) -> CacheRow | None:
        """None for a prompt, and where the cache forbids it."""
        if item.embeddings.shape[1] != 1 or item.past is None:
            return None
        if isinstance(item.past, CacheRow):
            return item.past
        length = plain_length(item.past)
        if (reason := _refuses_rows(item.past)) is not None:
            self.one_by_one = reason
            log.info("replies are stepped one by one: %s", reason)
        return CacheRow(item.past, length) if length and reason is None else None

    def alone(self, item: StepInputs) -> StepOutput:
        """A forward of this reply, over one position or a prompt."""
        output = run_language_model(
            self._model, item.embeddings, cache=item.cache, use_cache=True, logits_to_keep=1
        )
        return StepOutput(output.hidden, output.logits, output.cache)

    def together(
        self, buffer: Rows, rows: Sequence[CacheRow], items: Sequence[StepInputs]
    ) -> list[StepOutput]:
        """A forward over the next position of each row."""
        before = [row.length for row in rows]
        inputs = [item.embeddings for item in items]  # [1, 1, H] each
        made = None
        if (steps := self.compiled) is not None:
            made = steps.run(self._model, inputs, before, (buffer.keys, buffer.values))
        if made is None:
            embeddings = torch.cat(inputs)  # [B, 1, H]
            lengths = torch.tensor(before, device=embeddings.device)
            longest = max(before) + 1
            made = _step_rows(self._model, embeddings, lengths, *buffer.filled(), longest)
        states, logits = (tensor.split(1) for tensor in made)
        return [
            StepOutput(hidden, scores, row)
            for hidden, scores, row in zip(states, logits, rows, strict=True)
        ]


def compile_language_model(
    model: PreTrainedModel,
    sizes: Sequence[Size],
    *,
    backend: Backend = "inductor",
    progress: Callable[[], object] = lambda: None,
) -> CompiledSteps | None:
    """Compile its next step for buffers of these sizes; see `compile_step`.

    What fails is told, and its steps run as before. None, and told, for a model whose replies are
    stepped one by one.
    """
    with torch.inference_mode():
        first = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
        embeddings = model.get_input_embeddings()(first)  # [1, 1, H]
        cache = run_language_model(model, embeddings, use_cache=True, logits_to_keep=1).cache
    assert cache is not None
    reason = _refuses_batches(model) or _refuses_rows(cache)
    if reason is not None:
        log.warning("steps of the language model run as they are, not compiled: %s", reason)
        return None
    keys, _ = _tensors(cache.layers[0])
    kind = BufferKind(
        layers=len(cache.layers), heads=keys.shape[0], head_dim=keys.shape[2],
        input_width=embeddings.shape[2], dtype=keys.dtype, device=keys.device,
    )  # fmt: skip
    steps = CompiledSteps(kind, language_model_step, backend=backend)
    return compile_step(model, steps, sizes, progress)


def language_model_step(
    model: PreTrainedModel,
    inputs: Tensor,
    lengths: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """See omni.batching.compiled.Step. Makes states [slots, 1, H] and logits [slots, 1,
    vocabulary]."""
    return _step_rows(model, inputs, lengths, keys, values, keys[0].shape[2])


def _step_rows(
    model: PreTrainedModel,
    embeddings: Tensor,
    lengths: Tensor,
    keys: Iterable[Tensor],
    values: Iterable[Tensor],
    longest: int,
) -> tuple[Tensor, Tensor]:
    """States and logits of the next position of each row; longest: of these, or more."""
    layers = [_BufferLayer(*layer, lengths, longest) for layer in zip(keys, values, strict=True)]
    seen = torch.arange(longest, device=lengths.device) <= lengths[:, None]  # [B, longest]
    output = run_language_model(
        model, embeddings, seen.long(), cache=Cache(layers=[*layers]),
        position_ids=lengths[:, None], use_cache=True, logits_to_keep=1,
    )  # fmt: skip
    return output.hidden, output.logits


class _BufferLayer(DynamicLayer):
    """A layer of all rows of a buffer, open for one position more of each."""

    def __init__(self, keys: Tensor, values: Tensor, lengths: Tensor, longest: int) -> None:
        """keys, values: [B, heads, capacity, head_dim], written in place; lengths: [B] before the
        step; longest: of the rows, after it."""
        super().__init__()
        self._keys, self._values = keys, values
        self._places = torch.arange(len(keys), device=keys.device), lengths
        self._longest = longest

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write [B, heads, 1, head_dim]; give back all positions of all rows."""
        rows, positions = self._places
        self._keys[rows, :, positions] = key_states[:, :, 0]
        self._values[rows, :, positions] = value_states[:, :, 0]
        return self._keys[:, :, : self._longest], self._values[:, :, : self._longest]

    def get_seq_length(self) -> int:
        """Of the longest row, before the step."""
        return self._longest - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Positions that are given back, from 0 on."""
        return self._longest, 0


def plain_length(cache: Cache | None) -> int | None:
    """How many positions a cache holds; None if it can't be cut."""
    layers = [] if cache is None else cache.layers
    # Only plain layers keep every position, and so can be cut back.
    plain = [layer for layer in layers if type(layer) is DynamicLayer]
    lengths = {layer.get_seq_length() for layer in plain}
    # Several lengths: some layers are shared, or a forward broke off between two.
    return lengths.pop() if len(plain) == len(layers) and len(lengths) == 1 else None


def _refuses_batches(model: PreTrainedModel) -> str | None:
    """Why rows of different ages can't share a forward of this LLM; None if they can."""
    whole: Any = model
    base = whole.get_base_model() if is_lora(model) else whole
    if "position_ids" not in inspect.signature(type(base).forward).parameters:
        return f"{type(base).__name__} takes no position_ids, so it can't tell rows' ages apart"
    rope: Any = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = {
        str(setting.get("rope_type"))
        for setting in (rope, *rope.values())  # one for all layers, or one for each kind of them
        if isinstance(setting, dict)
    }
    if scaled := sorted(kinds & SCALED_BY_LENGTH):
        return f"rope_type {scaled[0]!r} depends on the longest of a batch"
    return None


def _refuses_rows(cache: Cache) -> str | None:
    """Why this cache's content can't lie in a row of a buffer; None if it can."""
    other = sorted({type(layer).__name__ for layer in cache.layers} - {DynamicLayer.__name__})
    if other:
        return f"its cache has layers that keep not every position: {', '.join(other)}"
    if not plain_length(cache):
        return None  # empty, or left half written by an error: nothing that lasts
    tensors = [_tensors(layer) for layer in cache.layers]
    if len({(*keys.shape[::2], keys.dtype, keys.device) for keys, _ in tensors}) > 1:
        return "its layers differ in size, type or device"
    if any(keys.shape != values.shape for keys, values in tensors):
        return "its keys and values differ in size"
    return None


def _tensors(layer: Any) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer of a cache of one, [heads, length, head_dim]."""
    return layer.keys[0], layer.values[0]
