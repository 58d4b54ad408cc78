"""Stage 2: the model learns to speak what it writes.

Everything but the unit decoder is frozen, so the LLM's states at each response are computed once
and kept; the decoder then trains on them by CTC against the units of the recorded answer.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from data_tools.manifest import Manifest
from omni.checkpoint import read_json, replace_folder, write_json, write_tensors
from omni.ctc import Infeasible, best_units, ctc_loss, infeasible
from omni.errors import UserError
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
from train.freeze import Freeze
from train.loop import Item, LoopConfig, check_installed, train
from train.stage1 import Stage1, make_ears

log = logging.getLogger(__name__)
UNIT_DECODER = "unit_decoder.safetensors"
WRITTEN = -1  # the variant whose questions are put in writing
NAMED = 3  # infeasible pairs that an error or a warning names


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
            ffn=self.ffn, units=self.units, upsample=self.upsample,
            step_embedding=self.step_embedding,
        )  # fmt: skip


class LearnsToSpeak(nn.Module):
    """The unit decoder with its CTC loss."""

    def __init__(self, unit_decoder: UnitDecoder) -> None:
        super().__init__()
        self.unit_decoder = unit_decoder

    def forward(
        self, states: Tensor, state_lengths: Tensor, labels: Tensor, label_lengths: Tensor
    ) -> dict[str, Tensor]:
        """[B, N, H], [B], [B, U], [B] -> the mean loss per unit; in evaluation also the errors
        [B] of the greedy units and the number of true ones [B]."""
        log_probs = self.unit_decoder(Frames(states, state_lengths))
        loss = ctc_loss(log_probs, labels.clamp(min=0), label_lengths)
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
        self._store = store
        self._variants = variants

    def __len__(self) -> int:
        return len(self._items)

    @property
    def lengths(self) -> list[int]:
        return [self._store.length(_key(item, self._variants[0])) for item in self._items]

    def __getitem__(self, item: Item | int) -> dict[str, Tensor]:
        place = item if isinstance(item, Item) else Item(0, item)
        turn = (place.epoch + place.index) if isinstance(item, Item) else 0
        example = self._items[place.index]
        states = self._store[_key(example, self._variants[turn % len(self._variants)])]
        return {"states": states.float(), "units": torch.tensor(_units(example))}


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
) -> dict[str, float]:
    """Train on the split "train"; leave the checkpoint with its new voice in `output/checkpoint`.

    manifest: its answers have units. frames: stage 1's cache of encoded questions, if it has one.
    Raises UserError, before the first step, if answers lack units or too many pairs are
    infeasible. Returns the CTC loss and unit error rate of "validation", if there is one.
    """
    check_installed(recipe.loop)
    model, processor = load(checkpoint)
    model.requires_grad_(False)
    held_out = any(record.split == "validation" for record in manifest.records)
    training = _speakable(examples(manifest, "train"), processor, recipe)
    validation = _speakable(examples(manifest, "validation"), processor, recipe) if held_out else []
    store, variants = cache_states(
        model, processor, training, validation, recipe, output / "states", frames
    )
    torch.manual_seed(recipe.loop.seed)  # of the decoder's first weights
    config = recipe.decoder(model.config.hidden_size)
    unit_decoder = UnitDecoder(config)
    dataset = CachedStates(training, store, variants)
    result = train(
        LearnsToSpeak(unit_decoder),
        config=recipe.loop,
        output=output,
        dataset=dataset,
        lengths=dataset.lengths,
        collate=collate,
        validation=CachedStates(validation, store, (CLEAN,)) if validation else None,
        metrics=unit_errors,
        freeze=Freeze(("unit_decoder",)),
        save=lambda folder: write_tensors(folder / UNIT_DECODER, unit_decoder.state_dict()),
    )
    add_voice(Path(checkpoint), output / "checkpoint", unit_decoder)
    return result


def add_voice(source: Path, target: Path, unit_decoder: UnitDecoder) -> None:
    """Stage 1's checkpoint with a unit decoder; every other weight file is copied as it is."""
    with replace_folder(target) as aside:
        shutil.copytree(source, aside, dirs_exist_ok=True)
        write_tensors(aside / UNIT_DECODER, unit_decoder.state_dict())
        config = read_json(source / "config.json")
        config["unit_decoder"] = asdict(unit_decoder.config)
        config["trained"] = (config.get("trained") or {}) | {"stage2": ["unit_decoder"]}
        write_json(aside / "config.json", config)


def infeasible_pairs(
    items: Sequence[Example], processor: OmniProcessor, upsample: int
) -> list[Infeasible]:
    """Examples whose units do not fit into `upsample` steps per response token."""

    def steps(example: Example) -> int:
        # How many positions the speech takes does not matter here: 1 each will do.
        prompt = processor.prompt(example.messages([1] * len(example.recordings)))
        return (len(prompt.ids) - prompt.response_start) * upsample

    return infeasible((item.id, _units(item), steps(item)) for item in items)


def _speakable(items: list[Example], processor: OmniProcessor, recipe: Stage2) -> list[Example]:
    """The examples that CTC can learn. Raises UserError where that is not nearly all."""
    silent = [item.id for item in items if not item.answer.units]
    if silent:
        raise UserError(
            f"{len(silent)} of {len(items)} answers have no units, {silent[0]} first; fill them in "
            "with `omni-train units`, or leave these records out"
        )
    highest = max(max(_units(item)) for item in items)
    if highest >= recipe.units:
        raise UserError(
            f"unit {highest} in the manifest: this recipe's decoder knows 0 to {recipe.units - 1}; "
            "give the number of units of the extractor that labelled it"
        )
    bad = infeasible_pairs(items, processor, recipe.upsample)
    if not bad:
        return items
    share = len(bad) / len(items)
    named = "; ".join(str(pair) for pair in bad[:NAMED])
    if share > recipe.max_infeasible:
        raise UserError(
            f"{len(bad)} of {len(items)} pairs ({share:.1%}) have no CTC path, at most "
            f"{recipe.max_infeasible:.1%} may; raise `upsample` (now {recipe.upsample}). {named}"
        )
    log.warning("%d of %d pairs have no CTC path and are left out: %s", len(bad), len(items), named)
    left_out = {pair.key for pair in bad}
    return [item for item in items if item.id not in left_out]


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
    """The states that predict each response, for every variant: clean, augmented, and written."""
    hearing = recipe.hearing
    ears = make_ears(
        model, processor, training, validation, hearing, frames or folder.with_name("frames")
    )
    augmented = (hearing.cached_variants or 0) if hearing.augmentation is not None else 0
    variants = (CLEAN, *range(1, augmented + 1), WRITTEN)
    dialogues = Dialogues([*training, *validation], processor, ears)
    # Examples of like length share a batch.
    order = sorted(range(len(dialogues)), key=dialogues.lengths.__getitem__)
    last = len(training)
    work = {_key(dialogues.items[i], CLEAN): (i, CLEAN) for i in order}
    for variant in variants[1:]:
        work |= {_key(dialogues.items[i], variant): (i, variant) for i in order if i < last}
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
        made_of={
            "model": weights_digest(
                model.speech_encoder, model.speech_adapter, model.language_model
            ),
            "augmentation": repr(hearing.augmentation),
            "seed": hearing.loop.seed,
        },
        batches=[keys[start : start + batch_size] for start in range(0, len(keys), batch_size)],
        make=make,
        width=model.config.hidden_size,
        label="response states",
    )
    return store, variants


def _key(example: Example, variant: int) -> str:
    return f"{variant} {example.id}"


def _units(example: Example) -> list[int]:
    return list(example.answer.units or ())
