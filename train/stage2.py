"""Stage 2: the model learns to speak what it writes.

Everything but the unit decoder is frozen, so the LLM's states at each response are computed once
and kept; the decoder then trains on them by CTC against the units of the recorded answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from data_tools.manifest import Manifest
from omni.card import write_card
from omni.checkpoint import read_json, write_json, write_tensors
from omni.ctc import best_units, ctc_loss
from omni.files import replace_folder
from omni.frame_cache import CLEAN, weights_digest
from omni.metrics import unit_error_rate
from omni.model import OmniForConditionalGeneration
from omni.pretrained import load
from omni.processor import OmniProcessor
from omni.prompt import IGNORE
from omni.ragged import RaggedStore, fill
from omni.stages import Frames
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig
from train.batches import Collate, Dialogues, Example, examples
from train.fingerprint import data_of, plain, state_content, state_key, tokenizer_digest
from train.freeze import Freeze
from train.loop import LoopConfig, check_installed, placement, train
from train.order import Item
from train.processes import share
from train.run import begin_run
from train.speakable import Limits, speakable, units_of
from train.stage1 import Stage1, make_ears
from train.trainer import filled, part_of

UNIT_DECODER = "unit_decoder.safetensors"
WRITTEN = -1  # the variant whose questions are put in writing


@dataclass(frozen=True, kw_only=True)
class Stage2:
    """What stage 2 trains, on what, for how long.

    hearing: stage 1's recipe: questions come in as they did there. units: K of the extractor.
    max_infeasible: the share of pairs without a CTC path that may be left out; above, training is
    refused.
    """

    hearing: Stage1
    loop: LoopConfig
    units: int
    width: int
    layers: int
    heads: int
    ffn: int
    upsample: int = 25  # as published (LLaMA-Omni)
    step_embedding: bool = False
    max_infeasible: float = 0.01

    def decoder(self, input_width: int) -> UnitDecoderConfig:
        """The unit decoder's configuration above an LLM of this width."""
        return UnitDecoderConfig(
            input_width=input_width, width=self.width, layers=self.layers, heads=self.heads,
            ffn=self.ffn, num_units=self.units, upsample=self.upsample,
            step_embedding=self.step_embedding,
        )  # fmt: skip


