"""`--dry-run`: what a run would train, of which sizes, in how many steps and how much memory.

Modules are made without weights (torch's meta device), so that a plan for 8 billion parameters
fits anywhere. Nothing is written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import soundfile
import torch
from torch import nn

from data_tools.manifest import Manifest
from omni.audio import FRAME_RATE, SAMPLES_PER_FRAME
from omni.checkpoint import base_config
from omni.config import OmniConfig
from omni.files import UserError, hub_name, on_this_machine
from omni.foreign import read_encoder_config
from omni.language_model import add_lora
from omni.model import OmniForConditionalGeneration
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from omni.vocoder import VOCODERS
from train.bases import (
    NANO_PROMPT,
    EncoderForCTC,
    SmallLlama,
    TextDialogues,
    Utterance,
    build_tokenizer,
    llama_config,
)
from train.commands.choose import config_of, count, meta_language_model
from train.data import Example, examples, recordings_of, spread
from train.loop import Freeze, LoopConfig, process_count
from train.stages import (
    Align,
    Blocks,
    HearsInBlocks,
    LearnsToListen,
    Stage1,
    Stage2,
    VocoderRecipe,
    check_beginning,
    spoken,
)
from train.voice import Discriminators, UnitClip

SPLITS = ("train", "validation")
WEIGHT, GRADIENT, OPTIMISER = 4, 4, 8  # bytes per parameter: float32, and Adam's two moments
ACTIVATION = 34  # bytes per position, channel and layer, kept for the way back (Korthikanti 2022)
LOGIT = 12  # bytes per position and word: logits, their log-softmax and its gradient
LETTERS_PER_TOKEN = 4
PROMPT_TOKENS = 60  # of template and system text
MEGA, GIGA = 1e6, 1e9


@dataclass(frozen=True)
class Part:
    """One part of the model: how many parameters, and how many of them train."""

    name: str
    parameters: int
    trained: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would be. activations: bytes of the longest batch; None where nothing is known."""

    parts: Sequence[Part]
    examples: int
    validation: int
    loop: LoopConfig
    activations: int | None

    @property
    def steps(self) -> int:
        """Steps of the optimiser in all, over all processes."""
        per_step = self.loop.batch_size * self.loop.accumulate * process_count()
        whole = math.ceil(math.ceil(self.examples / per_step) * self.loop.epochs)
        return whole if self.loop.max_steps < 0 else self.loop.max_steps

    @property
    def memory(self) -> dict[str, int]:
        """Bytes, by what takes them."""
        trained = sum(part.trained for part in self.parts)
        found = {
            "weights": WEIGHT * sum(part.parameters for part in self.parts),
            "gradients": GRADIENT * trained,
            "optimiser": OPTIMISER * trained,
        }
        return found | ({} if self.activations is None else {"activations": self.activations})

    def lines(self) -> list[str]:
        """As text for a terminal."""
        told = []
        for part in self.parts:
            what = "frozen" if not part.trained else f"{part.trained:,} of them train"
            told.append(f"{part.name:<16} {part.parameters:>14,} parameters, {what}")
        loop = self.loop
        told.append(f"examples: {self.examples} train, {self.validation} validation")
        told.append(
            f"steps: {self.steps} of {loop.batch_size} x {loop.accumulate} x {process_count()} "
            f"examples (batch, accumulated, processes), {loop.epochs:g} epochs, seed {loop.seed}"
        )
        sizes = ", ".join(f"{name} {_size(size)}" for name, size in self.memory.items())
        beside = "" if self.activations is not None else "; activations come on top"
        in_all = f"memory: about {_size(sum(self.memory.values()))} per process"
        told.append(f"{in_all} ({sizes}){beside}")
        return told


