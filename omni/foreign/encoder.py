"""A Whisper encoder out of whatever holds one: openai-whisper, transformers, CTranslate2."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, WhisperConfig

from omni.files import CheckpointError, check_weights
from omni.foreign import ctranslate2
from omni.foreign.stream import read_folder
from omni.foreign.whisper import EncoderWeights, expected_encoder, read_whisper
from omni.speech_encoder import SpeechEncoderConfig


def read_encoder(path: str | Path) -> EncoderWeights:
    """The encoder in an openai-whisper file, a transformers folder (of a whole Whisper or of its
    encoder alone) or a CTranslate2 folder; checked but unread.

    Raises CheckpointError, naming what is wrong.
    """
    path = Path(path)
    if _is_transformers(path):
        return _read_transformers(path)
    return ctranslate2.read_ctranslate2(path) if path.is_dir() else read_whisper(path)


def read_encoder_config(path: str | Path) -> SpeechEncoderConfig:
    """The sizes of the same; of a transformers folder, config.json alone is read."""
    path = Path(path)
    return _transformers_config(path) if _is_transformers(path) else read_encoder(path).config


def _is_transformers(path: Path) -> bool:
    weights = path / ctranslate2.FILE
    return path.is_dir() and (any(path.glob("*.safetensors")) or not weights.is_file())


def _transformers_config(folder: Path) -> SpeechEncoderConfig:
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{folder}: not readable ({reason}); copy the folder again") from None
    if not isinstance(config, WhisperConfig):
        raise CheckpointError(
            f"{folder}: model_type is {config.model_type!r}, a Whisper encoder is needed"
        )
    return SpeechEncoderConfig.from_whisper(config.to_dict())


def _read_transformers(folder: Path) -> EncoderWeights:
    config = _transformers_config(folder)
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder}: no .safetensors file; convert the weights to safetensors")
    tensors = read_folder(folder)
    for prefix in ("model.encoder.", "encoder.", ""):
        part = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
        if "conv1.weight" in part:
            check_weights(expected_encoder(config), part, where=str(folder))
            return EncoderWeights(config, part)
    raise CheckpointError(f"{folder}: no weight named conv1.weight; is this a Whisper model?")
