"""Block-wise hearing: a Whisper encoder learns to do without what has not been said yet.

A Whisper looks both ways, so it begins when the question has ended. In blocks it can begin with the
first one, but was never trained so. LoRA on its attention and feed-forward layers (Hu et al. 2021)
learns to give, under the block mask and the running log-mel maximum, the frames that the frozen
encoder gives to the whole recording (self-distillation: Hinton et al. 2015, with the teacher's
frames for targets). Questions suffice, no labels are needed, and whatever was trained on the
encoder's frames stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import EvalPrediction

from data_tools.manifest import Manifest
from data_tools.speech import AugmentConfig, load_augmented
from omni.devices import choose_device
from omni.encoder_lora import lora_config, lora_of, merge_lora, wrap_encoder
from omni.files import UserError
from omni.frame_cache import CLEAN
from omni.loading import load
from omni.processor import OmniProcessor, pad_features
from omni.prompt import IGNORE
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from train.data import data_of, examples, on_device, plain, recordings_of, tokenizer_digest
from train.loop import (
    Freeze,
    Item,
    LoopConfig,
    Weights,
    begin_run,
    check_installed,
    from_first,
    numbers,
    part_of,
    train,
)
from train.stages.beginning import heard_by
from train.stages.stage1 import Lora

log = logging.getLogger(__name__)

PART = "speech_encoder"


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """How far frames look, and how the encoder learns to hear so.

    block_frames, left_blocks: of SpeechEncoderConfig. augmentation: every other recording is heard
    with it; None hears all as they are.
    """

    loop: LoopConfig
    lora: Lora
    block_frames: int = 25
    left_blocks: int | None = None
    augmentation: AugmentConfig | None = None

    @property
    def freeze(self) -> Freeze:
        """What trains, by name, in HearsInBlocks: LoRA alone."""
        return Freeze((), lora=(PART,))

    def of(self, config: SpeechEncoderConfig) -> SpeechEncoderConfig:
        """The encoder's configuration with these blocks.

        Raises ValueError for blocks that can't be, UserError for an encoder that has some already.
        """
        if config.block_frames is not None:
            raise UserError(
                f"block_frames={config.block_frames}: the checkpoint's encoder hears in blocks "
                "already; give the one that it was before"
            )
        return replace(config, block_frames=self.block_frames, left_blocks=self.left_blocks)


class HearsInBlocks(nn.Module):
    """An encoder with LoRA, in blocks, beside the frozen one that hears the whole."""

    def __init__(self, whole: SpeechEncoder, config: SpeechEncoderConfig, lora: Lora) -> None:
        super().__init__()
        self.whole = whole
        encoder = SpeechEncoder(config)
        encoder.load_state_dict(whole.state_dict())
        self.speech_encoder = wrap_encoder(encoder, lora_config(rank=lora.rank, alpha=lora.alpha))

    def forward(
        self,
        input_features: Tensor,
        input_features_mask: Tensor,
        whole_features: Tensor,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Log-mel [B, n_mels, M] by its running maximum and as the whole has it, and labels [B, F],
        0 where a frame is -> the mean squared error of a frame, relative to what it should be (of
        all batches of a step, if their number of frames is given); and, when it does not train, of
        each frame the error and the cosine [B, F]."""
        with torch.no_grad():
            expected = self.whole(whole_features, input_features_mask).values.float()
        heard = self.speech_encoder(input_features, input_features_mask).values.float()
        real = labels != IGNORE
        size = expected.square().sum(-1).clamp(min=1e-6)  # of padding it may be anything
        error = (heard - expected).square().sum(-1) / size
        loss = error[real].sum() / (
            real.sum() if num_items_in_batch is None else num_items_in_batch
        )
        if self.training:
            return {"loss": loss}
        return {
            "loss": loss,
            "error": error,
            "cosine": F.cosine_similarity(heard, expected, dim=-1),
        }


