"""A Whisper-shaped speech encoder from transcribed speech, by CTC on letters.

Only the embedded default needs this: who has a Whisper checkpoint uses that one, frozen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import Dataset
from transformers import EvalPrediction

from data_tools.manifest import Manifest
from data_tools.speech import AugmentConfig, augment, augment_rng
from omni.audio import SAMPLE_RATE, load_audio
from omni.checkpoint import load_speech_encoder
from omni.files import digest_of, files_digest, need, read_tensors, write_tensors
from omni.frame_cache import weights_digest
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig, save_speech_encoder
from train.data import plain
from train.loop import Item, LoopConfig, Weights, begin_run, check_installed, filled, train

LETTERS = " 'abcdefghijklmnopqrstuvwxyz"  # class 0 is the CTC blank, class i+1 is LETTERS[i]
BLANK = 0
HEAD = "letters.safetensors"  # the layer above the encoder, beside its folder


@dataclass(frozen=True)
class Utterance:
    """One transcribed recording."""

    path: Path
    text: str
    samples: int  # length at 16 kHz, for bucketing


def transcribed(manifest: Manifest, split: str, *, language: str | None = None) -> list[Utterance]:
    """Every recording of a split, each file once, with the text that is said in it.

    language: of the records that count; None takes all. A sound that is no speech has no text.
    """
    import soundfile

    spoken: dict[Path, Utterance] = {}
    for record in manifest.records:
        heard = record.split == split and language in (None, record.language)
        for turn in record.turns if heard else ():
            if turn.speech is not None:
                path = manifest.audio_path(turn)
                if path not in spoken:
                    info = soundfile.info(path)
                    samples = info.frames * SAMPLE_RATE // info.samplerate
                    spoken[path] = Utterance(path, turn.text, samples)
    return list(spoken.values())


def spell(text: str) -> list[int]:
    """Text -> CTC classes; what is no letter, apostrophe or space is dropped."""
    clean = re.sub(r"\s+", " ", re.sub(r"[^a-z' ]", " ", text.lower())).strip()
    return [LETTERS.index(letter) + 1 for letter in clean]


def unspell(classes: list[int]) -> str:
    """Frame labels -> text: repeats merged, blanks and Trainer's padding (-100) dropped."""
    merged = [c for i, c in enumerate(classes) if i == 0 or c != classes[i - 1]]
    return "".join(LETTERS[c - 1] for c in merged if c > BLANK)


class EncoderForCTC(nn.Module):
    """The encoder with a linear letter head on top (Graves et al. 2006)."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(config)
        self.head = nn.Linear(config.width, len(LETTERS) + 1)
        initialise(self.encoder)

    def forward(
        self,
        input_features: Tensor,
        input_features_mask: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """[B, n_mels, M], [B, M], [B, L], [B] -> the mean loss per letter (of all batches of a
        step, if their number is given) and the best classes."""
        # Short utterances: the fused kernel's backward pass takes half of a step on CPUs.
        with sdpa_kernel(SDPBackend.MATH):
            frames = self.encoder(input_features, input_features_mask)
        # float32: CTC sums over many paths, and bfloat16 loses the small ones.
        log_probs = F.log_softmax(self.head(frames.values).float(), dim=-1)
        total = F.ctc_loss(
            log_probs.transpose(0, 1), labels, frames.lengths, label_lengths, blank=BLANK,
            reduction="sum", zero_infinity=True,
        )  # fmt: skip
        number = letters_of(label_lengths) if num_items_in_batch is None else num_items_in_batch
        loss = total / number
        best = log_probs.argmax(-1).masked_fill(~frames.mask, BLANK)
        return {"loss": loss, "best": best}


def letters_of(label_lengths: Tensor) -> int:
    """Their sum, for the mean per letter; a batch of sounds alone has none, and counts as one."""
    return max(1, int(label_lengths.sum()))


@torch.no_grad()
def initialise(encoder: SpeechEncoder) -> None:
    """Sinusoidal positions at full scale, and convolutions four times torch's default.

    With the usual small weights the positions drown the sound, and CTC rests on a plateau (loss
    about 1.1 per letter) for hundreds of steps.
    """
    width, positions = encoder.width, encoder.config.max_frames
    rate = torch.exp(-torch.arange(width // 2) * (np.log(10_000) / (width // 2 - 1)))
    angle = torch.arange(positions)[:, None] * rate[None, :]
    encoder.embed_positions.weight.copy_(torch.cat([angle.sin(), angle.cos()], dim=1))
    encoder.embed_positions.weight.requires_grad_(False)
    for convolution in (encoder.conv1, encoder.conv2):
        convolution.weight.mul_(4.0)


class Utterances(Dataset[dict[str, Any]]):
    """Log-mel and letters; augmented from `clean_epochs` on, validation (plain int) never."""

    def __init__(
        self,
        utterances: list[Utterance],
        *,
        architecture: SpeechEncoderConfig,
        seed: int,
        clean_epochs: int = 0,
        augmentation: AugmentConfig | None = None,
    ) -> None:
        self._utterances = utterances
        self._architecture = architecture
        self._seed = seed
        self._clean_epochs = clean_epochs
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._utterances)

    def __getitem__(self, item: Item | int) -> dict[str, Tensor]:
        place = item if isinstance(item, Item) else Item(0, item)
        utterance = self._utterances[place.index]
        waveform = load_audio(utterance.path)
        augmented = self._augmentation is not None and place.epoch >= self._clean_epochs
        rng = augment_rng(self._seed, place.epoch, place.index)
        if augmented:
            assert self._augmentation is not None
            waveform = augment(waveform, rng, self._augmentation)
        mel = self._architecture.log_mel(waveform)
        if augmented:
            mel = mask_bands(mel, rng)
        return {"mel": mel, "letters": torch.tensor(spell(utterance.text), dtype=torch.int64)}


def mask_bands(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """SpecAugment (Park et al. 2019): two frequency and two time bands become the mean."""
    mel, mean = mel.clone(), mel.mean()
    n_mels, frames = mel.shape
    for _ in range(2):
        band = int(rng.integers(0, n_mels // 7))
        low = int(rng.integers(0, n_mels - band))
        mel[low : low + band] = mean
        span = int(rng.integers(0, max(1, min(12, frames // 10))))
        start = int(rng.integers(0, max(1, frames - span)))
        mel[:, start : start + span] = mean
    return mel


def collate(examples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Pad to the longest of the batch."""
    mels = [example["mel"] for example in examples]
    letters = [example["letters"] for example in examples]
    longest = max(mel.shape[1] for mel in mels)
    longest += longest % 2  # the second convolution has stride 2
    features = torch.stack([F.pad(mel, (0, longest - mel.shape[1])) for mel in mels])
    mask = torch.zeros(len(mels), longest, dtype=torch.bool)
    for row, mel in enumerate(mels):
        mask[row, : mel.shape[1]] = True
    return {
        "input_features": features,
        "input_features_mask": mask,
        "labels": nn.utils.rnn.pad_sequence(letters, batch_first=True),
        "label_lengths": torch.tensor([len(text) for text in letters]),
    }


