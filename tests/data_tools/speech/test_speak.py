"""The speech engines as they are installed: each voice speaks, and as itself."""

import shutil
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from data_tools.speech.speak import (
    SAMPLE_RATE,
    FestivalEngine,
    FliteEngine,
    InstalledEngines,
    trim_silence,
)
from data_tools.speech.voices import (
    ANSWER_VOICE,
    HELD_OUT_VOICE,
    TRAINING_SHARE,
    Voice,
    random_training_voice,
    training_voices,
)

QUESTION = "How many legs does a spider have?"


@pytest.fixture(scope="module")
def engines() -> Iterator[InstalledEngines]:
    engines = InstalledEngines()
    yield engines
    engines.close()


def test_no_two_speakers_of_the_training_voices_sound_the_same(engines: InstalledEngines) -> None:
    """espeak-ng in particular answers an unknown accent or variant with its default, silently."""
    speakers = {
        (voice.name, dict(voice.parameters).get("variant")): voice
        for voices in training_voices().values()
        for voice in voices
    }
    heard: dict[bytes, Voice] = {}
    for voice in [*speakers.values(), HELD_OUT_VOICE, ANSWER_VOICE]:
        waveform = engines.speak(QUESTION, voice)
        assert waveform.dtype == np.float32 and waveform.ndim == 1
        assert 1.0 < len(waveform) / SAMPLE_RATE < 4.0, voice
        assert 0.1 < np.abs(waveform).max() <= 1.0, voice
        same = heard.setdefault(waveform.tobytes(), voice)
        assert same == voice, f"{voice} sounds like {same}"


@pytest.mark.parametrize(
    ("voice", "longer"),
    [
        ("flite-slt:stretch=0.8", "flite-slt:stretch=1.25"),
        ("flite-slt", "flite-slt:stretch=1.25"),
        ("festival-kal_diphone:stretch=0.85", "festival-kal_diphone:stretch=1.15"),
        ("espeak-en-us:speed=175", "espeak-en-us:speed=130"),
    ],
)
def test_a_slower_voice_takes_longer(engines: InstalledEngines, voice: str, longer: str) -> None:
    short, long = (engines.speak(QUESTION, Voice.parse(text)) for text in (voice, longer))
    assert len(long) > 1.1 * len(short)


