"""Prefill: the LLM's side of a conversation between two replies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from transformers import Cache

from omni.language_model import run_language_model
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.session.memory import Label, Memory
from omni.session.prefixes import prefixes_of
from omni.session.script import Script, opening


class Prefill:
    """Keys and values of what was said and of what is being said. A reply that runs has taken them.

    An LLM whose cache can't be cut back is run over the whole prompt, by each reply anew.
    """

    def __init__(self, model: OmniForConditionalGeneration, processor: OmniProcessor) -> None:
        self._model = model
        self._processor = processor
        self._cuttable = True  # until the LLM's cache shows otherwise
        self.memory = Memory()

    @cached_property
    def _opening(self) -> tuple[int, ...]:
        return opening(self._processor)

    def give(self, memory: Memory) -> None:
        """A reply's memory, for what comes next."""
        self.memory = memory
        prefixes_of(self._model.language_model).keep(self._opening, memory)

    def take(self, labels: Sequence[Label]) -> tuple[Cache | None, int]:
        """A cache of what these labels share with what was said, and how many these are.

        It is the taker's: a forward that fails leaves it half written.
        """
        memory, self.memory = self.memory, Memory()
        known = memory.shared(labels)
        if not known:
            memory = prefixes_of(self._model.language_model).copy(self._opening)
            known = memory.shared(labels)
        return memory.cut(known), known

    def run(self, script: Script, end: int) -> None:
        """Run the LLM over the script up to position `end`, as far as it has not been yet."""
        if not self._cuttable or self.memory.shared(script.labels[:end]) == end:
            return
        cache, known = self.take(script.labels[:end])
        if known < end:
            embeddings = script.embeddings(self._model, known, end)
            cache = run_language_model(
                self._model.language_model, embeddings, cache=cache, use_cache=True,
                logits_to_keep=1,
            ).cache  # fmt: skip
        self.give(Memory.of(cache, script.labels[:end]))
        self._cuttable = self.memory.cache is not None
