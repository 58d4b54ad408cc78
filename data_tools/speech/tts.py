"""Text -> speech by other means than Debian's engines: transformers models, a server, a program.

Each is a `speak.TextToSpeech`. Voices are written as transformers-3, openai-alloy:speed=1.1 or
command-default; what follows the dash is the speaker that the model, server or program knows.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from data_tools.speech.speak import (
    InstalledEngines,
    TextToSpeech,
    find_program,
    require,
    trim_silence,
)
from data_tools.speech.voices import Voice
from data_tools.steps import Retry, RetryConfig, ServiceError, post
from omni.audio import AudioError, load_audio, prepare
from omni.devices import check_names, choose_device, choose_dtype, move
from omni.files import UserError, build_strictly

UNKNOWN_LENGTHS = (0, 0xFFFFFFFF, 0x7FFFFFFF)  # what streaming servers write for a wav's length


@dataclass(frozen=True, kw_only=True)
class InstalledConfig:
    """The Debian engines: flite, espeak, festival."""

    def build(self) -> TextToSpeech:
        """The engines; each program starts when its first voice speaks."""
        return InstalledEngines()


@dataclass(frozen=True, kw_only=True)
class TransformersConfig:
    """A text-to-speech model of transformers: VITS (MMS), SpeechT5, Bark, CSM and others.

    model: hub id or folder. vocoder: for SpeechT5, which gives spectrograms. speakers: for
    SpeechT5, a folder of NAME.npy, the x-vectors [512] of its voices. device, dtype: names that
    omni.devices knows.
    """

    model: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    vocoder: str = "microsoft/speecht5_hifigan"
    speakers: str | None = None

    def __post_init__(self) -> None:
        check_names(self.device, self.dtype)

    def build(self) -> TextToSpeech:
        """Loads the model."""
        return TransformersTts(self)


@dataclass(frozen=True, kw_only=True)
class OpenAiConfig:
    """A server with OpenAI's /audio/speech, which CosyVoice, Kokoro and many others are served by.

    url: up to and with /v1. api_key_env: the environment variable that holds the key, if one is
    needed. extra: further fields of the request, for example {"instructions": ...}.
    """

    url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    extra: dict[str, Any] = field(default_factory=dict)
    retry: RetryConfig = field(default_factory=RetryConfig)

    def build(self) -> TextToSpeech:
        """A connection; the server is asked when the first text is spoken."""
        return OpenAiTts(self)


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """A program run once per text: "piper -m {voice}.onnx -f {out}"; no shell reads it.

    {out} becomes the audio file that it must write, {text} and {voice} what they say; without
    {text} the program gets the text on its standard input.
    """

    command: str
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        if "{out}" not in self.command:
            raise UserError(f"command {self.command!r}: must name its audio file by {{out}}")

    def build(self) -> TextToSpeech:
        """Raises FileNotFoundError if the program is not installed."""
        return CommandTts(self)


EngineConfig = InstalledConfig | TransformersConfig | OpenAiConfig | CommandConfig
ENGINE_CONFIGS: dict[str, type[EngineConfig]] = {
    "installed": InstalledConfig,
    "transformers": TransformersConfig,
    "openai": OpenAiConfig,
    "command": CommandConfig,
}


def engine_config(kind: str = "installed", **options: Any) -> EngineConfig:
    """From a recipe. Raises UserError for an unknown kind or option."""
    if kind not in ENGINE_CONFIGS:
        raise UserError(f"engine {kind!r}: must be one of {', '.join(ENGINE_CONFIGS)}")
    return build_strictly(ENGINE_CONFIGS[kind], options, where=f"engine {kind}")


class TransformersTts:
    """One model in this process; a text is spoken alike each time, also by models that draw."""

    def __init__(self, config: TransformersConfig, pipeline: Any = None) -> None:
        """pipeline: a loaded text-to-speech pipeline, instead of `config.model`."""
        self.config = config
        self.pipeline: Any = pipeline or load_pipeline(config)
        self.kind = self.pipeline.model.config.model_type
        self.speakers: dict[str, Any] = {}

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """[samples] float32 at 16 kHz, silence trimmed. Raises ValueError for an unknown voice."""
        import torch

        with torch.random.fork_rng():
            # Most of these models sample; the text decides how.
            torch.manual_seed(zlib.crc32(f"{voice}\n{text}".encode()))
            said = self.pipeline(self.worded(text, voice), **self.speaker(voice))
        name = f"speech of {self.config.model}"
        waveform = prepare(np.squeeze(said["audio"]), said["sampling_rate"], name=name)
        return trim_silence(np.clip(waveform, -1.0, 1.0))

    def worded(self, text: str, voice: Voice) -> str:
        """The text as this kind of model takes it."""
        # CSM reads its speaker off the text.
        named = self.kind == "csm" and voice.name != "default"
        return f"[{voice.name}]{text}" if named else text

    def speaker(self, voice: Voice) -> dict[str, Any]:
        """How this kind of model is told who speaks, as arguments of the pipeline."""
        if self.kind == "speecht5":
            return {"forward_params": {"speaker_embeddings": self.x_vector(voice)}}
        if voice.name == "default" or self.kind == "csm":
            return {}
        if self.kind == "vits":
            count = self.pipeline.model.config.num_speakers
            known = voice.name.isdecimal() and int(voice.name) < count
            require(known, voice, f"{self.config.model} has speakers 0 to {count - 1}, or default")
            return {"forward_params": {"speaker_id": int(voice.name)}}
        if self.kind == "bark":
            return {"preprocess_params": {"voice_preset": voice.name}}
        raise UserError(f"voice {voice}: {self.kind} models take transformers-default only")

    def x_vector(self, voice: Voice) -> Any:
        """[1, 512] float32 of the voice. Raises UserError if its file is missing."""
        import torch

        if voice.name not in self.speakers:
            path = Path(self.config.speakers or ".") / f"{voice.name}.npy"
            if not path.is_file():
                raise UserError(f"voice {voice}: SpeechT5 needs its x-vector {path}; put it there")
            vector = np.load(path, allow_pickle=False).astype(np.float32).reshape(1, -1)
            self.speakers[voice.name] = torch.from_numpy(vector)  # [1, 512]
        return self.speakers[voice.name]

    def versions(self) -> dict[str, str]:
        """{"transformers": ...}: release, model and revision."""
        at = f"@{self.config.revision}" if self.config.revision else ""
        return {"transformers": f"{version('transformers')} {self.config.model}{at}"}

    def close(self) -> None:
        """Lets go of the model."""
        self.pipeline = None


def load_pipeline(config: TransformersConfig) -> Any:
    """The model's text-to-speech pipeline on the config's device, SpeechT5 with its vocoder."""
    from transformers import AutoConfig, SpeechT5HifiGan, pipeline

    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    options: dict[str, Any] = {"device": device, "dtype": dtype}
    kind = AutoConfig.from_pretrained(config.model, revision=config.revision).model_type
    if kind == "speecht5":
        options["vocoder"] = SpeechT5HifiGan.from_pretrained(config.vocoder)
        move(options["vocoder"], device, dtype)
    return pipeline("text-to-audio", model=config.model, revision=config.revision, **options)


class OpenAiTts:
    """One connection to the server; give the step more workers for more at a time."""

    def __init__(self, config: OpenAiConfig, sleep: Callable[[float], None] = time.sleep) -> None:
        key = os.environ.get(config.api_key_env)
        self.config = config
        self.client = httpx.Client(headers={"Authorization": f"Bearer {key}"} if key else {})
        self.sleep = sleep

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """[samples] float32 at 16 kHz, silence around trimmed; parameter: speed.

        Raises ServiceError if the server cannot be reached, ValueError if it refuses the text.
        """
        body = {
            "model": self.config.model,
            "input": text,
            "voice": voice.name,
            "response_format": "wav",
            **({"speed": voice.number("speed")} if voice.parameters else {}),
            **self.config.extra,
        }
        url = self.config.url.rstrip("/") + "/audio/speech"
        waveform = post(
            self.client, url, body, speech_of, retry=self.config.retry, sleep=self.sleep
        )
        return trim_silence(np.clip(waveform, -1.0, 1.0))

    def versions(self) -> dict[str, str]:
        """{"openai": ...}: the model, as a server tells no version."""
        return {"openai": self.config.model}

    def close(self) -> None:
        """Closes the connection."""
        self.client.close()


def speech_of(response: httpx.Response) -> np.ndarray:
    """[samples] at 16 kHz of an answer. Raises Retry for a torn file, or anything but audio."""
    data = response.content
    if data[:4] == b"RIFF":
        declared = int.from_bytes(data[4:8], "little")
        if declared not in UNKNOWN_LENGTHS and len(data) < declared + 8:
            raise Retry(f"audio of {len(data)} bytes says that it has {declared + 8}")
    try:
        return load_audio(data, name="the server's answer")
    except AudioError as error:
        raise Retry(f"{error}: {data[:100]!r}") from None


class CommandTts:
    """Any program that writes an audio file."""

    def __init__(self, config: CommandConfig) -> None:
        self.config = config
        self.arguments = shlex.split(config.command)
        self.program = find_program(self.arguments[0], package=self.arguments[0])
        self.folder = tempfile.TemporaryDirectory(prefix="omni-command-")

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """[samples] float32 at 16 kHz, silence around trimmed.

        Raises ServiceError if the program takes too long, ValueError if it fails.
        """
        out = Path(self.folder.name) / "speech.wav"
        out.unlink(missing_ok=True)
        values = {"{text}": text, "{voice}": voice.name, "{out}": str(out)}
        command = [self.program]
        for argument in self.arguments[1:]:
            # In one pass: a text that holds "{out}" stays what it is.
            parts = re.split(r"(\{text\}|\{voice\}|\{out\})", argument)
            command.append("".join(values.get(part, part) for part in parts))
        try:
            done = subprocess.run(
                command,
                input=None if "{text}" in self.config.command else text,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=self.config.timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise ServiceError(f"{self.program}: took over {self.config.timeout_s:.0f} s") from None
        if done.returncode:
            said = " ".join(done.stdout.split())[-300:]
            raise ValueError(f"{self.program}: exit code {done.returncode}: {said or 'no output'}")
        return trim_silence(np.clip(load_audio(out), -1.0, 1.0))

    def versions(self) -> dict[str, str]:
        """{"command": ...}: the command line."""
        return {"command": self.config.command}

    def close(self) -> None:
        """Removes its folder."""
        self.folder.cleanup()


def settings_of(config: EngineConfig) -> dict[str, Any]:
    """What the sound depends on, as JSON holds it; how often to try again is no part of it."""
    kinds = {type_: kind for kind, type_ in ENGINE_CONFIGS.items()}
    values = asdict(config)
    for name in ("retry", "timeout_s", "api_key_env", "url", "device"):
        values.pop(name, None)
    return {"engine": kinds[type(config)], **values}
