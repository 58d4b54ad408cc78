"""Whisper as an independent ear, run by whichever of three packages reads its folder.

All decode alike: beams of 5, no sampling, no memory of the words before; so what is heard depends
on the weights alone, but for the last digits of each package.
"""

# pyright: reportMissingImports=false
# faster-whisper and openai-whisper: the extras `judge` and `whisper` have them, which the checks
# may run without.

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omni.audio import SAMPLE_RATE, WINDOW_SAMPLES
from omni.files import CheckpointError, need

BEAMS = 5  # as openai-whisper's command has it


class FasterWhisper:
    """A folder that CTranslate2 has converted, in float32."""

    def __init__(self, folder: Path, *, language: str, device: torch.device) -> None:
        need("faster_whisper", "judge", "a Whisper folder of CTranslate2")
        from faster_whisper import WhisperModel

        logging.getLogger("faster_whisper").setLevel(logging.ERROR)
        self._language = language
        self._model = WhisperModel(
            str(folder),
            device="cuda" if device.type == "cuda" else "cpu",
            device_index=device.index or 0,
            compute_type="float32",
            cpu_threads=torch.get_num_threads(),
        )

    def hear(self, waveform: np.ndarray) -> str:
        """[samples] float at 16 kHz -> the words as Whisper writes them, "" for none."""
        if not len(waveform):
            return ""
        segments, _ = self._model.transcribe(
            np.asarray(waveform, np.float32),
            language=self._language,
            beam_size=BEAMS,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)


class OpenaiWhisper:
    """openai-whisper's own file."""

    def __init__(self, file: Path, *, language: str, device: torch.device) -> None:
        need("whisper", "whisper", "openai-whisper's file")
        import whisper

        self._model = whisper.load_model(str(file), device=str(device))
        self._language = language

    def hear(self, waveform: np.ndarray) -> str:
        """[samples] float at 16 kHz -> the words as Whisper writes them, "" for none."""
        if not len(waveform):
            return ""
        heard = self._model.transcribe(
            np.asarray(waveform, np.float32),
            language=self._language,
            beam_size=BEAMS,
            temperature=0.0,
            condition_on_previous_text=False,
            fp16=False,
        )
        return str(heard["text"]).strip()


class TransformersWhisper:
    """A folder of transformers, whole: model, tokenizer and the feature extractor's settings."""

    def __init__(self, folder: Path, *, language: str, device: torch.device) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        both: Any = WhisperForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        model, told = both
        if missing := sorted(told["missing_keys"]):
            raise CheckpointError(
                f"{folder}: has no weights for {missing[0]} and {len(missing) - 1} more; give the "
                "folder of a whole Whisper"
            )
        where: Any = device
        self._model: Any = model.eval().to(where)
        self._processor: Any = WhisperProcessor.from_pretrained(folder)
        # Models of English alone refuse to be told the language.
        several = getattr(model.generation_config, "is_multilingual", False)
        self._asked = {"language": language, "task": "transcribe"} if several else {}

    @torch.inference_mode()
    def hear(self, waveform: np.ndarray) -> str:
        """[samples] float at 16 kHz -> the words as Whisper writes them, "" for none."""
        if not len(waveform):
            return ""
        long = len(waveform) > WINDOW_SAMPLES
        features = self._processor(
            np.asarray(waveform, np.float32),
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            return_attention_mask=True,
            **({"truncation": False, "padding": "longest"} if long else {}),
        ).to(self._model.device)
        ids = self._model.generate(
            **features, **self._asked, num_beams=BEAMS, do_sample=False, return_timestamps=long
        )
        return str(self._processor.batch_decode(ids, skip_special_tokens=True)[0]).strip()
