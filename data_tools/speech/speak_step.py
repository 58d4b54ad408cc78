"""Text dialogues -> spoken dialogues: a voice drawn for each asker, one voice for all answers.

Clips lie under audio/speech/, named by engine, voice and text: the same words by the same voice
are one file, and what a name holds never changes. A clip that can't be the speech of its text is
never kept: the question is spoken by another voice, or the record is left out with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.manifest import ROLES, WRITTEN_TURNS, Record, RecordTurn, check_roles
from data_tools.speech.clips import ClipRules, can_be_said, faults, make_once, measure
from data_tools.speech.speak import ENGINES, InstalledEngines, TextToSpeech
from data_tools.speech.tts import EngineConfig, InstalledConfig, engine_config, settings_of
from data_tools.speech.voices import ANSWER_VOICE, Voice, random_training_voice
from data_tools.steps import LeftOut, digest, workers_on
from omni.files import UserError

FOLDER = "audio/speech"


@dataclass(frozen=True, kw_only=True)
class SpeakerConfig:
    """Who speaks one side. voices: drawn from evenly; empty draws from the Debian training voices.

    by_split: other voices for some splits, such as a speaker that no training clip has.
    """

    engine: EngineConfig = field(default_factory=InstalledConfig)
    voices: tuple[Voice, ...] = ()
    by_split: dict[str, tuple[Voice, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = settings_of(self.engine)["engine"]
        allowed = tuple(ENGINES) if kind == "installed" else (kind,)
        for voice in (*self.voices, *(v for voices in self.by_split.values() for v in voices)):
            if voice.engine not in allowed:
                raise UserError(f"voice {voice}: this engine takes {' or '.join(allowed)} voices")
        if kind != "installed" and not self.voices:
            raise UserError(f"engine {kind}: needs voices; name one, such as {kind}-default")

    def draw(self, split: str, rng: np.random.Generator) -> Voice:
        """One of the split's voices, each as likely."""
        voices = self.by_split.get(split, self.voices)
        return voices[rng.integers(len(voices))] if voices else random_training_voice(rng)

    def settings(self) -> dict[str, Any]:
        """Engine and voices, as JSON holds them."""
        return {
            **settings_of(self.engine),
            "voices": [str(voice) for voice in self.voices],
            "by_split": {name: [str(v) for v in voices] for name, voices in self.by_split.items()},
        }


@dataclass(frozen=True, kw_only=True)
class SpeakStep:
    """Speaks every turn that has no recording yet; a turn that names its voice keeps it.

    roles: whose turns. With the answers alone, a question that has no recording stays in writing.
    seed: together with the record's id it draws the asker's voice, one for a whole dialogue.
    attempts: voices tried for a dialogue's questions before the record is left out.
    """

    question: SpeakerConfig = field(default_factory=SpeakerConfig)
    answer: SpeakerConfig = field(default_factory=lambda: SpeakerConfig(voices=(ANSWER_VOICE,)))
    rules: ClipRules = field(default_factory=ClipRules)
    roles: tuple[str, ...] = ROLES
    seed: int = 0
    attempts: int = 3
    name: str = "speak"
    batch_size: int = 1

    def __post_init__(self) -> None:
        if len(self.answer.voices) != 1:
            raise UserError(
                f"answer voices {[str(voice) for voice in self.answer.voices]}: the answers have "
                "exactly one voice, which the vocoder will be trained on; name one"
            )
        if self.attempts < 1:
            raise UserError(f"attempts={self.attempts}: must be at least 1")
        check_roles(self.roles)

    @property
    def workers(self) -> int | None:
        """One per core for engines that are programs or servers, else one."""
        return workers_on(self.device)

    @property
    def device(self) -> str:
        """Of the one engine that may compute in the worker; the others are programs or servers."""
        devices = [getattr(side.engine, "device", "cpu") for side in (self.question, self.answer)]
        return next((device for device in devices if device != "cpu"), "cpu")

    def settings(self) -> dict[str, Any]:
        """Both speakers, rules, seed and attempts; roles, where not both: older journals hold."""
        roles = {} if set(self.roles) == set(ROLES) else {"roles": list(self.roles)}
        return roles | {
            "question": self.question.settings(),
            "answer": self.answer.settings(),
            "rules": asdict(self.rules),
            "seed": self.seed,
            "attempts": self.attempts,
        }

    def size(self, record: Record, root: Path) -> float:
        """All alike: each record is a batch."""
        return 0.0

    def open(self, root: Path) -> SpeakWork:
        """A worker that writes clips below `root`."""
        return SpeakWork(self, root)


