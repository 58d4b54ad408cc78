"""Keys and values of what stands before every first question, shared by all sessions of a model.

A system prompt and the header of a turn are the same for every conversation: the LLM runs over
them once per process, and a new conversation begins with a copy.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, DynamicLayer

from omni.language_model import is_lora
from omni.session.memory import Memory

KEPT = 8  # prefixes per model: of checkpoints' own prompts there is one, of callers' a few

_Layers = list[tuple[Tensor, Tensor]]  # keys and values [1, heads, positions, head_dim]
_Weights = tuple[tuple[int, int], ...]


class Prefixes:
    """Prefixes of one model, the least recently used of them forgotten beyond `KEPT`."""

    def __init__(self, weights: _Weights) -> None:
        self.weights = weights
        self._layers: OrderedDict[tuple[int, ...], _Layers] = OrderedDict()

    def copy(self, ids: tuple[int, ...]) -> Memory:
        """A cache of one's own that holds these ids; empty if they are not known."""
        with _LOCK:
            layers = self._layers.get(ids)
            if layers is None:
                return Memory()
            self._layers.move_to_end(ids)
        cache = DynamicCache()
        for place, (keys, values) in enumerate(layers):
            cache.update(keys, values, place)  # joins them to nothing, which is a copy
        return Memory(cache, ids)

    def keep(self, ids: tuple[int, ...], memory: Memory) -> None:
        """Keep these ids if the memory begins with them and they are new."""
        if not ids or ids in self._layers or memory.shared(ids) < len(ids):
            return
        layers = _first(memory.cache, len(ids))
        with _LOCK:
            self._layers[ids] = layers
            while len(self._layers) > KEPT:
                self._layers.popitem(last=False)


_LOCK = threading.Lock()
_OF_MODELS: WeakKeyDictionary[nn.Module, Prefixes] = WeakKeyDictionary()


def prefixes_of(model: nn.Module) -> Prefixes:
    """Those of this LLM, as long as it lives and its weights stay what they are.

    Adapters of peft can be switched while nothing else changes: with them nothing is shared.
    """
    weights = _weights(model)
    if is_lora(model):
        return Prefixes(weights)
    with _LOCK:
        known = _OF_MODELS.get(model)
        if known is None or known.weights != weights:
            known = _OF_MODELS[model] = Prefixes(weights)
        return known


def _weights(model: nn.Module) -> _Weights:
    """What changes when weights are replaced, moved or trained."""
    return tuple(
        (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        for weight in model.parameters()
    )


@torch.inference_mode()
def _first(cache: Cache | None, length: int) -> _Layers:
    """Copies of the first positions of each layer."""
    layers = [] if cache is None else cache.layers
    kept: _Layers = []
    for layer in layers:
        assert isinstance(layer, DynamicLayer)  # Memory holds no other
        assert layer.keys is not None and layer.values is not None
        kept.append((layer.keys[..., :length, :].clone(), layer.values[..., :length, :].clone()))
    return kept
