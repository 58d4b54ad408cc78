"""What stage 2 trains on: the LLM's states at each response, computed once and kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from omni.devices import move
from omni.files import RaggedStore, fill
from omni.frame_cache import CLEAN
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import IGNORE
from omni.unit_decoder import UnitDecoder, with_tokens
from omni.values import Frames
from train.data import (
    Collate,
    Dialogues,
    Example,
    on_device,
    state_content,
    state_key,
    units_of,
)
from train.loop import Item, LoopConfig, placement, share
from train.stages.beginning import heard_by
from train.stages.stage1 import Stage1, make_ears

WRITTEN = -1  # the variant whose questions are put in writing


class ResponseTokens:
    """The tokens that the states of an answer predict, as a unit decoder reads them.

    They are not kept with the states: they follow from the answer's text.
    """

    def __init__(
        self, model: OmniForConditionalGeneration, processor: OmniProcessor, decoder: UnitDecoder
    ) -> None:
        """model: of it, a copy of the embedding is held, on the CPU in float32."""
        self._processor = processor
        self._embedding, self._codes = None, None
        if decoder.config.gate_fusion:
            # As a module: some LLMs scale what their table holds.
            table = copy.deepcopy(model.get_input_embeddings()).to("cpu", torch.float32)
            self._embedding = table.requires_grad_(False)
        if decoder.config.spelling:
            self._codes = decoder.spelling.codes.clone()

    @torch.no_grad()
    def beside(self, states: Tensor, example: Example) -> Tensor:
        """[N, H] states of the example's answer -> [N, the decoder's `reads_width`]."""
        if self._embedding is None and self._codes is None:
            return states
        prompt = self._processor.prompt(example.messages([1] * len(example.recordings)))
        said = prompt.ids[prompt.response_start :]
        if len(said) != len(states):
            raise ValueError(
                f"{example.id}: {len(states)} states are kept of {len(said)} tokens; the states "
                "were made with another tokenizer: remove their folder"
            )
        letters = None if self._codes is None else self._codes.__getitem__
        alone = Frames(states[None], torch.tensor([len(states)]))
        return with_tokens(alone, torch.tensor([said]), self._embedding, letters).values[0]


class CachedStates(Dataset[dict[str, Tensor]]):
    """States [N, H] and units of each example; the epochs take the variants in turn."""

    def __init__(
        self,
        items: Sequence[Example],
        store: RaggedStore,
        variants: Sequence[int],
        tokens: ResponseTokens,
    ) -> None:
        self._tokens = tokens
        self._items = items
        self._contents = [state_content(item) for item in items]
        self._store = store
        self._variants = variants

    def __len__(self) -> int:
        return len(self._items)

    @property
    def lengths(self) -> list[int]:
        """States of each example in its first variant, for batches of like length."""
        keys = [state_key(content, self._variants[0]) for content in self._contents]
        return [self._store.length(key) for key in keys]

    def __getitem__(self, item: Item | int) -> dict[str, Tensor]:
        place = item if isinstance(item, Item) else Item(0, item)
        turn = (place.epoch + place.index) if isinstance(item, Item) else 0
        example = self._items[place.index]
        variants = self._variants if example.recordings else (CLEAN,)
        variant = variants[turn % len(variants)]
        states = self._store[state_key(self._contents[place.index], variant)].float()
        states = self._tokens.beside(states, example)
        return {"states": states, "units": torch.tensor(units_of(example))}


def collate(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Pad states and units to the longest of the batch."""
    states = [row["states"] for row in rows]
    units = [row["units"] for row in rows]
    pad = nn.utils.rnn.pad_sequence
    return {
        "states": pad(states, batch_first=True),
        "state_lengths": torch.tensor([len(row) for row in states]),
        "labels": pad(units, batch_first=True, padding_value=IGNORE),
        "label_lengths": torch.tensor([len(row) for row in units]),
    }


def cache_states(
    model: OmniForConditionalGeneration,
    processor: OmniProcessor,
    training: list[Example],
    validation: list[Example],
    hearing: Stage1,
    loop: LoopConfig,
    folder: Path,
    frames: Path | None,
    *,
    clean_alone: bool = False,
    batch_size: int = 32,
) -> tuple[RaggedStore, tuple[int, ...]]:
    """The states that predict each response, for every variant: clean, augmented, and written.

    Where no question of the dialogue is spoken, there is one alone.
    The model comes to lie on the loop's device; its LLM computes in the loop's type.
    """
    made_of = {
        "model": heard_by(model),
        "augmentation": repr(hearing.augmentation),
        "seed": hearing.loop.seed,
    }
    if clean_alone and hearing.cached_variants is not None:
        hearing = replace(hearing, cached_variants=0)  # none of them would be read
    ears = make_ears(
        model, processor, training, validation, hearing, frames or folder.with_name("frames")
    )
    device, dtype = placement(loop)
    if device.type == "cuda":  # first, for half as much has to find room there
        move(model.language_model, dtype=dtype)
        move(model.speech_adapter, dtype=dtype)
        made_of["rotary"] = "float32"  # earlier versions rounded it with the weights
    move(model, device)
    if dtype != torch.float32:
        made_of["dtype"] = str(dtype)
    augmented = (hearing.cached_variants or 0) if hearing.augmentation is not None else 0
    variants = (CLEAN,) if clean_alone else (CLEAN, *range(1, augmented + 1), WRITTEN)
    dialogues = Dialogues([*training, *validation], processor, ears)
    # Examples of like length share a batch.
    order = sorted(range(len(dialogues)), key=dialogues.lengths.__getitem__)
    last = len(training)
    contents = [state_content(item) for item in dialogues.items]
    work = {state_key(contents[i], CLEAN): (i, CLEAN) for i in order}
    for variant in variants[1:]:
        work |= {
            state_key(contents[i], variant): (i, variant)
            for i in order
            if i < last and dialogues.items[i].recordings
        }
    keys = list(work)
    pad = Collate(processor, ears)

    def make(batch: Sequence[str]) -> list[Tensor]:
        rows = [
            dialogues.prepare(index, CLEAN if variant == WRITTEN else variant,
                              written=variant == WRITTEN)
            for index, variant in (work[key] for key in batch)
        ]  # fmt: skip
        # As the weights train on a CPU: kept in float32, multiplied in what is fast there.
        fast = device.type == "cpu" and dtype != torch.float32
        with torch.autocast(device.type, dtype, enabled=fast):
            states = model.teacher_forced_states(**on_device(pad(rows), model.device))
        return [states.sequence(row) for row in range(len(rows))]

    store = fill(
        folder,
        made_of=made_of,
        batches=[keys[start : start + batch_size] for start in range(0, len(keys), batch_size)],
        make=make,
        width=model.config.hidden_size,
        label="response states",
        share=share(),
    )
    return store, variants