@pytest.mark.parametrize("name", ["slt", "awb", "kal16"])
def test_f0_sets_the_pitch_of_flite(engines: InstalledEngines, name: str) -> None:
    def pitch(hertz: int) -> float:
        """Median over frames of 40 ms of the best autocorrelation lag."""
        waveform = engines.speak(QUESTION, Voice.parse(f"flite-{name}:f0={hertz}"))
        frames = waveform[: len(waveform) // 640 * 640].reshape(-1, 640)
        loud = frames[np.square(frames).mean(axis=1) > np.square(waveform).mean()]
        spectra = np.abs(np.fft.rfft(loud, 2048)) ** 2
        lags = np.fft.irfft(spectra)[:, 50:230]  # 320 to 70 Hz
        return float(np.median(SAMPLE_RATE / (50 + lags.argmax(axis=1))))

    assert pitch(110) == pytest.approx(110, rel=0.12)
    assert pitch(165) == pytest.approx(165, rel=0.12)


def test_what_was_spoken_before_changes_nothing(engines: InstalledEngines) -> None:
    """A set that was stopped and resumed must equal one that was not."""
    voices = [Voice.parse(f"festival-{name}") for name in ("kal_diphone", "cmu_us_slt_arctic_hts")]
    slow = Voice.parse("festival-kal_diphone:stretch=1.15")
    first = [engines.speak(QUESTION, voice) for voice in voices]
    engines.speak("Something else, and slower.", slow)
    fresh = InstalledEngines()
    for voice, waveform in zip(voices, first, strict=True):
        np.testing.assert_array_equal(engines.speak(QUESTION, voice), waveform)
        np.testing.assert_array_equal(fresh.speak(QUESTION, voice), waveform)
    fresh.close()


@pytest.mark.parametrize("engine", list(TRAINING_SHARE))
def test_quotes_dashes_and_line_breaks_are_text_like_any_other(
    engines: InstalledEngines, engine: str
) -> None:
    voice = training_voices()[engine][0]
    awkward = engines.speak('-v "What\\ is (that)\'s\nname" (quit) ; $HOME', voice)
    assert len(awkward) > SAMPLE_RATE
    assert len(engines.speak(QUESTION, voice)) > SAMPLE_RATE


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_a_text_without_words_is_refused(engines: InstalledEngines, text: str) -> None:
    with pytest.raises(ValueError, match="nothing to say"):
        engines.speak(text, ANSWER_VOICE)


@pytest.mark.parametrize(
    ("voice", "rule"),
    [
        ("flite-nobody", "flite has slt"),
        ("flite-slt:f0=high", "f0='high' must be a number"),
        ("festival-nobody", "festival has kal_diphone"),
        ("espeak-xx", "espeak-ng has"),
        ("espeak-en-us:variant=female2", "file names"),
        ("espeak-en-gb:variant=f2", "en-gb has no variants"),
    ],
)
def test_a_voice_that_an_engine_would_replace_in_silence_is_refused(
    engines: InstalledEngines, voice: str, rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        engines.speak(QUESTION, Voice.parse(voice))


def test_a_missing_engine_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OSError, match=r"flite is not installed.*apt-get install flite"):
        FliteEngine()
    with pytest.raises(OSError, match="apt-get install festival"):
        FestivalEngine()


def test_a_missing_festival_voice_is_named_with_its_package(engines: InstalledEngines) -> None:
    festival = FestivalEngine()
    festival.voices.clear()
    with pytest.raises(ValueError, match="apt-get install festvox-us-slt-hts"):
        festival.speak(QUESTION, Voice.parse("festival-cmu_us_slt_arctic_hts"))
    festival.close()


def test_versions_name_every_engine(engines: InstalledEngines) -> None:
    versions = engines.versions()
    assert set(versions) == {"flite", "espeak", "festival"}
    assert all(any(c.isdigit() for c in version) for version in versions.values())


@pytest.mark.parametrize(
    "text", ["flite-slt", "flite-awb:stretch=1.1,f0=95", "espeak-en-gb-x-rp:variant=f2,pitch=35"]
)
def test_a_voice_is_what_its_text_form_says(text: str) -> None:
    assert str(Voice.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "flite", "flite-slt:", "flite-slt:f0", "flite-slt:pitch=3", "siri-slt", "flite-"]
)
def test_a_text_that_is_no_voice_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Voice.parse(text)


def test_training_voices_keep_to_their_shares_and_never_use_the_held_out_speaker() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_training_voice(rng) for _ in range(4000)]
    counts = Counter(voice.engine for voice in drawn)
    for engine, share in TRAINING_SHARE.items():
        assert counts[engine] / len(drawn) == pytest.approx(share, abs=0.03)
    speakers = {(v.engine, v.name) for voices in training_voices().values() for v in voices}
    assert (HELD_OUT_VOICE.engine, HELD_OUT_VOICE.name) not in speakers


def test_long_silence_is_trimmed_to_what_is_kept_and_quiet_speech_stays() -> None:
    silence, quiet = np.zeros(SAMPLE_RATE, np.float32), np.full(1600, 0.01, np.float32)
    speech = np.concatenate([quiet, np.full(1600, 0.5, np.float32), quiet])
    trimmed = trim_silence(np.concatenate([silence, speech, silence]), kept_s=0.1)
    np.testing.assert_array_equal(trimmed, np.pad(speech, 1600))
    np.testing.assert_array_equal(trim_silence(speech), speech)
    np.testing.assert_array_equal(trim_silence(silence), silence)
