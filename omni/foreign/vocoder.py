"""fairseq's unit HiFi-GAN (g_00500000 and its config.json) -> a vocoder's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from omni.files import CheckpointError, check_weights, read_json
from omni.foreign.stream import Progress
from omni.foreign.torch_files import read_mapping, state_dict
from omni.vocoder import UnitHifiGan, fold_weight_norm, hifigan_config, save_vocoder


@dataclass(frozen=True)
class VocoderWeights:
    """A vocoder with its weight norms folded: 54 MB at the published size, so held in memory."""

    vocoder: UnitHifiGan

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(weight.nbytes for weight in self.vocoder.state_dict().values())

    def write(self, folder: str | Path, progress: Progress | None = None) -> None:
        """The folder that `load_vocoder` reads. float32: folding leaves numbers fp16 can't hold."""
        save_vocoder(self.vocoder, folder, dtype=torch.float32)
        if progress is not None:
            progress(self.nbytes)


def read_vocoder(folder: str | Path) -> VocoderWeights:
    """The published folder: config.json and one generator, g_00500000 or the newest of several.

    Raises CheckpointError, naming the file, key or weight that is wrong.
    """
    folder = Path(folder)
    files = sorted(folder.glob("g_*"))
    if not files:
        raise CheckpointError(
            f"{folder}: no generator g_00500000 in it; give the folder that holds it beside its "
            "config.json"
        )
    record = read_json(folder / "config.json")
    try:
        config = hifigan_config(record)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: {error} is missing or of another type; get the config.json "
            "that belongs to the generator"
        ) from None
    content = read_mapping(files[-1], "generator", kind="generator of fairseq's vocoder")
    with torch.device("meta"):
        vocoder = UnitHifiGan(config)
    stored = state_dict(content, "generator", files[-1])
    # Shapes first: nothing is read or multiplied before they are known to fit.
    check_weights(_expected(vocoder, stored), stored, where=str(files[-1]))
    weights = {name: tensor.float() for name, tensor in stored.items()}
    vocoder.to_empty(device="cpu").load_state_dict(fold_weight_norm(weights))
    return VocoderWeights(vocoder.eval())


def _expected(vocoder: UnitHifiGan, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names and shapes of the file's weights: two for one where it has half a weight norm."""
    expected = {}
    for name, weight in vocoder.state_dict().items():
        if f"{name}_g" in stored or f"{name}_v" in stored:
            expected[f"{name}_v"] = weight
            expected[f"{name}_g"] = weight.flatten(1)[:, :1].reshape(-1, *[1] * (weight.dim() - 1))
        else:
            expected[name] = weight
    return expected