class SpeakWork:
    """One worker: its engines, each started when first needed."""

    def __init__(self, step: SpeakStep, root: Path) -> None:
        self.step = step
        self.root = root
        self.engines: dict[str, TextToSpeech] = {}  # by role
        self.versions: dict[tuple[str, str], str] = {}  # by role and engine

    def __call__(self, records: Sequence[Record]) -> list[Record | LeftOut]:
        """The records with a clip for each turn, one by one."""
        return [self.spoken(record) for record in records]

    def close(self) -> None:
        """Closes the engines that were started."""
        for engine in self.engines.values():
            engine.close()

    def spoken(self, record: Record) -> Record | LeftOut:
        """The record with a clip for each turn, or the reason why the last attempt failed."""
        fault = ""
        tried: set[Voice] = set()
        for attempt in range(self.step.attempts):
            seed = digest(self.step.seed, record.id, attempt)
            asker = self.step.question.draw(record.split, np.random.default_rng(int(seed, 16)))
            if asker in tried:
                continue
            tried.add(asker)
            turns: list[RecordTurn] = []
            engines: set[str] = set()
            for number, turn in enumerate(record.turns, start=1):
                if turn.speech is not None or turn.role not in self.step.roles:
                    turns.append(turn)
                    continue
                drawn = asker if turn.role == "user" else self.step.answer.voices[0]
                voice = Voice.parse(turn.voice) if turn.voice else drawn
                try:
                    path = self.clip(turn, voice)
                except UserError:
                    raise
                except ValueError as error:  # the engine or the rules can't do with this text
                    fault = f"turn {number}: {error}"
                    break
                engines.add(f"{voice.engine} {self.versions[turn.role, voice.engine]}")
                turns.append(replace(turn, speech=path, voice=str(voice)))
            else:
                provenance = record.provenance
                if engines:
                    provenance = {**provenance, "speech": ", ".join(sorted(engines))}
                if "user" not in self.step.roles:
                    provenance = {**provenance, **meant_in_writing(turns)}
                return replace(record, turns=tuple(turns), provenance=provenance)
            if voice is not asker or not can_be_said(turn.text):
                break  # another asker would not help
        return LeftOut(fault)

    def clip(self, turn: RecordTurn, voice: Voice) -> str:
        """Path from the root of the turn's clip, made unless it is there.

        Raises ValueError if no clip of this voice can be the speech of this text.
        """
        text = " ".join(turn.text.split())
        if not can_be_said(text):
            raise ValueError(f"text {text!r}: nothing to say")
        speaker = self.step.question if turn.role == "user" else self.step.answer
        engine = self.engine(turn.role, speaker, voice)
        made_by = [settings_of(speaker.engine), self.versions[turn.role, voice.engine]]
        name = digest(made_by, str(voice), text)
        path = f"{FOLDER}/{name[:2]}/{name}.wav"

        def speak() -> np.ndarray:
            waveform = engine.speak(text, voice)
            broken = faults(measure(waveform), text, self.step.rules)
            if broken:
                raise ValueError(f"{voice} spoke {text!r}: {'; '.join(broken.values())}")
            return waveform

        make_once(self.root / path, speak)  # two records may want the same clip at once
        return path

    def engine(self, role: str, speaker: SpeakerConfig, voice: Voice) -> TextToSpeech:
        """The role's engine, started when first needed, the version of its voice noted."""
        if role not in self.engines:
            self.engines[role] = speaker.engine.build()
        engine = self.engines[role]
        if (role, voice.engine) not in self.versions:
            # Of the installed engines only the one that speaks: the others may not be installed.
            one = engine.engine(voice.engine) if isinstance(engine, InstalledEngines) else engine
            self.versions[role, voice.engine] = one.versions()[voice.engine]
        return engine


def meant_in_writing(turns: Sequence[RecordTurn]) -> dict[str, str]:
    """Provenance of a record whose first questions are to have no recording; none if all have."""
    heard = [number for number, turn in enumerate(turns[::2]) if turn.speech is not None]
    count = heard[0] if heard else len(turns[::2])
    return {WRITTEN_TURNS: str(count)} if count else {}


def speaker_of(options: dict[str, Any]) -> SpeakerConfig:
    """From a recipe: engine (a mapping with kind), voices, by_split; voices in their text form."""
    options = dict(options)
    engine = engine_config(**options.pop("engine", {}))
    voices = tuple(Voice.parse(text) for text in options.pop("voices", ()))
    by_split = {
        split: tuple(Voice.parse(text) for text in texts)
        for split, texts in options.pop("by_split", {}).items()
    }
    if options:
        raise UserError(
            f"speaker option {next(iter(options))!r}: known are engine, voices, by_split"
        )
    return SpeakerConfig(engine=engine, voices=voices, by_split=by_split)
