"""The smallest real model: every stage as in a published one, a few thousand weights, seeded.

Its answers are nonsense, yet always the same: laws are tested on it, not quality.
"""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Record, write_manifest
from omni.audio import SAMPLE_RATE, save_wav
from omni.config import OmniConfig
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from omni.speech_encoder import SpeechEncoderConfig, save_speech_encoder
from omni.unit_decoder import UnitDecoderConfig
from omni.vocoder import HifiGanConfig, NsfConfig, NsfVocoder, UnitHifiGan, Vocoder
from train.bases.lm import SmallLlama, build_tokenizer, llama_config

UNITS = 20
TEXTS = [
    "What is two and two? Two and two is four.",
    "How warm is it today? It is quite warm today, I think.",
    "Tell me the capital of France. The capital of France is Paris.",
]


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """About 300 byte pairs; shared, as nothing changes it."""
    return build_tokenizer(TEXTS, 320)


def tiny_config(
    *,
    block_frames: int | None = None,
    pad_to_window: bool = False,
    gate_fusion: bool = False,
    spelling: int = 0,
) -> OmniConfig:
    """Widths of 32, two layers each; 10 s of speech, an LLM position per 100 ms."""
    tokenizer = tiny_tokenizer()
    size = SmallLlama(
        vocabulary=len(tokenizer) - 1,  # the speech slot is never embedded
        width=32,
        layers=2,
        heads=2,
        ffn=64,
        max_positions=512,
    )
    units = UnitDecoderConfig(
        input_width=32, width=32, layers=2, heads=2, ffn=64, num_units=UNITS, upsample=5,
        gate_fusion=gate_fusion, spelling=spelling, vocabulary=size.vocabulary if spelling else 0,
    )  # fmt: skip
    return OmniConfig(
        audio_config=SpeechEncoderConfig(
            n_mels=20,
            width=32,
            layers=2,
            heads=2,
            ffn=64,
            max_frames=500,
            block_frames=block_frames,
        ).to_whisper(),
        text_config=llama_config(size, tokenizer),
        speech_adapter=asdict(SpeechAdapterConfig(stack=5, hidden=32)),
        unit_decoder=asdict(units),
        prompt=asdict(PromptConfig(speech_line=SPEECH)),
        speech_token_id=int(tokenizer.convert_tokens_to_ids(SPEECH)),
        pad_to_window=pad_to_window,
    )


def tiny_model(
    *,
    vocoder: str | None = "nsf",
    block_frames: int | None = None,
    gate_fusion: bool = False,
    spelling: int = 0,
    seed: int = 0,
):
    """A whole model in evaluation mode; vocoder: "nsf", "hifigan" or None."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        language_model = LlamaForCausalLM(tiny_config().text_config)
        config = tiny_config(block_frames=block_frames, gate_fusion=gate_fusion, spelling=spelling)
        model = OmniForConditionalGeneration(config, language_model)
        for parameter in model.parameters():
            # Fresh weights are so small that every input sounds alike: spread the matrices.
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.25)
        model.vocoder = tiny_vocoder(vocoder) if vocoder is not None else None
    return model.eval()


def tiny_vocoder(kind: str) -> Vocoder:
    """A vocoder with all of its structure and few channels."""
    if kind == "hifigan":
        return UnitHifiGan(
            HifiGanConfig(
                num_embeddings=UNITS,
                embedding_dim=8,
                upsample_initial_channel=32,
                duration_width=8,
            )
        ).eval()
    return NsfVocoder(
        NsfConfig(
            num_units=UNITS,
            width=16,
            prosody_width=12,
            mid_width=8,
            fine_width=8,
            duration_width=8,
        )
    ).eval()


def tiny_processor(config: OmniConfig | None = None) -> OmniProcessor:
    """The processor of `tiny_config`, or of another configuration with its tokenizer."""
    return OmniProcessor(tiny_tokenizer(), config or tiny_config())


def question(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """[samples] 16 kHz: a hum with noise, whose pitch and loudness wander."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 120 + 40 * np.sin(2 * np.pi * (1 + seed % 3) * time)
    hum = np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)
    wave = 0.2 * hum * (1 + 0.5 * np.sin(2 * np.pi * 3 * time)) + 0.02 * rng.normal(size=len(time))
    return wave.astype(np.float32)


QUESTIONS = (
    ("What is two and two?", "Two and two is four."),
    ("How warm is it today?", "It is quite warm."),
    ("Tell me the capital of France.", "Paris."),
)


def tiny_records(folder: Path, *, train: int = 6) -> Path:
    """A manifest with its recordings: `train` dialogues, two of validation, two of test.

    Every third dialogue has a second question. Answers have speech and units that fit.
    """
    audio = folder / "audio"
    audio.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(train + 4):
        rng = np.random.default_rng(number)
        turns: list[RecordTurn] = []
        for place in range(2 if number % 3 == 0 else 1):
            asked, said = QUESTIONS[(number + place) % len(QUESTIONS)]
            name = f"{number}-{place}.wav"
            seconds = 0.4 + 0.1 * (number % 4)
            save_wav(audio / f"question-{name}", question(seconds, seed=number))
            save_wav(audio / f"answer-{name}", question(0.5, seed=100 + number))
            units = rng.permutation(UNITS)[:6].tolist()
            turns += [
                RecordTurn(role="user", text=asked, speech=f"audio/question-{name}"),
                RecordTurn(
                    role="assistant", text=said, speech=f"audio/answer-{name}", units=tuple(units)
                ),
            ]
        split = "train" if number < train else ("validation", "test")[number % 2]
        provenance = {"skill": f"skill-{number % 2}"}
        records.append(
            Record(id=f"dialogue-{number}", turns=tuple(turns), split=split, provenance=provenance)
        )
    path = folder / "records.jsonl"
    write_manifest(path, records)
    return path


def tiny_bases(folder: Path) -> tuple[str, str]:
    """A speech encoder and a causal LM with tokenizer on disk, as a user would bring them."""
    model = tiny_model(vocoder=None)
    save_speech_encoder(model.speech_encoder, folder / "encoder")
    model.language_model.save_pretrained(folder / "llm")
    tiny_tokenizer().save_pretrained(folder / "llm")
    return str(folder / "encoder"), str(folder / "llm")
