"""Every stage at its smallest, for one process or many: `torchrun tests/many_processes.py JSON`.

The JSON names the folder with data and bases, where to write, which stages, and the options of
the loop that differ from the usual ones.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate.state import DistributedType, PartialState

from data_tools.manifest import Manifest, read_manifest
from data_tools.speech.augmentation import AugmentConfig
from omni.checkpoint.bases import load_speech_encoder
from omni.prompt import SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from omni.speech_encoder import SpeechEncoderConfig
from omni.units import UnitsConfig
from omni.vocoder import NsfConfig
from tests.tiny import UNITS, tiny_bases, tiny_records
from train.bases.encoder import train_encoder, transcribed
from train.bases.lm import SmallLlama, train_lm
from train.loop import LoopConfig
from train.stages.beginning import join_bases
from train.stages.stage1 import LearnsToListen, Lora, Stage1, train_stage1
from train.stages.stage2 import Stage2, train_stage2
from train.voice import make_units
from train.voice.crops import CropConfig, UnitClip
from train.voice.discriminators import DiscriminatorConfig
from train.voice.vocoder import train_vocoder

# Seven examples: the second step of an epoch takes three, which two processes can't halve.
LOOP = LoopConfig(
    epochs=2, batch_size=4, learning_rate=1e-3, save_steps=3, eval_steps=100, device="cpu",
    dtype="float32",
)  # fmt: skip
STAGE1 = Stage1(
    adapter=SpeechAdapterConfig(stack=5, hidden=32),
    prompt=PromptConfig(speech_line=SPEECH),
    loop=LOOP,
    text_share=0.4,  # so that some batches are all in writing, and those beside them are not
    augmentation=AugmentConfig(),
    cached_variants=1,
)


def prepare(data: Path) -> None:
    """Recordings, bases, and a checkpoint as stage 1 leaves it."""
    tiny_records(data, train=5)
    model, processor = join_bases(*tiny_bases(data), STAGE1, seed=1)
    model.save_pretrained(data / "checkpoint", processor=processor)


def lm(data: Path, output: Path, loop: LoopConfig) -> None:
    size = SmallLlama(vocabulary=300, width=32, layers=2, heads=2, ffn=64)
    train_lm(manifest(data), size=size, loop=loop, output=output)


def encoder(data: Path, output: Path, loop: LoopConfig) -> None:
    train_encoder(
        transcribed(manifest(data), "train"),
        transcribed(manifest(data), "validation"),
        architecture=SpeechEncoderConfig(
            n_mels=20, width=32, layers=2, heads=2, ffn=64, max_frames=500
        ),
        loop=loop,
        output=output,
        augmentation=AugmentConfig(),
    )


def vocoder(
    data: Path, output: Path, loop: LoopConfig, against: DiscriminatorConfig | None = None
) -> None:
    paths = sorted((data / "audio").glob("answer-*.wav"))[:7]
    rng = np.random.default_rng(0)
    clips = [UnitClip(path, rng.integers(0, 4, 25)) for path in paths]
    train_vocoder(
        clips, clips[:3],
        architecture=NsfConfig(
            num_units=4, width=16, prosody_width=12, mid_width=8, fine_width=8,
            duration_width=8, duration_dropout=0.0,
        ),
        loop=loop, output=output, crop=CropConfig(frames=10, edge_frames=2),
        discriminators=against,
    )  # fmt: skip


def adversarial(data: Path, output: Path, loop: LoopConfig) -> None:
    """The vocoder, against discriminators."""
    vocoder(data, output, loop, DiscriminatorConfig(channels=128))


def units(data: Path, output: Path, loop: LoopConfig) -> None:
    make_units(
        {"records.jsonl": manifest(data)},
        load_speech_encoder(str(data / "encoder")).eval(),
        UnitsConfig(kind="speech_encoder", name="speech_encoder", layer=1),
        clusters=4,
        output=output,
    )


def stage1(data: Path, output: Path, loop: LoopConfig) -> None:
    listen(data, output, replace(STAGE1, loop=loop))


def lora(data: Path, output: Path, loop: LoopConfig) -> None:
    """Hears log-mel: the encoder runs in the loop."""
    recipe = replace(
        STAGE1, loop=loop, language_model="lora", lora=Lora(rank=2, alpha=4), cached_variants=None
    )
    listen(data, output, recipe)


def taught(data: Path, output: Path, loop: LoopConfig) -> None:
    """LoRA beside its base, which has read the question."""
    recipe = replace(
        STAGE1, loop=loop, language_model="lora", lora=Lora(rank=2, alpha=4),
        distillation_weight=2.0,
    )  # fmt: skip
    listen(data, output, recipe)


def stage2(data: Path, output: Path, loop: LoopConfig) -> None:
    recipe = Stage2(
        hearing=STAGE1, loop=loop, units=UNITS, width=32, layers=2, heads=2, ffn=64, upsample=6
    )
    train_stage2(data / "checkpoint", manifest(data), recipe=recipe, output=output)


PARTS = (lm, encoder, vocoder, adversarial, units, stage1, lora, taught, stage2)
STAGES = {part.__name__: part for part in PARTS}


def manifest(data: Path) -> Manifest:
    return read_manifest(data / "records.jsonl")


def listen(data: Path, output: Path, recipe: Stage1) -> None:
    train_stage1(
        manifest(data), speech_encoder=str(data / "encoder"), language_model=str(data / "llm"),
        recipe=recipe, output=output,
    )  # fmt: skip


def run(data: Path, output: Path, stages: list[str], **options) -> None:
    for name in stages:
        STAGES[name](data, output / name, replace(LOOP, **options))


def kill_in_step(number: int) -> None:
    """The second process dies before that step of stage 1; nobody is asked."""
    steps, forward = [], LearnsToListen.forward

    def limited(self, *arguments, **batch):
        steps.append(None)
        if len(steps) == number and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return forward(self, *arguments, **batch)

    LearnsToListen.forward = limited


def shard_on_cpus() -> None:
    """accelerate hands a model to torch's fully_shard only among GPUs: it is told of some.

    All that follows is real: CPUs hold the parts, and gloo carries them.
    """
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)


def send_by_gloo() -> None:
    """Not through shared memory: DeepSpeed would compile that for minutes."""
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False


def main(data: str, output: str, stages: list[str], kill: int = 0, **options) -> None:
    torch.set_num_threads(1)
    if kill:
        kill_in_step(kill)
    if "fsdp" in options:
        shard_on_cpus()
    if "deepspeed" in options:
        send_by_gloo()
    run(Path(data), Path(output), stages, **options)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