class LearnsToSpeak(nn.Module):
    """The unit decoder with its CTC loss."""

    def __init__(self, unit_decoder: UnitDecoder) -> None:
        super().__init__()
        self.unit_decoder = unit_decoder

    def forward(
        self,
        states: Tensor,
        state_lengths: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """[B, N, H], [B], [B, U], [B] -> the mean loss per unit (of all batches of a step, if
        their number is given); in evaluation also the errors [B] of the greedy units and the
        number of true ones [B]."""
        log_probs = self.unit_decoder(Frames(states, state_lengths))
        loss = ctc_loss(log_probs, labels.clamp(min=0), label_lengths, num_items_in_batch)
        if self.training:
            return {"loss": loss}
        said = best_units(log_probs)
        errors = [
            unit_error_rate([row[:length].tolist()], [units]).errors
            for row, length, units in zip(labels.cpu(), label_lengths.tolist(), said, strict=True)
        ]
        return {
            "loss": loss,
            "errors": torch.tensor(errors, device=labels.device),
            "lengths": label_lengths,
            "said": torch.tensor([len(units) for units in said], device=labels.device),
        }


def unit_errors(prediction) -> dict[str, float]:
    """Trainer's metrics hook: unit error rate, and units said per true one (1 is right; near 0 is
    the collapse to blank)."""
    errors, lengths, said = prediction.predictions
    return {
        "unit_error_rate": float(errors.sum() / lengths.sum()),
        "units_said": float(said.sum() / lengths.sum()),
    }


class CachedStates(Dataset):
    """States [N, H] and units of each example; the epochs take the variants in turn."""

    def __init__(
        self, items: Sequence[Example], store: RaggedStore, variants: Sequence[int]
    ) -> None:
        self._items = items
        self._contents = [state_content(item) for item in items]
        self._store = store
        self._variants = variants

    def __len__(self) -> int:
        return len(self._items)

    @property
    def lengths(self) -> list[int]:
        keys = [state_key(content, self._variants[0]) for content in self._contents]
        return [self._store.length(key) for key in keys]

    def __getitem__(self, item: Item | int) -> dict[str, Tensor]:
        place = item if isinstance(item, Item) else Item(0, item)
        turn = (place.epoch + place.index) if isinstance(item, Item) else 0
        example = self._items[place.index]
        variant = self._variants[turn % len(self._variants)]
        states = self._store[state_key(self._contents[place.index], variant)]
        return {"states": states.float(), "units": torch.tensor(units_of(example))}


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


def train_stage2(
    checkpoint: str | Path,
    manifest: Manifest,
    *,
    recipe: Stage2,
    output: Path,
    frames: Path | None = None,
    restart: bool = False,
) -> dict[str, float]:
    """Train on the split "train"; leave the checkpoint with its new voice in `output/checkpoint`.

    manifest: its answers have units. frames: stage 1's cache of encoded questions, if it has one.
    restart: begin anew where `output` holds a run, instead of going on with it.
    Raises UserError, before the first step, if answers lack units or too many pairs are
    infeasible, and if `output` holds a run of something else. Returns the CTC loss and unit error
    rate of "validation", if there is one.
    """
    check_installed(recipe.loop)
    model, processor = load(checkpoint)
    model.requires_grad_(False)
    held_out = any(record.split == "validation" for record in manifest.records)
    limits = Limits(units=recipe.units, upsample=recipe.upsample, share=recipe.max_infeasible)
    training = speakable(examples(manifest, "train"), processor, limits)
    validation = speakable(examples(manifest, "validation"), processor, limits) if held_out else []
    run = begin_run(
        output,
        "stage2",
        {
            "data": data_of(manifest, "train", "validation", units=True),
            "recipe": plain(recipe),
            "checkpoint": heard_by(model) | {"tokenizer": tokenizer_digest(processor.tokenizer)},
        },
        product="checkpoint",
        also_writes=("checkpoint-*", "states", "runs"),
        shared=("frames",),
        restart=restart,
        names={"checkpoint": str(checkpoint), "data": str(manifest.root)},
    )
    if run.result is not None:
        return run.result
    store, variants = cache_states(
        model, processor, training, validation, recipe, output / "states", frames
    )
    torch.manual_seed(recipe.loop.seed)  # of the decoder's first weights
    config = recipe.decoder(model.config.hidden_size)
    del model  # its memory is the training's now
    unit_decoder = UnitDecoder(config)
    dataset = CachedStates(training, store, variants)
    result = train(
        LearnsToSpeak(unit_decoder),
        config=recipe.loop,
        output=output,
        dataset=dataset,
        lengths=dataset.lengths,
        collate=collate,
        count=lambda batch: int(batch["label_lengths"].sum()),
        validation=CachedStates(validation, store, (CLEAN,)) if validation else None,
        metrics=unit_errors,
        freeze=Freeze(("unit_decoder",)),
        save=lambda folder, weights: write_tensors(
            folder / UNIT_DECODER, part_of(weights, "unit_decoder")
        ),
        finish=lambda weights: add_voice(
            Path(checkpoint),
            output / "checkpoint",
            filled(UnitDecoder(config), weights, "unit_decoder"),
        ),
    )
    return run.finish(result)


def heard_by(model: OmniForConditionalGeneration) -> dict[str, str]:
    """Digests of the parts whose weights the response states depend on."""
    parts = ("speech_encoder", "speech_adapter", "language_model")
    return {part: weights_digest(getattr(model, part)) for part in parts}


def add_voice(source: Path, target: Path, unit_decoder: UnitDecoder) -> None:
    """Stage 1's checkpoint with a unit decoder; every other weight file is copied as it is."""
    with replace_folder(target) as aside:
        shutil.copytree(source, aside, dirs_exist_ok=True)
        write_tensors(aside / UNIT_DECODER, unit_decoder.state_dict())
        config = read_json(source / "config.json")
        config["unit_decoder"] = asdict(unit_decoder.config)
        config["trained"] = (config.get("trained") or {}) | {"stage2": ["unit_decoder"]}
        write_json(aside / "config.json", config)
        write_card(aside, title=target.resolve().name, inherited=source)


def cache_states(
    model: OmniForConditionalGeneration,
    processor: OmniProcessor,
    training: list[Example],
    validation: list[Example],
    recipe: Stage2,
    folder: Path,
    frames: Path | None,
    batch_size: int = 32,
) -> tuple[RaggedStore, tuple[int, ...]]:
    """The states that predict each response, for every variant: clean, augmented, and written.

    The model comes to lie on the recipe's device; on a GPU its LLM computes in the recipe's type.
    """
    hearing = recipe.hearing
    made_of = {
        "model": heard_by(model),
        "augmentation": repr(hearing.augmentation),
        "seed": hearing.loop.seed,
    }
    ears = make_ears(
        model, processor, training, validation, hearing, frames or folder.with_name("frames")
    )
    device, dtype = placement(recipe.loop)
    model.to(device)
    if device.type == "cuda":
        model.language_model.to(dtype)
        model.speech_adapter.to(dtype)
        made_of["dtype"] = str(dtype)
    augmented = (hearing.cached_variants or 0) if hearing.augmentation is not None else 0
    variants = (CLEAN, *range(1, augmented + 1), WRITTEN)
    dialogues = Dialogues([*training, *validation], processor, ears)
    # Examples of like length share a batch.
    order = sorted(range(len(dialogues)), key=dialogues.lengths.__getitem__)
    last = len(training)
    contents = [state_content(item) for item in dialogues.items]
    work = {state_key(contents[i], CLEAN): (i, CLEAN) for i in order}
    for variant in variants[1:]:
        work |= {state_key(contents[i], variant): (i, variant) for i in order if i < last}
    keys = list(work)
    pad = Collate(processor, ears)

    def make(batch: Sequence[str]) -> list[Tensor]:
        rows = [
            dialogues.prepare(index, CLEAN if variant == WRITTEN else variant,
                              written=variant == WRITTEN)
            for index, variant in (work[key] for key in batch)
        ]  # fmt: skip
        tensors = {name: value.to(model.device) for name, value in pad(rows).items()}  # type: ignore[attr-defined]
        states = model.teacher_forced_states(**tensors)
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
