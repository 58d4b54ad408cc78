"""A joblib pickle of scikit-learn's (MiniBatch)KMeans -> the centroids of a units folder.

joblib writes an array's raw bytes into the pickle stream, right behind a NumpyArrayWrapper that
says its type and shape. Neither joblib nor scikit-learn is needed to read it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

from omni.files import CheckpointError, replace_file, write_tensors
from omni.foreign.pickles import Array, SafeUnpickler, Stub
from omni.foreign.stream import Progress


class _ArrayWrapper(Stub):
    """joblib.numpy_pickle.NumpyArrayWrapper: its array follows in the stream."""


class _JoblibUnpickler(SafeUnpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(SafeUnpickler.dispatch)

    def __init__(self, file: BinaryIO, *, where: str, size: int) -> None:
        known = {"joblib.numpy_pickle.NumpyArrayWrapper": _ArrayWrapper}
        super().__init__(file, where=where, known=known)
        self._file = file
        self._size = size

    def load_build(self) -> None:
        super().load_build()
        if isinstance(self.stack[-1], _ArrayWrapper):
            self.stack[-1] = self._read_array(self.stack[-1].state)

    dispatch[pickle.BUILD[0]] = load_build

    def _read_array(self, wrapper: dict[str, Any]) -> np.ndarray:
        dtype: np.dtype = wrapper["dtype"].resolve()
        shape = tuple(int(n) for n in wrapper["shape"])
        if wrapper.get("numpy_array_alignment_bytes") is not None:
            self._file.read(self._file.read(1)[0])  # padding, behind its own length
        nbytes = prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or self._file.tell() + nbytes > self._size:
            raise CheckpointError(f"{self._where}: cut short in an array; download it again")
        flat = np.frombuffer(self._file.read(nbytes), dtype)
        return flat.reshape(shape, order="F" if wrapper["order"] == "F" else "C")


@dataclass(frozen=True)
class Centroids:
    """values: [K, D] float32."""

    values: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the centroids in float32."""
        return self.values.nbytes

    def write(self, folder: str | Path, progress: Progress | None = None) -> None:
        """FOLDER/centroids.safetensors, beside an encoder that may lie there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replace_file(folder / "centroids.safetensors") as aside:
            write_tensors(aside, {"centroids": self.values})
        if progress is not None:
            progress(self.nbytes)


def read_kmeans(path: str | Path) -> Centroids:
    """`cluster_centers_` of the pickled k-means.

    Raises CheckpointError if the file is missing, damaged, compressed, or no k-means.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the path")
    with path.open("rb") as file:
        if file.read(1) != b"\x80":
            raise CheckpointError(
                f"{path}: no plain pickle; if joblib compressed it, dump it again with compress=0"
            )
        file.seek(0)
        size = path.stat().st_size
        model = _JoblibUnpickler(file, where=str(path), size=size).load()
    state = model.state if isinstance(model, Stub) else None
    centres = state.get("cluster_centers_") if isinstance(state, dict) else None
    if isinstance(centres, Array):
        centres = centres.resolve()
    if not isinstance(centres, np.ndarray) or centres.ndim != 2 or not np.isfinite(centres).all():
        raise CheckpointError(f"{path}: no fitted k-means; its cluster_centers_ must be [K, D]")
    return Centroids(torch.from_numpy(centres.astype(np.float32, order="C")))
