"""Merged units -> waveform: two kinds of vocoder, whole and streamed, under the same laws."""

from omni.vocoder.base import Rendering, SourceState, Vocoder, vocode
from omni.vocoder.folder import VOCODERS, load_vocoder, save_vocoder
from omni.vocoder.hifigan import HifiGanConfig, UnitHifiGan
from omni.vocoder.nsf import NsfConfig, NsfVocoder

__all__ = [
    "VOCODERS",
    "HifiGanConfig",
    "NsfConfig",
    "NsfVocoder",
    "Rendering",
    "SourceState",
    "UnitHifiGan",
    "Vocoder",
    "load_vocoder",
    "save_vocoder",
    "vocode",
]
