"""What the frozen speech encoder makes of recordings, computed once and kept on disk.

Stage 1 reads it in every epoch; `omni-data features` fills the same folder ahead, for example on
another machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from omni.files import ALONE, RaggedStore, Share, file_digest, fill, made_with
from omni.processor import OmniProcessor, pad_features
from omni.speech_encoder import SpeechEncoder

CLEAN = 0  # the variant without augmentation


@dataclass(frozen=True)
class FrameCache:
    """Encoder frames [F, D] float16 by recording and variant."""

    store: RaggedStore
    names: dict[Path, str]  # of recordings, in the store's keys

    def frames(self, recording: Path, variant: int) -> Tensor:
        """[F, D] float32."""
        return self.store[f"{variant} {self.names[recording]}"].float()


def cache_frames(
    encoder: SpeechEncoder,
    processor: OmniProcessor,
    recordings: Sequence[Path],
    *,
    clean_only: Sequence[Path] = (),
    load: Callable[[Path, int], np.ndarray],
    augmentation: dict[str, Any],
    variants: int,
    seed: int,
    folder: Path,
    batch_size: int = 32,
    dtype: torch.dtype | None = None,
    share: Share = ALONE,
) -> FrameCache:
    """Encode every recording once clean and in `variants` augmented variants, `clean_only` clean.

    load: recording and variant -> [samples] at 16 kHz, as `augmentation` and `seed` say.
    dtype: that matrices are multiplied in, while weights stay in float32; None: what the folder
    was begun with, else float32.
    share: of several processes that fill the folder together, which one this is.
    A killed run goes on where it stopped. Raises UserError if the folder was made with another
    encoder, augmentation, seed or dtype.
    """
    sizes = {path: path.stat().st_size for path in (*recordings, *clean_only)}
    # A recording that was made anew is encoded anew. Its name counts: augmentation is drawn by it.
    names = {path: f"{file_digest(path)} {path.name}" for path in sizes}
    # Recordings of like length share a batch: little padding.
    by_size = sorted(sizes, key=lambda path: (-sizes[path], str(path)))
    augmented = set(recordings)
    wanted = [(path, CLEAN) for path in by_size]
    for variant in range(1, variants + 1):
        wanted += [(path, variant) for path in by_size if path in augmented]
    work = {f"{variant} {names[path]}": (path, variant) for path, variant in wanted}
    keys = list(work)
    encoder.eval()
    begun = getattr(torch, made_with(folder).get("dtype", "float32"))
    kind: torch.dtype = dtype or begun

    @torch.no_grad()
    def make(batch: Sequence[str]) -> list[Tensor]:
        device = encoder.conv1.weight.device
        mels = pad_features([processor.features(load(*work[key])) for key in batch])
        with torch.autocast(device.type, kind, enabled=kind != torch.float32):
            frames = encoder(**{name: value.to(device) for name, value in mels.items()})
        return [frames.sequence(row) for row in range(len(batch))]

    store = fill(
        folder,
        made_of={
            "encoder": weights_digest(encoder, **encoder.config.blocks),
            "pad_to_window": processor.config.pad_to_window,
            "augmentation": augmentation,
            "seed": seed,
        }
        | ({} if kind == torch.float32 else {"dtype": str(kind).removeprefix("torch.")}),
        batches=[keys[start : start + batch_size] for start in range(0, len(keys), batch_size)],
        make=make,
        width=encoder.width,
        label="encode questions",
        share=share,
    )
    return FrameCache(store, names)


def weights_digest(*modules: nn.Module, **also: Any) -> str:
    """16 hex digits that change with any weight (and with `also`)."""
    digest = hashlib.sha256(repr(sorted(also.items())).encode())
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
