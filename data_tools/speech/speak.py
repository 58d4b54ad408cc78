"""Text -> speech by the small engines that Debian carries: flite, espeak-ng, festival.

They run as programs of their own (espeak-ng is GPL: called, never linked), and the same text and
voice always give the same samples.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr

from data_tools.speech.voices import Voice

SAMPLE_RATE = 16_000  # Hz
KEPT_SILENCE_S = 0.1  # seconds left before and after speech; augmentation adds more on the fly
SILENCE_DB = -50.0  # a 10 ms frame this far below the loudest one is silence

FLITE_VOICES = ("slt", "rms", "awb", "kal16", "kal")  # kal has 8 kHz, as a telephone
FESTIVAL_PACKAGES = {
    "kal_diphone": "festvox-kallpc16k",
    "ked_diphone": "festvox-kdlpc16k",
    "cmu_us_slt_arctic_hts": "festvox-us-slt-hts",
}
FESTIVAL_STRETCH = {  # the voices' own pace
    "kal_diphone": 1.1,
    "ked_diphone": 1.1,
    "cmu_us_slt_arctic_hts": 1.0,
}


class TextToSpeech(Protocol):
    """Speaks texts; used by one thread at a time."""

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """[samples] float32 in -1..1 at 16 kHz, equal for equal arguments."""
        ...

    def versions(self) -> dict[str, str]:
        """Engine -> version, because another version speaks differently."""
        ...

    def close(self) -> None:
        """Ends what the engine keeps running."""
        ...


class FliteEngine:
    """Festival lite: one short process per text."""

    def __init__(self) -> None:
        self.program = find_program("flite", package="flite")
        self.folder = tempfile.TemporaryDirectory(prefix="omni-flite-")

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """As `TextToSpeech`, with stretch and f0. Raises ValueError for an unknown voice."""
        # flite speaks with its default voice where it doesn't know the name: refuse that here.
        require(voice.name in FLITE_VOICES, voice, f"flite has {', '.join(FLITE_VOICES)}")
        settings = dict(voice.parameters)
        command = [self.program, "-voice", voice.name]
        if "stretch" in settings:
            command += ["--setf", f"duration_stretch={voice.number('stretch')}"]
        if "f0" in settings:
            command += ["--setf", f"int_f0_target_mean={voice.number('f0')}"]
        path = Path(self.folder.name) / "speech.wav"
        return read_speech(run(command + ["-t", text, "-o", str(path)]), path)

    def versions(self) -> dict[str, str]:
        """{"flite": ...}, as the program says it."""
        return {"flite": first_match(r"flite-\S+", run([self.program, "--version"], check=False))}

    def close(self) -> None:
        """Removes its folder."""
        self.folder.cleanup()


class EspeakEngine:
    """espeak-ng: formant synthesis with many languages, accents and speakers."""

    def __init__(self) -> None:
        self.program = find_program("espeak-ng", package="espeak-ng")
        self.folder = tempfile.TemporaryDirectory(prefix="omni-espeak-")
        # Of the listing's columns: the language names, and the variants' file names.
        self.accents = set(re.findall(r"\b(en\S*) +\S+/", run([self.program, "--voices=en"])))
        listed = run([self.program, "--voices"]).splitlines()[1:]
        self.languages = {line.split()[1] for line in listed if line.strip()}
        self.variants = set(re.findall(r"!v/(\S+)", run([self.program, "--voices=variant"])))

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """As `TextToSpeech`, with variant, pitch, speed. Raises ValueError for an unknown voice."""
        # espeak-ng falls back to its default in silence for names such as "female2".
        settings = dict(voice.parameters)
        variant = settings.get("variant")
        known = voice.name in self.accents | self.languages
        require(known, voice, f"espeak-ng has {sorted(self.accents)} and other languages")
        # So it does with every variant of plain en-gb (measured with 1.51).
        require(
            variant is None or voice.name != "en-gb", voice, "en-gb has no variants: en-gb-x-rp has"
        )
        require(
            variant is None or variant in self.variants,
            voice,
            f"variants are espeak-ng's file names: {', '.join(sorted(self.variants))}",
        )
        command = [self.program, "-v", voice.name + (f"+{variant}" if variant else "")]
        if "pitch" in settings:
            command += ["-p", f"{voice.number('pitch'):.0f}"]
        if "speed" in settings:
            command += ["-s", f"{voice.number('speed'):.0f}"]
        path = Path(self.folder.name) / "speech.wav"
        return read_speech(run(command + ["-w", str(path), "--stdin"], text), path)

    def versions(self) -> dict[str, str]:
        """{"espeak": ...}, as the program says it."""
        return {"espeak": first_match(r"\d+\.\d+\S*", run([self.program, "--version"]))}

    def close(self) -> None:
        """Removes its folder."""
        self.folder.cleanup()


class FestivalEngine:
    """Festival: a second to start, so one process is fed with all texts through a pipe."""

    DONE = "omni-done"

    def __init__(self) -> None:
        self.program = find_program("festival", package="festival")
        self.folder = tempfile.TemporaryDirectory(prefix="omni-festival-")
        self.process = subprocess.Popen(
            [self.program, "--pipe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.voices = set(re.findall(r"[\w-]+", self.evaluate('(format t "%l\\n" (voice.list))')))

    def evaluate(self, commands: str) -> str:
        """Runs Scheme commands and gives back what they printed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        # Without the fflush festival keeps what it prints, and both sides wait for ever.
        self.process.stdin.write(f'{commands}\n(format t "{self.DONE}\\n")\n(fflush nil)\n')
        self.process.stdin.flush()
        printed = []
        for line in self.process.stdout:
            if line.strip() == self.DONE:
                return "".join(printed)
            printed.append(line)
        raise ValueError(f"festival ended while it ran {commands!r}: try this line by hand")

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """As `TextToSpeech`, with stretch. Raises ValueError for a voice that is not installed."""
        package = FESTIVAL_PACKAGES.get(voice.name)
        require(package is not None, voice, f"festival has {', '.join(FESTIVAL_PACKAGES)}")
        require(
            voice.name in self.voices, voice, f"is not installed; run: apt-get install {package}"
        )
        stretch = voice.number("stretch") if voice.parameters else 1.0
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        path = Path(self.folder.name) / "speech.wav"
        path.unlink(missing_ok=True)
        printed = self.evaluate(
            f"(voice_{voice.name})\n"
            # Always set: the value of the utterance before would stay.
            f"(Parameter.set 'Duration_Stretch {stretch * FESTIVAL_STRETCH[voice.name]:.4f})\n"
            f'(utt.save.wave (utt.synth (Utterance Text "{quoted}")) "{path}" "riff")'
        )
        return read_speech(printed, path)

    def versions(self) -> dict[str, str]:
        """{"festival": ...}, as the program says it."""
        return {"festival": first_match(r"\d+\.\d+\S*", run([self.program, "--version"]))}

    def close(self) -> None:
        """Ends the process and removes its folder."""
        self.process.communicate()  # festival ends with its input
        self.folder.cleanup()


