"""Tones instead of words: a task that an adapter learns above an untrained encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from data_tools.manifest.record import Manifest, Record, RecordTurn, read_manifest, write_manifest
from omni.audio import save_wav
from omni.prompt import SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from train.loop.loop import LoopConfig
from train.stages.align import Align
from train.stages.stage1 import Stage1

LOOP = LoopConfig(epochs=1, batch_size=4, learning_rate=3e-3, device="cpu", dtype="float32")
HEARING = Stage1(
    adapter=SpeechAdapterConfig(stack=2, hidden=64),
    prompt=PromptConfig(speech_line=SPEECH),
    loop=LOOP,
    cached_variants=0,
)
RECIPE = Align(
    hearing=HEARING, loop=replace(LOOP, epochs=500, learning_rate=1e-2), frame_masking=0.0
)
TEXTS = ("yes", "no", "one", "two")
TONES = (150, 600, 1800, 4500)  # Hz: an untrained encoder tells these apart


def tone(hertz: float, seconds: float) -> np.ndarray:
    time = np.arange(int(16_000 * seconds)) / 16_000
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def tones(folder: Path, seconds: float = 2.0, texts: tuple[str, ...] = TEXTS) -> Manifest:
    """Four questions to learn, and the same four for validation: can it say what it has heard?"""
    (folder / "audio").mkdir(parents=True)
    records = []
    for number, text in enumerate(texts):
        path = f"audio/{number}.wav"
        save_wav(folder / path, tone(TONES[number], seconds))
        turns = (
            RecordTurn(role="user", text=f"{text.title()}!", speech=path),
            RecordTurn(role="assistant", text="Fine."),
        )
        for split in ("train", "validation"):
            records.append(Record(id=f"{split}-{number}", turns=turns, split=split))
    write_manifest(folder / "records.jsonl", records)
    return read_manifest(folder / "records.jsonl")
