"""Stage 1: the model learns to answer what it hears.

The speech adapter trains, and with it the LLM: all of it, LoRA weights, or not at all. The loss
is cross-entropy on the response alone; the speech encoder is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from data_tools.manifest import Manifest
from data_tools.speech import AugmentConfig
from omni.devices import choose_device
from omni.files import UserError
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import IGNORE, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from omni.values import Frames
from train.bases import answer_tokens, exact_answers
from train.data import (
    Collate,
    Dialogues,
    Ears,
    Example,
    LiveEars,
    added,
    cached_ears,
    data_of,
    examples,
    plain,
    recordings_of,
)
from train.loop import (
    Freeze,
    LoopConfig,
    Weights,
    begin_run,
    check_installed,
    part_of,
    share,
    train,
)
from train.stages.beginning import begin_with
from train.stages.teacher import check_teacher, teach

STILL = ("speech_encoder.", "unit_decoder.", "vocoder.")  # what never trains here


@dataclass(frozen=True, kw_only=True)
class Lora:
    """LoRA's size (Hu et al. 2021), on all linear layers of the LLM."""

    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True, kw_only=True)
class Stage1:
    """What stage 1 trains, on what, for how long.

    language_model: "full", "lora" or "frozen". text_share: share of questions that are put in
    writing, so that the LLM stays able to read. augmentation: None hears the recordings as they
    are. cached_variants: None encodes every question in every epoch; a number encodes it once
    clean and that many times augmented, keeps that on disk, and takes the variants in turn.
    frame_masking: share of those cached frames that an example does not hear. word_dropout: share
    of the words in writing that an example does not see. distillation_weight:
    of the divergence from what the LLM's base says to the written question, beside cross-entropy.
    keep_adapter: an aligned adapter stays as it is, but for what the LLM reads in silence.
    """

    adapter: SpeechAdapterConfig
    prompt: PromptConfig
    loop: LoopConfig
    language_model: Literal["full", "lora", "frozen"] = "full"
    lora: Lora = Lora()
    text_share: float = 0.0
    augmentation: AugmentConfig | None = None
    cached_variants: int | None = None
    frame_masking: float = 0.0
    word_dropout: float = added(0.0)
    distillation_weight: float = added(0.0)
    gradient_checkpointing: bool = False
    keep_adapter: bool = added(False)

    def __post_init__(self) -> None:
        check_teacher(self.distillation_weight, self.language_model)
        if self.keep_adapter and self.language_model == "frozen":
            raise UserError(
                "keep_adapter=True: with a frozen language model nothing would train; train the "
                "language model by lora or full, or let the adapter train"
            )

    @property
    def freeze(self) -> Freeze:
        """What trains, by name, in the module that is trained. Which parameters an adapter has that
        is kept, `adapter` says: it has to be the model's own."""
        adapter = ("model.speech_adapter",)
        if self.keep_adapter:
            adapter = ("model.speech_adapter.mixture.silence",) if self.adapter.vocabulary else ()
        parts = {
            "full": Freeze((*adapter, "model.language_model")),
            "lora": Freeze(adapter, lora=("model.language_model",)),
            "frozen": Freeze(adapter),
        }
        return parts[self.language_model]

    @property
    def trained(self) -> list[str]:
        """What config.json says was trained."""
        return ["speech_adapter", *(["language_model"] * (self.language_model != "frozen"))]


class LearnsToListen(nn.Module):
    """The model with stage 1's loss; returns what the metrics need instead of all logits."""

    def __init__(
        self,
        model: OmniForConditionalGeneration,
        *,
        encoded: bool = True,
        distillation_weight: float = 0.0,
    ) -> None:
        """encoded: whether batches bring encoder frames, or log-mel for the encoder.
        distillation_weight: of the teacher's divergence, where a batch has a lesson."""
        super().__init__()
        self.model = model
        self._weight = distillation_weight
        self._encoded = encoded
        self.config = model.config  # DeepSpeed's "auto" sizes are read from it

    def train(self, mode: bool = True) -> LearnsToListen:
        """As of any module, but for the frozen encoder, which stays in eval mode."""
        super().train(mode)
        self.model.speech_encoder.eval()  # frozen: no dropout either
        return self

    def forward(self, labels: Tensor, **batch: Any) -> dict[str, Tensor]:
        """A Batch -> the loss, and for each row [B] whether every token would be right."""
        nothing: Tensor | float = 0.0
        if "encoder_frames" not in batch and "input_features" not in batch:
            # All in writing: processes beside this one wait for a gradient of every weight, and,
            # where weights lie in parts, for this one to use the same modules in the same order.
            nothing = 0.0 * self._silence().values.sum()
        taught = teach(self.model, batch)
        # A vocabulary is large: its scores are made only where some row has a token to predict.
        kept = (labels[:, 1:] != IGNORE).any(0).nonzero().flatten()
        output = self.model(labels=labels, logits_to_keep=kept, **batch)
        targets = labels[:, kept + 1]
        loss = output.loss + nothing
        if taught is not None:
            items = batch.get("num_items_in_batch")
            loss = loss + self._weight * taught.divergence(output.logits, targets, items)
        wrong = (output.logits.argmax(-1) != targets) & (targets != IGNORE)
        return {"loss": loss, "exact": ~wrong.any(-1)}

    def _silence(self) -> Frames:
        """What the adapter makes of a little silence, heard as the recordings are."""
        config = self.model.config
        device = self.model.device
        frames = config.adapter.stack
        if self._encoded:
            width = self.model.speech_encoder.width
            heard = Frames(
                torch.zeros(1, frames, width, device=device), torch.tensor([frames], device=device)
            )
            return self.model.adapt_speech(heard)
        mel = torch.zeros(1, config.encoder.n_mels, 2 * frames, device=device)
        return self.model.encode_speech(mel, torch.ones_like(mel[:, 0], dtype=torch.bool))


