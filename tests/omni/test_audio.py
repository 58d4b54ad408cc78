"""Waveforms are read whatever their form, checked at the door, and measured as Whisper does."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import WhisperFeatureExtractor

from omni.audio import (
    SAMPLE_RATE,
    WINDOW_SAMPLES,
    AudioError,
    encoder_frames,
    load_audio,
    log_mel,
    mel_frames,
    pad_to_window,
    prepare,
    read_audio,
    save_wav,
)
from tests.paths import DATA

GOLDEN = DATA / "llama_omni"


def tone(seconds: float = 0.5, rate: int = SAMPLE_RATE, hertz: float = 440.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def strongest_hertz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples))


@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_of_a_padded_window_is_that_of_transformers(n_mels: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    theirs = WhisperFeatureExtractor(feature_size=n_mels)(
        noise, sampling_rate=SAMPLE_RATE, return_tensors="pt"
    )["input_features"][0]
    torch.testing.assert_close(log_mel(pad_to_window(noise), n_mels), theirs, atol=1e-5, rtol=0)


def test_log_mel_is_that_of_the_published_code() -> None:
    golden = np.load(GOLDEN / "golden.npz")["mel_every_16"]
    mel = log_mel(pad_to_window(load_audio(GOLDEN / "question.flac")), 128)
    difference = np.abs(mel.T[::16].numpy() - golden)
    # Another FFT rounds otherwise, which shows in bins that are 80 dB below the loudest: there
    # the golden values themselves are 3.6e-5 away from those of a float64 FFT.
    assert np.quantile(difference, 0.999) < 1e-5
    assert difference.max() < 1e-4


def test_unpadded_log_mel_has_one_frame_per_hop_and_the_same_values_inside() -> None:
    samples = tone(0.5) + np.random.default_rng(0).normal(0, 0.01, 8000).astype(np.float32)
    alone, padded = log_mel(samples, 80), log_mel(pad_to_window(samples), 80)
    assert alone.shape == (80, mel_frames(len(samples))) == (80, 50)
    torch.testing.assert_close(alone[:, :48], padded[:, :48], atol=1e-5, rtol=0)


def test_a_given_maximum_makes_frames_independent_of_what_follows() -> None:
    quiet, loud = 0.001 * tone(0.5), tone(0.5)
    both = np.concatenate([quiet, loud])
    first = slice(0, 48)
    torch.testing.assert_close(
        log_mel(both, 80, maximum=1.0)[:, first], log_mel(quiet, 80, maximum=1.0)[:, first]
    )
    assert not torch.allclose(log_mel(both, 80)[:, first], log_mel(quiet, 80)[:, first])


@pytest.mark.parametrize(("mel", "frames"), [(1, 1), (2, 1), (3, 2), (3000, 1500)])
def test_two_mel_frames_make_one_encoder_frame(mel: int, frames: int) -> None:
    assert encoder_frames(mel) == frames
    assert int(encoder_frames(torch.tensor(mel))) == frames


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_any_sample_rate_becomes_16_khz_at_the_same_pitch(rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "q.wav", tone(0.5, rate), rate)
    samples = load_audio(tmp_path / "q.wav")
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(8000, abs=2)
    assert strongest_hertz(samples) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_files_and_their_bytes_read_alike(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"q.{kind}"
    soundfile.write(path, tone(), SAMPLE_RATE)
    np.testing.assert_array_equal(load_audio(path), load_audio(path.read_bytes()))
    assert strongest_hertz(load_audio(path)) == pytest.approx(440, abs=3)


def test_channels_are_averaged() -> None:
    left, right = tone(hertz=440), tone(hertz=880)
    np.testing.assert_allclose(
        prepare(np.stack([left, right], axis=1), SAMPLE_RATE), (left + right) / 2, atol=1e-7
    )


@pytest.mark.parametrize("kind", ["int16", "int32", "uint8"])
def test_the_integers_of_a_wav_file_are_the_sound_that_it_holds(kind: str) -> None:
    steps = 2.0 ** (np.iinfo(kind).bits - 1)
    stored = np.round(tone() * steps + (steps if kind == "uint8" else 0)).astype(kind)
    for samples in (stored, torch.from_numpy(stored)):
        np.testing.assert_allclose(read_audio(samples), tone(), atol=0.6 / steps + 1e-6)


@pytest.mark.parametrize("wrong", [np.zeros(1600, np.int64), np.zeros((2, 1600), np.float32)])
def test_samples_whose_meaning_is_unsure_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(AudioError, match=r"int64; must be floats|\[2, 1600\], .* transpose"):
        prepare(wrong, SAMPLE_RATE)


def test_what_is_saved_reads_back_to_16_bits_and_loud_samples_are_clipped(tmp_path: Path) -> None:
    waveform = 4 * tone()
    save_wav(tmp_path / "a.wav", waveform)
    np.testing.assert_allclose(
        load_audio(tmp_path / "a.wav"), np.clip(waveform, -1, 1), atol=2 / 2**15
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        load_audio(tmp_path / "gone.wav")


def test_a_file_of_no_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.wav").touch()
    with pytest.raises(AudioError, match=r"empty"):
        load_audio(tmp_path / "q.wav")


def test_a_recording_of_no_samples_is_refused() -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(0, np.float32), SAMPLE_RATE, format="WAV")
    with pytest.raises(AudioError, match=r"holds no samples"):
        load_audio(stream.getvalue(), name="q.wav")


@pytest.mark.parametrize("content", [b"hello, this is text", b"RIFF\x00\x00"])
def test_what_is_no_audio_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(AudioError, match=r"q\.wav: not readable as audio.*convert"):
        load_audio(content, name="q.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_counted_and_refused(bad: float) -> None:
    samples = tone()
    samples[[3, 5]] = bad
    with pytest.raises(AudioError, match=r"2 samples are NaN or infinite"):
        prepare(samples, SAMPLE_RATE)


def test_less_than_an_analysis_window_is_refused() -> None:
    with pytest.raises(AudioError, match=r"200 samples.*at least 201"):
        log_mel(np.ones(200, np.float32), 80)


def test_padding_never_cuts() -> None:
    assert len(pad_to_window(np.ones(WINDOW_SAMPLES, np.float32))) == WINDOW_SAMPLES
    with pytest.raises(AudioError, match=r"31\.0 s of audio.*30 s"):
        pad_to_window(np.ones(31 * SAMPLE_RATE, np.float32))
