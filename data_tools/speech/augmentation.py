"""A clean recording -> the same words by another throat, in another room, by another microphone.

Speed, echo, noise, telephone, level and silence, in numpy and soxr, on the fly. What is drawn
depends only on (seed, epoch, index), so an epoch can be repeated or resumed exactly.
"""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from omni.audio import SAMPLE_RATE, load_audio

TELEPHONE_HZ = (300.0, 3400.0)
MU = 255.0  # of the mu-law
PEAK_LIMIT = 0.99  # louder than this a waveform is scaled down, never clipped


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Ranges are (low, high), drawn evenly; a *_share is how often the effect is used at all.

    speed: playing speed; pitch and formants move along, as of a smaller or larger speaker.
    echo_s: seconds in which the room's echo falls by 60 dB. echo_level: energy, direct sound 1.
    snr_db: speech to noise. noise_slope: power of the noise falls with 1 / frequency ** slope:
        0 is white, 1 pink, 2 brown. telephone_share: how often all of it goes through a telephone.
        gain_db: loudness. silence_s: added at start and end.
    """

    speed: tuple[float, float] = (0.85, 1.18)
    speed_share: float = 0.8
    echo_s: tuple[float, float] = (0.1, 0.6)
    echo_level: tuple[float, float] = (0.05, 0.6)
    echo_share: float = 0.5
    snr_db: tuple[float, float] = (8.0, 35.0)
    noise_slope: tuple[float, float] = (0.0, 2.0)
    noise_share: float = 0.8
    telephone_share: float = 0.0
    gain_db: tuple[float, float] = (-12.0, 6.0)
    silence_s: tuple[float, float] = (0.0, 0.3)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name}={value}: must be (low, high); swap the two")
        for name in ("speed_share", "echo_share", "noise_share", "telephone_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name)}: must be from 0 to 1; change it")
        for name in ("speed", "echo_s"):
            if getattr(self, name)[0] <= 0.0:
                raise ValueError(
                    f"{name}={getattr(self, name)}: must be above 0; raise the low end"
                )
        for name in ("echo_level", "silence_s"):
            if getattr(self, name)[0] < 0.0:
                raise ValueError(
                    f"{name}={getattr(self, name)}: must be at least 0; raise the low end"
                )


_NOTHING = AugmentConfig(
    speed_share=0.0, echo_share=0.0, noise_share=0.0, gain_db=(0.0, 0.0), silence_s=(0.0, 0.0)
)
# One thing at a time, for tests of what each of them costs.
EFFECTS = {
    "telephone": replace(_NOTHING, telephone_share=1.0),
    "room": replace(_NOTHING, echo_share=1.0, echo_s=(0.3, 0.6), echo_level=(0.3, 0.6)),
    "noise": replace(_NOTHING, noise_share=1.0, snr_db=(8.0, 15.0)),
}


def augment_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random source of one clip in one epoch; index is its place in the manifest."""
    return np.random.default_rng([seed, epoch, index])


def load_augmented(
    recording: Path, variant: int, *, seed: int, config: AugmentConfig | None = None
) -> np.ndarray:
    """[samples] at 16 kHz: variant 0 is the recording itself, others are drawn by their number."""
    waveform = load_audio(recording)
    if variant == 0:
        return waveform
    # By name, not by place: a manifest that grew gives the old recordings the old noise.
    rng = augment_rng(seed, variant, zlib.crc32(recording.name.encode()))
    return augment(waveform, rng, config)


def augment(
    waveform: np.ndarray, rng: np.random.Generator, config: AugmentConfig | None = None
) -> np.ndarray:
    """[samples] -> [other number of samples], float32 at 16 kHz, within -1..1.

    Raises ValueError for an empty waveform, or more than one channel.
    """
    config = config or AugmentConfig()
    result = np.asarray(waveform, dtype=np.float32)
    if result.ndim != 1 or not result.size:
        raise ValueError(f"waveform of shape {result.shape}: must be [samples], at least one")
    if rng.random() < config.speed_share:
        result = change_speed(result, rng.uniform(*config.speed))
    result = pad(result, rng, config.silence_s)  # before the echo, which rings on into the silence
    if rng.random() < config.echo_share:
        result = add_echo(
            result, rng, seconds=rng.uniform(*config.echo_s), level=rng.uniform(*config.echo_level)
        )
    if rng.random() < config.noise_share:
        result = add_noise(
            result,
            rng,
            snr_db=rng.uniform(*config.snr_db),
            slope=rng.uniform(*config.noise_slope),
        )
    # Where it is never used it draws nothing either: older recipes keep their draws.
    if config.telephone_share and rng.random() < config.telephone_share:
        result = telephone(result)
    result = result * np.float32(10 ** (rng.uniform(*config.gain_db) / 20))
    peak = np.abs(result).max(initial=0.0)
    return result * np.float32(PEAK_LIMIT / peak) if peak > PEAK_LIMIT else result


