"""Sounds that are no speech, as an engine among the others."""

import numpy as np
import pytest

from data_tools.speech.sounds import SECONDS, SOUNDS, SoundEngine
from data_tools.speech.speak import InstalledEngines
from data_tools.speech.voices import Voice
from omni.audio import SAMPLE_RATE


def sound(name: str, seed: int = 0) -> np.ndarray:
    return SoundEngine().speak("", Voice("sound", name, (("seed", str(seed)),)))


def centroid_hz(waveform: np.ndarray) -> float:
    power = np.square(np.abs(np.fft.rfft(waveform)))
    return float((power * np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)).sum() / power.sum())


@pytest.mark.parametrize("name", SOUNDS)
def test_a_seed_draws_the_same_sound_again_and_another_seed_another(name: str) -> None:
    first, again, other = sound(name, 1), sound(name, 1), sound(name, 2)
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or not np.allclose(first, other)


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_is_float32_of_a_length_and_level_that_can_be_kept(name: str) -> None:
    for seed in range(5):
        waveform = sound(name, seed)
        assert waveform.dtype == np.float32 and np.isfinite(waveform).all()
        assert SECONDS[0] <= len(waveform) / SAMPLE_RATE <= SECONDS[1]
        assert 1e-5 < np.abs(waveform).max() <= 1.0


def test_silence_is_far_below_every_other_sound() -> None:
    loudest = max(np.abs(sound("silence", seed)).max() for seed in range(10))
    others = (np.abs(sound(name, seed)).max() for name in SOUNDS if name != "silence"
              for seed in range(10))  # fmt: skip
    assert loudest < min(others)


def test_a_tone_has_one_frequency_and_noise_has_all() -> None:
    spectrum = np.abs(np.fft.rfft(sound("tone", 4)))
    assert np.square(np.sort(spectrum)[-20:]).sum() > 0.5 * np.square(spectrum).sum()
    noise = np.abs(np.fft.rfft(sound("noise", 4)))
    assert np.square(np.sort(noise)[-20:]).sum() < 0.2 * np.square(noise).sum()


def test_a_hum_is_low() -> None:
    assert centroid_hz(sound("hum", 3)) < 1500


def test_the_installed_engines_make_sounds_if_they_are_given_the_engine() -> None:
    engines = InstalledEngines({"sound": SoundEngine})
    voice = Voice("sound", "clicks", (("seed", "3"),))
    np.testing.assert_array_equal(engines.speak("", voice), sound("clicks", 3))
    assert "sound" in engines.kinds


def test_a_sound_that_is_not_known_or_has_words_is_refused() -> None:
    with pytest.raises(ValueError, match="sounds are noise"):
        sound("applause")
    with pytest.raises(ValueError, match="must be empty"):
        SoundEngine().speak("hello", Voice("sound", "noise"))