def character_error_rate(prediction: EvalPrediction) -> dict[str, float]:
    """Trainer's metrics hook: greedy CTC against the transcript, of what has one."""
    import jiwer

    rows = zip(prediction.predictions, prediction.label_ids, strict=True)
    pairs = [
        (unspell([int(c) for c in best]), "".join(LETTERS[c - 1] for c in letters if c > 0))
        for best, letters in rows
    ]
    said, true = zip(*((s, t) for s, t in pairs if t), strict=True)
    said, true = list(said), list(true)
    return {"cer": float(jiwer.cer(true, said)), "wer": float(jiwer.wer(true, said))}


def train_encoder(
    utterances: list[Utterance],
    validation: list[Utterance],
    *,
    architecture: SpeechEncoderConfig,
    loop: LoopConfig,
    output: Path,
    clean_epochs: int = 1,
    augmentation: AugmentConfig | None = None,
    begin_with: Path | None = None,
    restart: bool = False,
) -> dict[str, float]:
    """Train, and leave the encoder in `output/encoder` as a transformers folder.

    begin_with: the `output` of an earlier run, whose weights this one goes on from.
    Resumes from what `output` holds; restart: removes that first. Raises UserError if it holds a
    run of something else.
    """
    check_installed(loop)
    need("jiwer", "train", "the encoder's validation")
    heard = [*utterances, *validation]
    torch.manual_seed(loop.seed)  # of the first weights
    module = EncoderForCTC(architecture)
    if begin_with is not None:
        module.load_state_dict(
            {
                **prefixed("encoder", load_speech_encoder(str(begin_with / "encoder"))),
                **read_tensors(begin_with / HEAD),
            }
        )
    run = begin_run(
        output,
        "encoder",
        {
            "data": {
                "records": {"train": len(utterances), "validation": len(validation)},
                "texts": digest_of([utterance.text for utterance in heard]),
                "recordings": files_digest(utterance.path for utterance in heard),
            },
            "recipe": {
                "architecture": plain(architecture),
                "loop": plain(loop),
                "clean_epochs": clean_epochs,
                "augmentation": plain(augmentation),
            }
            | ({} if begin_with is None else {"begin_with": weights_digest(module)}),
        },
        product="encoder",
        also_writes=("checkpoint-*", "runs", HEAD),
        restart=restart,
    )
    if run.result is not None:
        return run.result

    def finish(weights: Weights) -> None:
        made = filled(SpeechEncoder(architecture), weights, "encoder")
        head = {name: value for name, value in weights.items() if name.startswith("head.")}
        write_tensors(output / HEAD, head)
        save_speech_encoder(made, output / "encoder")

    result = train(
        module,
        config=replace(loop, warmup=max(loop.warmup, 0.03)),
        output=output,
        dataset=Utterances(
            utterances,
            architecture=architecture,
            seed=loop.seed,
            clean_epochs=clean_epochs,
            augmentation=augmentation,
        ),
        lengths=[utterance.samples for utterance in utterances],
        collate=collate,
        count=lambda batch: letters_of(batch["label_lengths"]),
        validation=Utterances(validation, architecture=architecture, seed=loop.seed)
        if validation
        else None,
        metrics=character_error_rate,
        finish=finish,
    )
    return run.finish(result)


def prefixed(name: str, module: nn.Module) -> dict[str, Tensor]:
    """Its weights as those of a child of that name."""
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}
