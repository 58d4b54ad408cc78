"""The short-time Fourier transform of the light vocoder and its inverse, whole and streamed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.vocoder.stream_layers import Signal, overlap_step, spare_before_overlap


class Spectrum(nn.Module):
    """Hann windows of `n_fft` samples every `hop`; columns are centred in their hop.

    Both ways in float32: eight bits of phase are audible.
    """

    stft_basis: Tensor
    istft_basis: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop, self.edge = n_fft, hop, (n_fft - hop) // 2
        bins = n_fft // 2 + 1
        basis = _fourier_basis(n_fft)  # [2 * bins, n_fft]
        window = torch.hann_window(n_fft)
        scale = torch.full((bins,), 2.0)
        scale[0] = scale[-1] = 1.0  # the ends of a real spectrum have no mirror image
        # Squared Hann windows at this hop add up to 3/8 of n_fft / hop.
        overlap = 0.375 * n_fft / hop
        inverse = basis * torch.cat([scale, scale])[:, None] * window / (n_fft * overlap)
        forward = (basis * window / hop).T.contiguous()
        self.register_buffer("stft_basis", forward, persistent=False)  # [n_fft, 2 * bins]
        self.register_buffer("istft_basis", inverse, persistent=False)  # [2 * bins, n_fft]

    def stft(self, signals: Tensor) -> Tensor:
        """[B, S, W] -> [B, S * 2 * bins, W / hop]: of each signal real, then imaginary parts."""
        return self._columns(F.pad(signals, (self.edge, self.edge)))

    def istft(self, spectrum: Tensor) -> Tensor:
        """[B, 2 * bins, T] -> [B, T * hop]: the windows, added where they overlap."""
        return self._added(spectrum)[:, 0, self.edge : -self.edge]

    def stft_initial_state(self, batch: int, signals: int) -> Tensor:
        """The silence before the first sample: [B, S, edge]."""
        return self.stft_basis.new_zeros(batch, signals, self.edge, dtype=torch.float32)

    def stft_spare_before(self, spare: int | None) -> int | None:
        """Samples at the end that only the last `spare` columns need."""
        return None if spare is None else max(0, spare * self.hop - self.edge)

    def stft_step(self, x: Signal, kept: Tensor, spare: int | None) -> tuple[Signal, Tensor]:
        """The next samples [B, S, W] -> columns, as `SameConv.step`."""
        joined = torch.cat([kept, x.values], dim=-1)
        known = kept.shape[-1] + x.final
        padding, missing = 0, None
        if spare is not None and x.missing is not None:
            padding = max(0, self.edge - spare * self.hop) if x.missing == 0 else 0
            missing = (joined.shape[-1] + x.missing - self.edge) // self.hop
        columns = self._columns(F.pad(joined, (0, padding)))
        if missing is not None:
            missing -= columns.shape[-1]
        final = self._full_windows(known)
        kept = joined[..., final * self.hop : known].clone()
        return Signal(columns, final, missing), kept

    def istft_initial_state(self, batch: int) -> Tensor:
        """Nothing is kept before the first column: [B, 2 * bins, 0]."""
        return self.istft_basis.new_zeros(batch, len(self.istft_basis), 0, dtype=torch.float32)

    def istft_spare_before(self, spare: int | None) -> int | None:
        """Columns at the end that only the last `spare` samples need."""
        return None if spare is None else spare_before_overlap(spare, self.hop, self.edge)

    def istft_step(self, x: Signal, kept: Tensor, spare: int | None) -> tuple[Signal, Tensor]:
        """The next columns -> samples [B, 1, W], as `SameConv.step`."""
        return overlap_step(self._added, x, kept, spare, rate=self.hop, edge=self.edge)

    def _full_windows(self, samples: int) -> int:
        return max(0, (samples - self.n_fft) // self.hop + 1)

    def _columns(self, padded: Tensor) -> Tensor:
        """[B, S, W] -> [B, S * 2 * bins, T], of every full window."""
        with torch.autocast(padded.device.type, enabled=False):
            basis = self.stft_basis.float()
            if self._full_windows(padded.shape[-1]) == 0:
                return padded.new_zeros(len(padded), padded.shape[1] * basis.shape[1], 0)
            windows = padded.float().unfold(2, self.n_fft, self.hop)  # [B, S, T, n_fft]
            return (windows @ basis).transpose(2, 3).flatten(1, 2)

    def _added(self, spectrum: Tensor) -> Tensor:
        """[B, 2 * bins, T] -> [B, 1, (T - 1) * hop + n_fft]."""
        with torch.autocast(spectrum.device.type, enabled=False):
            windows = spectrum.float().transpose(1, 2) @ self.istft_basis.float()  # [B, T, n_fft]
            parts = windows.split(self.hop, dim=2)  # n_fft / hop times [B, T, hop]
            last = len(parts) - 1
            shifted = [F.pad(part, (0, 0, i, last - i)) for i, part in enumerate(parts)]
            return torch.stack(shifted).sum(0).flatten(1)[:, None]


def _fourier_basis(size: int) -> Tensor:
    """[2 * bins, size]: cosines, then negated sines, of the bins 0 ... size / 2."""
    angle = (
        torch.arange(size // 2 + 1)[:, None] * torch.arange(size)[None, :] * (2 * torch.pi / size)
    )
    return torch.cat([angle.cos(), -angle.sin()])