def plan_lm(manifest: Manifest, size: SmallLlama, loop: LoopConfig) -> Plan:
    """Of `omni-train lm`; the tokenizer is made, for it says how long the longest example is."""
    records = {s: [r for r in manifest.records if r.split == s] for s in SPLITS}
    tokenizer = build_tokenizer(
        [turn.text for record in records["train"] for turn in record.turns], size.vocabulary
    )
    data = {s: TextDialogues(found, tokenizer, NANO_PROMPT) for s, found in records.items()}
    model = meta_language_model(llama_config(size, tokenizer))
    positions = loop.batch_size * max(data["train"].lengths, default=0)
    return Plan(
        parts=_parts(language_model=model),
        examples=len(data["train"]),
        validation=len(data["validation"]),
        loop=loop,
        activations=positions * (ACTIVATION * size.width * size.layers + LOGIT * size.vocabulary),
    )


def plan_encoder(
    training: Sequence[Utterance],
    validation: Sequence[Utterance],
    architecture: SpeechEncoderConfig,
    loop: LoopConfig,
) -> Plan:
    """Of `omni-train encoder`."""
    with torch.device("meta"):
        module = EncoderForCTC(architecture)
    longest = max((utterance.samples for utterance in training), default=0)
    positions = loop.batch_size * longest // SAMPLES_PER_FRAME
    return Plan(
        parts=_parts(encoder=module.encoder, head=module.head),
        examples=len(training),
        validation=len(validation),
        loop=loop,
        activations=positions * ACTIVATION * architecture.width * architecture.layers,
    )


def plan_vocoder(
    training: Sequence[UnitClip], validation: Sequence[UnitClip], recipe: VocoderRecipe
) -> Plan:
    """Of `omni-train vocoder`."""
    with torch.device("meta"):
        vocoder = VOCODERS[recipe.architecture.kind](recipe.architecture)
        discriminators = recipe.discriminators and Discriminators(recipe.discriminators)
    return Plan(
        parts=_parts(vocoder=vocoder, discriminators=discriminators),
        examples=len(training),
        validation=len(validation),
        loop=recipe.loop,
        activations=None,
    )


def beginning_config(
    speech_encoder: str | None = None,
    language_model: str | None = None,
    checkpoint: str | None = None,
) -> OmniConfig:
    """Of the model that stage 1 begins with; nothing but configurations is read.

    Raises UserError unless there are two bases, or a checkpoint alone.
    """
    check_beginning(speech_encoder, language_model, checkpoint)
    if checkpoint is not None:
        return config_of(checkpoint)
    assert speech_encoder is not None and language_model is not None
    return OmniConfig(
        audio_config=encoder_config(speech_encoder).to_whisper(),
        text_config=base_config(language_model),
    )


def plan_stage1(
    manifest: Manifest,
    recipe: Stage1,
    *,
    speech_encoder: str | None = None,
    language_model: str | None = None,
    checkpoint: str | None = None,
) -> Plan:
    """Of `omni-train stage1`, which begins with two bases or with a checkpoint."""
    config = beginning_config(speech_encoder, language_model, checkpoint)
    if checkpoint is None:
        config.speech_adapter = asdict(recipe.adapter)
    with torch.device("meta"):
        model = OmniForConditionalGeneration(config)
        if recipe.language_model == "lora":
            model.language_model = add_lora(
                model.language_model, rank=recipe.lora.rank, alpha=recipe.lora.alpha
            )
    recipe.freeze.apply(LearnsToListen(model))
    training, validation = _examples(manifest)
    text = config.text_config
    # Checkpointing keeps each layer's input alone, and one layer at a time in full.
    layers = 1 + text.num_hidden_layers / (ACTIVATION / 2)
    kept = layers if recipe.gradient_checkpointing else text.num_hidden_layers
    per_position = ACTIVATION * text.hidden_size * kept + LOGIT * text.vocab_size
    positions = recipe.loop.batch_size * _longest(training, recipe.adapter.stack)
    return Plan(
        parts=_model_parts(model),
        examples=len(training),
        validation=len(validation),
        loop=recipe.loop,
        activations=round(positions * per_position),
    )


