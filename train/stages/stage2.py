"""Stage 2: the model learns to speak what it writes.

Everything but the unit decoder is frozen, so the LLM's states at each response are computed once
and kept; the decoder then trains on them by CTC against the units of the recorded answer.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction

from data_tools.manifest import Manifest
from omni.about import write_card
from omni.ctc import best_units, ctc_loss
from omni.files import UserError, fetch, read_json, replace_folder, write_json, write_tensors
from omni.frame_cache import CLEAN, weights_digest
from omni.loading import load
from omni.metrics import unit_error_rate
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.spelling import spelled
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig
from omni.values import Frames
from train.data import (
    Limits,
    added,
    data_of,
    examples,
    plain,
    speakable,
    spread,
    tokenizer_digest,
)
from train.loop import Freeze, LoopConfig, begin_run, check_installed, filled, part_of, train
from train.stages.beginning import heard_by
from train.stages.stage1 import Stage1
from train.stages.states import CachedStates, ResponseTokens, cache_states, collate

UNIT_DECODER = "unit_decoder.safetensors"


@dataclass(frozen=True, kw_only=True)
class Stage2:
    """What stage 2 trains, on what, for how long.

    hearing: stage 1's recipe: questions come in as they did there. units: K of the extractor.
    gate_fusion: the decoder also reads the token that each state predicts. spelling: and so many
    of its letters; they are added to a decoder of a warm start that reads none. max_infeasible: the
    share of pairs without a CTC path that may be left out; above, training is refused. answers:
    so many of the training's, evenly over it; None: all. clean_alone: each answer after the clean
    recording of its question, not also after augmented ones and after the question in writing;
    the LLM is run over every answer once for each. warm_start: begin with the checkpoint's own
    unit decoder, whose sizes then hold.
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
    gate_fusion: bool = added(False)
    spelling: int = added(0)
    max_infeasible: float = 0.01
    answers: int | None = added(None)
    clean_alone: bool = added(False)
    warm_start: bool = added(False)

    def decoder(self, input_width: int, vocabulary: int) -> UnitDecoderConfig:
        """The unit decoder's configuration above an LLM of this width, with so many ids."""
        return UnitDecoderConfig(
            input_width=input_width, width=self.width, layers=self.layers, heads=self.heads,
            ffn=self.ffn, num_units=self.units, upsample=self.upsample,
            step_embedding=self.step_embedding, gate_fusion=self.gate_fusion,
            spelling=self.spelling, vocabulary=vocabulary if self.spelling else 0,
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
        """The decoder's `inputs` [B, N, H], [B], [B, U], [B] -> the mean loss per unit (of all
        batches of a step, if their number is given); in evaluation also the errors [B] of the
        greedy units and the number of true ones [B]."""
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


def unit_errors(prediction: EvalPrediction) -> dict[str, float]:
    """Trainer's metrics hook: unit error rate, and units said per true one (1 is right; near 0 is
    the collapse to blank)."""
    errors, lengths, said = np.asarray(prediction.predictions)  # [N] each
    return {
        "unit_error_rate": float(errors.sum() / lengths.sum()),
        "units_said": float(said.sum() / lengths.sum()),
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
    infeasible, if `output` holds a run of something else, and where a warm start is asked of a
    checkpoint that has no unit decoder for these units. Returns the CTC loss and unit error rate
    of "validation", if there is one.
    """
    check_installed(recipe.loop)
    model, processor = load(checkpoint)
    model.requires_grad_(False)
    spoken_by = _warm(model, checkpoint, recipe) if recipe.warm_start else None
    if spoken_by is not None:
        recipe = replace(recipe, upsample=spoken_by.upsample)
    held_out = any(record.split == "validation" for record in manifest.records)
    limits = Limits(units=recipe.units, upsample=recipe.upsample, share=recipe.max_infeasible)
    training = spread(speakable(examples(manifest, "train"), processor, limits), recipe.answers)
    validation = speakable(examples(manifest, "validation"), processor, limits) if held_out else []
    run = begin_run(
        output,
        "stage2",
        {
            "data": data_of(manifest, "train", "validation", units=True),
            "recipe": plain(recipe),
            "checkpoint": heard_by(model)
            | {"tokenizer": tokenizer_digest(processor.tokenizer)}
            | ({} if spoken_by is None else {"unit_decoder": weights_digest(spoken_by)}),
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
        model,
        processor,
        training,
        validation,
        recipe.hearing,
        recipe.loop,
        output / "states",
        frames,
        clean_alone=recipe.clean_alone,
    )
    torch.manual_seed(recipe.loop.seed)  # of the decoder's first weights
    unit_decoder = first_decoder(model, processor, spoken_by, recipe)
    config = unit_decoder.config
    tokens = ResponseTokens(model, processor, unit_decoder)
    del model  # its memory is the training's now
    dataset = CachedStates(training, store, variants, tokens)
    result = train(
        LearnsToSpeak(unit_decoder),
        config=recipe.loop,
        output=output,
        dataset=dataset,
        lengths=dataset.lengths,
        collate=collate,
        count=lambda batch: int(batch["label_lengths"].sum()),
        validation=CachedStates(validation, store, (CLEAN,), tokens) if validation else None,
        metrics=unit_errors,
        freeze=Freeze(("unit_decoder",)),
        save=lambda folder, weights: write_tensors(
            folder / UNIT_DECODER, part_of(weights, "unit_decoder")
        ),
        finish=lambda weights: add_voice(
            fetch(str(checkpoint)),
            output / "checkpoint",
            filled(UnitDecoder(config), weights, "unit_decoder"),
        ),
    )
    return run.finish(result)


def _warm(
    model: OmniForConditionalGeneration, checkpoint: str | Path, recipe: Stage2
) -> UnitDecoder:
    """The checkpoint's unit decoder, at full precision."""
    found = model.unit_decoder
    if found is None:
        raise UserError(f"{checkpoint}: has no unit decoder to begin with; leave out warm_start")
    if found.config.num_units != recipe.units:
        raise UserError(
            f"{checkpoint}: its unit decoder says {found.config.num_units} units, the data have "
            f"{recipe.units}; leave out warm_start, or extract units with its own units/"
        )
    return found.float().requires_grad_(True)


def first_decoder(
    model: OmniForConditionalGeneration,
    processor: OmniProcessor,
    spoken_by: UnitDecoder | None,
    recipe: Stage2,
) -> UnitDecoder:
    """The unit decoder as training begins with it: new, or `spoken_by` with what it lacks."""
    vocabulary = int(model.config.text_config.vocab_size)
    if spoken_by is None:
        decoder = UnitDecoder(recipe.decoder(model.config.hidden_size, vocabulary))
    elif recipe.spelling and not spoken_by.config.spelling:
        config = replace(spoken_by.config, spelling=recipe.spelling, vocabulary=vocabulary)
        decoder = UnitDecoder(config)
        decoder.load_state_dict(decoder.state_dict() | spoken_by.state_dict())
    else:
        return spoken_by
    if recipe.spelling:
        codes = spelled(processor.tokenizer, vocabulary, recipe.spelling)
        decoder.spelling.codes.copy_(codes)
    return decoder


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