def change_speed(waveform: np.ndarray, speed: float) -> np.ndarray:
    """Resampled to 1 / speed of the length, and played at the old rate."""
    # QQ (cubic) costs a fifth of HQ and its faint images drown in the noise added later.
    return soxr.resample(waveform, speed, 1.0, quality="QQ")


def pad(
    waveform: np.ndarray, rng: np.random.Generator, silence_s: tuple[float, float]
) -> np.ndarray:
    """[samples] with silence before and after, each of a length drawn from `silence_s`."""
    before, after = (round(rng.uniform(*silence_s) * SAMPLE_RATE) for _ in range(2))
    return np.pad(waveform, (before, after))


def add_echo(
    waveform: np.ndarray, rng: np.random.Generator, *, seconds: float, level: float
) -> np.ndarray:
    """Convolved with a room's impulse: the direct sound, then noise that dies away.

    seconds: until the echo is 60 dB down. level: energy of the echo, the direct sound's being 1.
    The length stays: what rings on after the end is cut.
    """
    length = round(seconds * SAMPLE_RATE)
    decay = np.exp(np.arange(length, dtype=np.float32) * np.float32(-6.908 / length))  # 60 dB
    impulse = rng.standard_normal(length, dtype=np.float32) * decay
    impulse[0] = 0.0
    impulse *= np.float32(np.sqrt(level / max(np.square(impulse).sum(), 1e-12)))
    impulse[0] = 1.0
    size = fast_length(len(waveform) + length)
    spectrum = np.fft.rfft(waveform, size) * np.fft.rfft(impulse, size)
    return np.fft.irfft(spectrum, size)[: len(waveform)].astype(np.float32)


def add_noise(
    waveform: np.ndarray, rng: np.random.Generator, *, snr_db: float, slope: float
) -> np.ndarray:
    """Coloured noise, `snr_db` below the mean power of the waveform (its silences count)."""
    size = fast_length(max(len(waveform), 2))
    bins = size // 2 + 1
    spectrum = rng.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)
    # Flat below 50 Hz: the slope would put nearly all power where nothing is heard.
    frequency = np.maximum(np.arange(bins, dtype=np.float32) * (SAMPLE_RATE / size), 50.0)
    spectrum *= frequency ** np.float32(-slope / 2)
    noise = np.fft.irfft(spectrum, size)[: len(waveform)].astype(np.float32)
    signal_power, noise_power = np.square(waveform).mean(), np.square(noise).mean()
    scale = np.sqrt(signal_power / max(noise_power, 1e-12) * 10 ** (-snr_db / 10))
    return waveform + noise * np.float32(scale)


def telephone(waveform: np.ndarray) -> np.ndarray:
    """As a landline carries it: 300 to 3400 Hz, in 8 bits of mu-law (ITU-T G.711's curve)."""
    size = fast_length(len(waveform) + SAMPLE_RATE // 50)  # room for the filter to ring
    spectrum = np.fft.rfft(waveform, size)
    frequency = np.arange(len(spectrum)) * (SAMPLE_RATE / size)
    low, high = TELEPHONE_HZ
    # Edges of a raised cosine, a fifth of the band's limits wide: a sharp one would ring.
    rise = np.clip((frequency - 0.8 * low) / (0.2 * low), 0.0, 1.0)
    fall = np.clip((1.2 * high - frequency) / (0.2 * high), 0.0, 1.0)
    spectrum *= np.square(np.sin(np.pi / 2 * rise) * np.sin(np.pi / 2 * fall))
    band = np.fft.irfft(spectrum, size)[: len(waveform)]
    peak = max(float(np.abs(band).max(initial=0.0)), 1e-9)  # the line's level is set to its range
    squeezed = np.sign(band) * np.log1p(MU * np.abs(band) / peak) / np.log1p(MU)
    steps = np.round(squeezed * 127) / 127
    return (np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(MU)) / MU * peak).astype(np.float32)


def fast_length(least: int) -> int:
    """The next length of the form 2**n * (1, 1.25 or 1.5), which an FFT does quickly."""
    power = 1 << max(least - 1, 1).bit_length()
    return next(n for n in (power * 5 // 8, power * 3 // 4, power) if n >= least)