def plan_align(manifest: Manifest, recipe: Align, **begun: str | None) -> Plan:
    """Of `omni-train align`: stage 1's with a frozen LLM, of which nothing but a table is held.

    Only the questions that `spoken` keeps count. begun: as `plan_stage1` takes it.
    """
    alone = replace(recipe.hearing, language_model="frozen", keep_adapter=False, loop=recipe.loop)
    plan = plan_stage1(manifest, alone, **begun)
    training, validation = spoken(manifest)
    config = beginning_config(**begun)
    stack = (config.adapter if begun.get("checkpoint") else alone.adapter).stack
    positions = recipe.loop.batch_size * _longest(training, stack)
    return replace(
        plan,
        examples=len(training),
        validation=len(validation),
        activations=positions * LOGIT * config.text_config.vocab_size,
    )


def plan_blocks(checkpoint: str | Path, manifest: Manifest, recipe: Blocks) -> Plan:
    """Of `omni-train blocks`; of the checkpoint nothing but its configuration is read."""
    whole = config_of(checkpoint).encoder
    with torch.device("meta"):
        module = HearsInBlocks(SpeechEncoder(whole), recipe.of(whole), recipe.lora)
    recipe.freeze.apply(module)
    training, validation = _examples(manifest)
    frames = recipe.loop.batch_size * _longest(training, 1)
    return Plan(
        parts=_parts(whole=module.whole, speech_encoder=module.speech_encoder),
        examples=len(recordings_of(training)),
        validation=len(recordings_of(validation)),
        loop=recipe.loop,
        activations=frames * ACTIVATION * whole.width * whole.layers,
    )


def plan_stage2(checkpoint: str | Path, manifest: Manifest, recipe: Stage2) -> Plan:
    """Of `omni-train stage2`; of the checkpoint nothing but its configuration is read."""
    config = config_of(checkpoint)
    config.unit_decoder = asdict(recipe.decoder(config.hidden_size, config.text_config.vocab_size))
    with torch.device("meta"):
        model = OmniForConditionalGeneration(config)
    Freeze(("unit_decoder",)).apply(model)
    training, validation = _examples(manifest)
    letters = max((len(item.answer.text) for item in training), default=0)
    positions = letters // LETTERS_PER_TOKEN * recipe.upsample * recipe.loop.batch_size
    per_position = ACTIVATION * recipe.width * recipe.layers + LOGIT * (recipe.units + 1)
    return Plan(
        parts=_model_parts(model),
        examples=len(spread(training, recipe.answers)),
        validation=len(validation),
        loop=recipe.loop,
        activations=positions * per_position,
    )


def encoder_config(source: str) -> SpeechEncoderConfig:
    """Sizes of a Whisper encoder: of whatever `load_speech_encoder` takes."""
    name = hub_name(source)
    if (path := on_this_machine(name)) is not None:
        return read_encoder_config(path)
    return SpeechEncoderConfig.from_whisper(base_config(name).to_dict())


def _parts(**children: nn.Module | None) -> list[Part]:
    return [Part(name, count(c), _trained(c)) for name, c in children.items() if c is not None]


def _model_parts(model: OmniForConditionalGeneration) -> list[Part]:
    names = ("speech_encoder", "speech_adapter", "language_model", "unit_decoder")
    return _parts(**{name: getattr(model, name) for name in names})


def _trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _examples(manifest: Manifest) -> tuple[list[Example], list[Example]]:
    held_out = any(record.split == "validation" for record in manifest.records)
    return examples(manifest, "train"), examples(manifest, "validation") if held_out else []


def _longest(items: Sequence[Example], stack: int) -> int:
    """About how many LLM positions the longest example takes."""
    paths = {path for item in items for path in item.recordings}
    if missing := [path for path in paths if not path.is_file()]:
        raise UserError(f"{missing[0]}: no such file; restore it, or remove its record")
    longest = max(paths, key=lambda path: path.stat().st_size, default=None)
    seconds = 0.0 if longest is None else soundfile.info(longest).duration
    letters = max(sum(len(turn.text) for turn in item.turns) for item in items)
    return round(seconds * FRAME_RATE / stack) + letters // LETTERS_PER_TOKEN + PROMPT_TOKENS


def _size(count: int) -> str:
    return f"{count / GIGA:.1f} GB" if count >= GIGA else f"{count / MEGA:.1f} MB"