class Heard(Dataset[dict[str, Tensor]]):
    """Both log-mels of each recording; by Item perhaps augmented, by int clean."""

    def __init__(
        self,
        recordings: Sequence[Path],
        processor: OmniProcessor,
        in_blocks: SpeechEncoderConfig,
        augmentation: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        self._recordings, self._processor, self._in_blocks = recordings, processor, in_blocks
        self._augmentation, self._seed = augmentation, seed

    def __len__(self) -> int:
        return len(self._recordings)

    @property
    def lengths(self) -> list[int]:
        """Bytes of each recording; enough to sort by."""
        return [path.stat().st_size for path in self._recordings]

    def __getitem__(self, item: Item | int) -> dict[str, Tensor]:
        place = item if isinstance(item, Item) else Item(0, item)
        augmented = isinstance(item, Item) and self._augmentation is not None
        turn = (place.epoch + place.index) % 2  # clean and augmented ones by turns
        variant = 1 + place.epoch if augmented and turn else CLEAN
        samples = load_augmented(
            self._recordings[place.index], variant, seed=self._seed, config=self._augmentation
        )
        whole = self._processor.features(samples)  # refuses what can't be a question
        return {"whole": whole, "in_blocks": self._in_blocks.log_mel(samples)}


def collate(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Pad to the longest of the batch; labels say where frames are."""
    heard = pad_features([row["in_blocks"] for row in rows])
    mask = heard["input_features_mask"].bool()
    return {
        "input_features": heard["input_features"],
        "input_features_mask": mask,
        "whole_features": pad_features([row["whole"] for row in rows])["input_features"],
        "labels": torch.where(mask[:, ::2], 0, IGNORE),  # a frame hears two of them, or the last
    }


def differences(error: np.ndarray, cosine: np.ndarray) -> dict[str, float]:
    """Relative squared errors and cosines [n] of frames -> what validation tells."""
    return {
        "relative_rms": float(np.sqrt(error.mean())),
        "cosine": float(cosine.mean()),
        "cosine_p5": float(np.percentile(cosine, 5)),
    }


def train_blocks(
    checkpoint: str | Path,
    manifest: Manifest,
    *,
    recipe: Blocks,
    output: Path,
    restart: bool = False,
) -> dict[str, float]:
    """Train on the questions of the split "train"; leave the model in `output/checkpoint`.

    What the encoder was, it stays, by name and digest: beside it lies the LoRA. Resumes from what
    `output` holds; restart: removes that first. Raises UserError if it holds a run of something
    else, and for a checkpoint whose encoder hears in blocks already or 30 s of padding. Returns how
    far frames of the split "validation" are from the whole's, before (`before_...`) and after.
    """
    check_installed(recipe.loop)
    model, processor = load(checkpoint, dtype=torch.float32)
    in_blocks = recipe.of(model.speech_encoder.config)
    if model.config.pad_to_window:
        raise UserError(
            f"{checkpoint}: its encoder hears each question with 30 s of padding (pad_to_window), "
            "so it waits for the end, blocks or not; train stage 1 without pad_to_window first"
        )
    made_of = heard_by(model) | {"tokenizer": tokenizer_digest(processor.tokenizer)}
    run = begin_run(
        output,
        "blocks",
        {
            "data": data_of(manifest, "train", "validation"),
            "recipe": plain(recipe),
            "checkpoint": made_of,
        },
        product="checkpoint",
        also_writes=("checkpoint-*", "runs"),
        restart=restart,
        names={"checkpoint": str(checkpoint), "data": str(manifest.root)},
    )
    if run.result is not None:
        return run.result
    held_out = any(record.split == "validation" for record in manifest.records)
    training = Heard(
        recordings_of(examples(manifest, "train")), processor, in_blocks,
        recipe.augmentation, recipe.loop.seed,
    )  # fmt: skip
    validation = None
    if held_out:
        validation = Heard(recordings_of(examples(manifest, "validation")), processor, in_blocks)
    torch.manual_seed(recipe.loop.seed)  # of LoRA's first weights
    module = HearsInBlocks(model.speech_encoder, in_blocks, recipe.lora)
    before = {}
    if validation is not None:
        before = from_first(lambda: measure(module, validation, recipe.loop))
        log.info("before: %s", numbers(before))

    def metrics(prediction: EvalPrediction) -> dict[str, float]:
        found: Any = prediction.predictions  # what the module gives beside its loss
        error, cosine = found
        real = prediction.label_ids != IGNORE
        return differences(error[real], cosine[real])

    def finish(weights: Weights) -> None:
        lora = lora_of(module.speech_encoder, part_of(weights, PART))
        encoder = SpeechEncoder(in_blocks)
        encoder.load_state_dict(part_of(weights, "whole"))
        model.speech_encoder = merge_lora(encoder, lora, where=str(output))
        model.speech_encoder.lora = lora
        for name, value in in_blocks.blocks.items():
            setattr(model.config.audio_config, name, value)
        model.config.trained = model.config.trained | {"blocks": [PART]}
        model.save_pretrained(output / "checkpoint", processor=processor)

    result = train(
        module,
        config=recipe.loop,
        output=output,
        dataset=training,
        lengths=training.lengths,
        collate=collate,
        count=lambda batch: int((batch["labels"] != IGNORE).sum()),
        validation=validation,
        metrics=metrics,
        freeze=recipe.freeze,
        finish=finish,
    )
    return run.finish({f"before_{name}": value for name, value in before.items()} | result)


@torch.no_grad()
def measure(module: HearsInBlocks, dataset: Heard, loop: LoopConfig) -> dict[str, float]:
    """What validation tells of the module as it is."""
    device = choose_device(loop.device)
    module.to(device).eval()
    errors, cosines = [], []
    for batch in DataLoader(dataset, batch_size=loop.batch_size, collate_fn=collate):
        found = module(**on_device(batch, device))
        real = batch["labels"] != IGNORE
        errors.append(found["error"].cpu()[real])
        cosines.append(found["cosine"].cpu()[real])
    return differences(torch.cat(errors).numpy(), torch.cat(cosines).numpy())
