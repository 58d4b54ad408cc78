"""A model's answers in batches, as text, units and sound; and the questions of the controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omni.ctc import best_units
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor, left_padded, pad_features
from omni.prompt import IGNORE
from omni.vocoder import StreamingVocoder
from train.data import Collate, Example, LiveEars, Prepared, on_device


@torch.no_grad()
def generate(
    model: OmniForConditionalGeneration,
    processor: OmniProcessor,
    prompts: Sequence[Prepared],
    max_new_tokens: int,
) -> list[list[int]]:
    """Greedy answers of a batch: token ids, the end token included where it was said."""
    ids = [prompt.ids for prompt in prompts]
    batch: dict[str, Tensor] = left_padded(ids, int(processor.tokenizer.pad_token_id or 0))
    heard = [sound for prompt in prompts for sound in prompt.heard]
    if heard:
        batch |= pad_features(heard)
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
    output = model.generate(**on_device(batch, model.device), **settings)
    end = model.generation_config.eos_token_id
    ends = set(end if isinstance(end, list) else [end])
    return [_until(row.tolist(), ends) for row in output[:, batch["input_ids"].shape[1] :]]


@torch.no_grad()
def speak_answers(
    model: OmniForConditionalGeneration,
    processor: OmniProcessor,
    prompts: Sequence[Prepared],
    answers: Sequence[Sequence[int]],
) -> list[list[int]]:
    """The units of given answers, from one forward over prompts and answers."""
    rows = [
        Prepared([*p.ids, *answer], [*[IGNORE] * len(p.ids), *answer], p.heard)
        for p, answer in zip(prompts, answers, strict=True)
    ]
    pad = Collate(processor, LiveEars(processor, augmentation=None, seed=0))
    assert model.unit_decoder is not None
    inputs = model.teacher_forced_inputs(**on_device(pad(rows), model.device))
    return best_units(model.unit_decoder(inputs))


def stream(vocoder: StreamingVocoder, units: Sequence[int]) -> np.ndarray:
    """All chunks of one reply, joined: [W] float32."""
    chunks, state = vocoder.step(units, vocoder.initial_state())
    joined = [chunk.waveform for chunk in [*chunks, *vocoder.finish(state)]]
    return np.concatenate([np.zeros(0, np.float32), *joined])


def with_others_audio(items: Sequence[Example]) -> list[Example]:
    """The control: each spoken question gets the recording of another one, half the split away."""
    spoken = [item for item in items if item.recordings]
    others = spoken[len(spoken) // 2 :] + spoken[: len(spoken) // 2]
    swapped = {
        item.id: replace(item, recordings=(*item.recordings[:-1], other.recordings[-1]))
        for item, other in zip(spoken, others, strict=True)
    }
    return [swapped.get(item.id, item) for item in items]


def in_writing(item: Example) -> Example:
    """The same question without its recordings: its text is asked instead."""
    turns = tuple(
        replace(turn, speech=None) if turn.role == "user" else turn for turn in item.turns
    )
    return replace(item, turns=turns, recordings=())


def last_answers(items: Sequence[Example]) -> list[Example]:
    """Of each dialogue the last answer: only its question is held out, those before it are there
    to be referred to and may be put in words that were trained on."""
    last = {item.id.rpartition("#")[0]: item for item in items}
    return list(last.values())


def _until(ids: list[int], ends: set[int]) -> list[int]:
    """Up to the end token, with it."""
    for place, token in enumerate(ids):
        if token in ends:
            return ids[: place + 1]
    return ids