def make_ears(
    model: OmniForConditionalGeneration,
    processor: OmniProcessor,
    training: list[Example],
    validation: list[Example],
    recipe: Stage1,
    cache: Path,
) -> Ears:
    """The recipe's way to hear: on the fly, or from the cache, which is filled first."""
    seed = recipe.loop.seed
    if recipe.cached_variants is None:
        return LiveEars(processor, augmentation=recipe.augmentation, seed=seed)
    device = choose_device(recipe.loop.device)
    ears = cached_ears(
        model.speech_encoder.to(device),
        processor,
        recordings_of(training),
        clean_only=recordings_of(validation),
        augmentation=recipe.augmentation or AugmentConfig(),
        variants=recipe.cached_variants if recipe.augmentation is not None else 0,
        seed=seed,
        folder=cache,
        share=share(),
    )
    model.speech_encoder.to(model.device)  # back to the others: how they move is the loop's to say
    return ears


def train_stage1(
    manifest: Manifest,
    *,
    recipe: Stage1,
    output: Path,
    speech_encoder: str | None = None,
    language_model: str | None = None,
    checkpoint: str | Path | None = None,
    cache: Path | None = None,
    adapter: Path | None = None,
    restart: bool = False,
) -> dict[str, float]:
    """Train on the split "train"; leave the model in `output/checkpoint`.

    It begins with a speech encoder and a language model, or goes on from a checkpoint, whose
    adapter, prompt, LoRA and voice it keeps. cache: where encoded questions lie, default
    `output/frames`. adapter: an aligned one to begin with, as `train_align` leaves it; None begins
    with a random one. Resumes from what `output` holds; restart: removes that first.
    Raises UserError if it holds a run of something else. Returns the loss and the share of exact
    answers of the split "validation", if there is one.
    """
    check_installed(recipe.loop)
    begun = begin_with(
        recipe,
        speech_encoder=speech_encoder,
        language_model=language_model,
        checkpoint=checkpoint,
        adapter=adapter,
    )
    model, processor, recipe = begun.model, begun.processor, begun.recipe
    # Before the folder is taken: data that are refused are mended, and then they are others.
    training = examples(manifest, "train")
    held_out = any(record.split == "validation" for record in manifest.records)
    validation = examples(manifest, "validation") if held_out else []
    run = begin_run(
        output,
        "stage1",
        {
            "data": data_of(manifest, "train", "validation"),
            "recipe": plain(recipe),
            **begun.made_of,
        },
        product="checkpoint",
        also_writes=("checkpoint-*", "runs"),
        shared=("frames",),
        restart=restart,
        names={**begun.names, "data": str(manifest.root)},
    )
    if run.result is not None:
        return run.result
    ears = make_ears(model, processor, training, validation, recipe, cache or output / "frames")
    dataset = Dialogues(
        training,
        processor,
        ears,
        text_share=recipe.text_share,
        word_dropout=recipe.word_dropout,
        frame_masking=recipe.frame_masking,
        lessons=recipe.distillation_weight > 0,
        seed=recipe.loop.seed,
    )
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if choose_device(recipe.loop.device).type == "cpu":
        # Backwards, torch's own attention for CPUs is several times slower than plain products.
        model.language_model.set_attn_implementation("eager")

    # DeepSpeed trains in 16 bits whatever lies in the module, and would give it back rounded.
    still = {name: w for name, w in model.state_dict().items() if name.startswith(STILL)}

    def write(folder: Path, weights: Weights) -> None:
        found = part_of(weights, "model") | still
        model.save_pretrained(folder, processor=processor, state_dict=found)

    result = train(
        LearnsToListen(model, encoded=ears.encoded, distillation_weight=recipe.distillation_weight),
        config=recipe.loop,
        output=output,
        dataset=dataset,
        lengths=dataset.lengths,
        collate=Collate(processor, ears),
        count=answer_tokens,
        validation=Dialogues(validation, processor, ears) if validation else None,
        metrics=exact_answers,
        freeze=replace(recipe, adapter=model.config.adapter).freeze,
        save=lambda folder, weights: write(folder / "model", weights),
        finish=lambda weights: write(output / "checkpoint", weights),
    )
    return run.finish(result)
