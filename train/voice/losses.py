"""What a reconstructed waveform is compared by: multi-resolution STFT and log-mel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omni.audio import SAMPLE_RATE

RESOLUTIONS = ((256, 64), (512, 128), (1024, 256))  # (window, hop) in samples
MEL_WINDOW = 1024  # one of the windows above
N_MELS = 80
QUIET = 1e-2  # mean magnitude; silence below it is not told from louder silence by its energy
FLOOR = 1e-3  # magnitude, of windows of unit energy: about 60 dB below loud speech


class SpectralLoss(nn.Module):
    """Multi-resolution STFT loss (Yamamoto et al. 2020) and L1 of log-mel, on the same STFTs."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        for window, _ in RESOLUTIONS:
            hann = torch.hann_window(window)
            self.register_buffer(f"window_{window}", hann / hann.norm(), persistent=False)
        filters = mel_filter_bank(
            num_frequency_bins=MEL_WINDOW // 2 + 1,
            num_mel_filters=N_MELS,
            min_frequency=0.0,
            max_frequency=SAMPLE_RATE / 2,
            sampling_rate=SAMPLE_RATE,
            mel_scale="slaney",
        )  # [bins, mels], triangles of height 1
        filters = filters / filters.sum(axis=0).clip(min=1e-6)  # a band is a mean of its bins
        self.register_buffer("filters", torch.from_numpy(filters).float().T, persistent=False)

    def forward(self, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """[B, W], [B, W] -> of each row [B] the STFT loss (mean over the resolutions) and the
        log-mel loss."""
        stft_loss, mel_loss = made.new_zeros(len(made)), made.new_zeros(len(made))
        with torch.autocast(made.device.type, enabled=False):
            for window, hop in RESOLUTIONS:
                mine = self._magnitude(made.float(), window, hop)
                with torch.no_grad():
                    theirs = self._magnitude(true.float(), window, hop)
                quietest = QUIET * theirs[0].numel() ** 0.5
                convergence = _norm(theirs - mine) / _norm(theirs).clamp(min=quietest)
                log_distance = (mine.log() - theirs.log()).abs().mean((1, 2))
                stft_loss = stft_loss + (convergence + log_distance) / len(RESOLUTIONS)
                if window == MEL_WINDOW:
                    distance = (self.filters @ mine).log() - (self.filters @ theirs).log()
                    mel_loss = distance.abs().mean((1, 2))
        return stft_loss, mel_loss

    def _magnitude(self, waveform: Tensor, window: int, hop: int) -> Tensor:
        """[B, W] -> [B, bins, columns], at least FLOOR, with a gradient everywhere."""
        taper = getattr(self, f"window_{window}")
        spectrum = torch.stft(waveform, window, hop, window=taper, return_complex=True)
        return (spectrum.real**2 + spectrum.imag**2 + FLOOR**2).sqrt()


def _norm(spectra: Tensor) -> Tensor:
    """[B, bins, columns] -> [B], Frobenius."""
    return torch.linalg.vector_norm(spectra, dim=(1, 2))
