"""Sequences of several lengths in one batch."""

import torch

from omni.values import Frames


def frames_of(sequences: list[torch.Tensor]) -> Frames:
    """Pad with NaN, so that any leak shows."""
    lengths = [len(sequence) for sequence in sequences]
    values = torch.full((len(lengths), max(lengths), sequences[0].shape[-1]), float("nan"))
    for row, sequence in enumerate(sequences):
        values[row, : len(sequence)] = sequence
    return Frames(values, torch.tensor(lengths))