ENGINES: dict[str, Callable[[], TextToSpeech]] = {
    "flite": FliteEngine,
    "espeak": EspeakEngine,
    "festival": FestivalEngine,
}


class InstalledEngines:
    """All engines as one: each is started when its first text comes.

    more: engines beside Debian's, such as piper's with its folder of voices.
    """

    def __init__(self, more: Mapping[str, Callable[[], TextToSpeech]] | None = None) -> None:
        self.kinds = {**ENGINES, **(more or {})}
        self.started: dict[str, TextToSpeech] = {}

    def engine(self, name: str) -> TextToSpeech:
        """The engine of that name, started now if it has not been."""
        if name not in self.started:
            self.started[name] = self.kinds[name]()
        return self.started[name]

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        """The voice's engine speaks; silence around is trimmed. Raises ValueError for no words."""
        if voice.engine == "sound":  # no words, and its silence belongs to it
            return self.engine(voice.engine).speak(text, voice)
        text = " ".join(text.split())
        if not any(character.isalnum() for character in text):
            raise ValueError(f"text {text!r}: nothing to say; give at least one word")
        return trim_silence(self.engine(voice.engine).speak(text, voice))

    def versions(self) -> dict[str, str]:
        """Of all engines, which must all be installed."""
        return {name: self.engine(name).versions()[name] for name in self.kinds}

    def close(self) -> None:
        """Closes those that were started."""
        for engine in self.started.values():
            engine.close()
        self.started.clear()


def trim_silence(waveform: np.ndarray, *, kept_s: float = KEPT_SILENCE_S) -> np.ndarray:
    """[samples] at 16 kHz, with at most `kept_s` of silence left at either end."""
    frame = SAMPLE_RATE // 100  # 10 ms
    frames = waveform[: len(waveform) // frame * frame].reshape(-1, frame)
    power = np.square(frames).mean(axis=1)
    if not power.size or power.max() == 0.0:
        return waveform
    loud = np.flatnonzero(power > power.max() * 10 ** (SILENCE_DB / 10))
    kept = round(kept_s * SAMPLE_RATE)
    return waveform[max(0, loud[0] * frame - kept) : (loud[-1] + 1) * frame + kept]


def read_speech(printed: str, path: Path) -> np.ndarray:
    """The engine's wav file as [samples] float32 at 16 kHz; the file is removed."""
    if not path.exists():
        raise ValueError(
            f"the speech engine wrote no audio; it said: {printed.strip() or 'nothing'}"
        )
    waveform, rate = soundfile.read(path, dtype="float32")
    path.unlink()
    if rate == SAMPLE_RATE:
        return waveform
    # A full-scale peak overshoots a little when it is resampled.
    return np.clip(soxr.resample(waveform, rate, SAMPLE_RATE), -1.0, 1.0)


def run(command: list[str], text: str | None = None, *, check: bool = True) -> str:
    """Runs a program and gives back all that it printed."""
    done = subprocess.run(
        command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if check and done.returncode:
        raise ValueError(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def find_program(name: str, *, package: str) -> str:
    """Path of the program. Raises FileNotFoundError that names the Debian package."""
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(
            f"the speech engine {name} is not installed; on Debian run: apt-get install {package}"
        )
    return path


def first_match(pattern: str, printed: str) -> str:
    """What the pattern finds in what a program printed, else "unknown"."""
    match = re.search(pattern, printed)
    return match[0] if match else "unknown"


def require(condition: bool, voice: Voice, rule: str) -> None:
    """Raises ValueError, voice and rule in it, unless the condition holds."""
    if not condition:
        raise ValueError(f"voice {voice}: {rule}")
