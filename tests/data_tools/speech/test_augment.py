"""Augmentation: exact repetition, stated levels, nothing clipped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.speech.augmentation import (
    AugmentConfig,
    add_echo,
    add_noise,
    augment,
    augment_rng,
    change_speed,
    fast_length,
)
from data_tools.speech.speak import SAMPLE_RATE

OFF = AugmentConfig(
    speed_share=0.0, echo_share=0.0, noise_share=0.0, gain_db=(0.0, 0.0), silence_s=(0.0, 0.0)
)


def tone(*, hertz: float = 440.0, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def strongest_hertz(waveform: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(waveform)).argmax() * SAMPLE_RATE / len(waveform))


def power(waveform: np.ndarray) -> float:
    return float(np.square(waveform).mean())


def test_seed_epoch_and_index_decide_everything() -> None:
    first, again = (augment(tone(), augment_rng(1, 2, 3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("other", [(0, 2, 3), (1, 3, 3), (1, 2, 2), (1, 3, 2)])
def test_another_seed_epoch_or_index_sounds_different(other: tuple[int, int, int]) -> None:
    first, second = augment(tone(), augment_rng(1, 2, 3)), augment(tone(), augment_rng(*other))
    assert len(first) != len(second) or not np.array_equal(first, second)


def test_with_every_effect_off_the_waveform_stays() -> None:
    np.testing.assert_array_equal(augment(tone(), augment_rng(0, 0, 0), OFF), tone())


def test_the_input_is_not_written_to() -> None:
    waveform = tone()
    augment(waveform, augment_rng(0, 0, 0))
    np.testing.assert_array_equal(waveform, tone())


@settings(max_examples=50, deadline=None)
@given(
    samples=st.integers(min_value=1, max_value=40_000),
    index=st.integers(min_value=0, max_value=2**40),
    level=st.sampled_from([0.0, 1e-4, 0.5, 1.0, 30.0]),
)
def test_any_waveform_comes_out_finite_float32_and_unclipped(
    samples: int, index: int, level: float
) -> None:
    waveform = level * np.random.default_rng(samples).standard_normal(samples)
    result = augment(waveform, augment_rng(0, 0, index))
    assert result.dtype == np.float32 and result.ndim == 1
    assert np.isfinite(result).all()
    assert np.abs(result).max(initial=0.0) <= 1.0


def test_faster_speech_is_shorter_and_higher() -> None:
    faster = change_speed(tone(hertz=400.0), 1.18)
    assert len(faster) == pytest.approx(SAMPLE_RATE / 1.18, abs=4)
    assert strongest_hertz(faster) == pytest.approx(400.0 * 1.18, abs=2.0)


@pytest.mark.parametrize("snr_db", [8.0, 35.0])
@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_noise_lies_the_given_decibels_below_the_speech(snr_db: float, slope: float) -> None:
    noisy = add_noise(tone(), np.random.default_rng(0), snr_db=snr_db, slope=slope)
    ratio = 10 * np.log10(power(tone()) / power(noisy - tone()))
    assert ratio == pytest.approx(snr_db, abs=0.1)


def test_a_steeper_slope_moves_the_noise_down() -> None:
    def share_below_1_khz(slope: float) -> float:
        noise = add_noise(tone(), np.random.default_rng(0), snr_db=8.0, slope=slope) - tone()
        spectrum = np.square(np.abs(np.fft.rfft(noise)))
        return float(spectrum[: len(spectrum) // 8].sum() / spectrum.sum())

    assert share_below_1_khz(0.0) == pytest.approx(1 / 8, abs=0.02)
    assert share_below_1_khz(2.0) > 0.9


def test_an_echo_rings_on_with_the_given_energy_and_dies_away() -> None:
    click = np.zeros(SAMPLE_RATE, dtype=np.float32)
    click[0] = 1.0
    ringing = add_echo(click, np.random.default_rng(0), seconds=0.4, level=0.5)
    assert len(ringing) == len(click)
    assert ringing[0] == pytest.approx(1.0, abs=1e-4)
    assert np.square(ringing[1:]).sum() == pytest.approx(0.5, rel=1e-3)
    start, end = ringing[1:800], ringing[5600:6400]  # the first and the last 50 ms of 400
    assert 10 * np.log10(power(start) / power(end)) == pytest.approx(52.5, abs=2.0)
    assert np.abs(ringing[6400:]).max() < 1e-5


def test_a_clip_of_no_length_or_two_channels_is_refused() -> None:
    for shape in ((0,), (2, 100)):
        with pytest.raises(ValueError, match="waveform of shape"):
            augment(np.zeros(shape, dtype=np.float32), augment_rng(0, 0, 0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": (1.2, 0.8)},
        {"speed": (0.0, 1.0)},
        {"echo_s": (0.0, 0.5)},
        {"echo_level": (-0.1, 0.5)},
        {"silence_s": (-1.0, 0.0)},
        {"noise_share": 1.5},
    ],
)
def test_an_impossible_range_is_refused_by_name(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        AugmentConfig(**wrong)


@given(st.integers(min_value=1, max_value=2_000_000))
def test_fast_lengths_are_long_enough_and_at_most_a_third_longer(least: int) -> None:
    assert least <= fast_length(least) <= max(4 / 3 * least, 2)
