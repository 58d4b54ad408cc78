"""Speech -> units over a manifest: the answers' targets for the unit decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.manifest import Record, check_roles
from data_tools.steps import LeftOut, workers_on
from omni.audio import load_audio
from omni.devices import check_names, choose_device, choose_dtype
from omni.files import part_folder
from omni.frame_cache import weights_digest
from omni.units import UnitExtractor, merge_repeats


@dataclass(frozen=True, kw_only=True)
class UnitsStep:
    """Fills `units` of every spoken turn of `roles`.

    extractor: on the CPU, from where each worker takes it to `device`; dtype: of its encoder.
    Both are names that omni.devices knows.
    """

    extractor: UnitExtractor
    roles: tuple[str, ...] = ("assistant",)
    device: str = "cpu"
    dtype: str = "float32"
    name: str = "units"
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_roles(self.roles)

    @property
    def workers(self) -> int | None:
        """One per core on a CPU, else one: a GPU holds the encoder once."""
        return workers_on(self.device)

    def settings(self) -> dict[str, Any]:
        """Centroids by fingerprint and the encoder by its weights, roles and type; not where it
        computes."""
        return {
            "extractor": self.extractor.fingerprint,
            "encoder": weights_digest(self.extractor.encoder),
            "roles": list(self.roles),
            "dtype": self.dtype,
        }

    def size(self, record: Record, root: Path) -> float:
        """Bytes of audio, which says how long it lasts without opening it."""
        paths = [root / turn.speech for turn in record.turns if turn.speech]
        return float(sum(path.stat().st_size for path in paths if path.is_file()))

    def open(self, root: Path) -> UnitsWork:
        """A worker that has the encoder on the step's device."""
        return UnitsWork(self, root)


class UnitsWork:
    """One worker's extractor, on its device."""

    def __init__(self, step: UnitsStep, root: Path) -> None:
        self.step = step
        self.root = root
        device = choose_device(step.device)
        step.extractor.to(device, choose_dtype(step.dtype, device))

    def __call__(self, records: Sequence[Record]) -> list[Record | LeftOut]:
        """All recordings of the records as one padded batch, each clip once."""
        waveforms: dict[str, np.ndarray] = {}
        faults: dict[str, str] = {}
        for record in records:
            for turn in record.turns:
                path = turn.speech
                if turn.role in self.step.roles and path is not None and path not in waveforms:
                    try:
                        waveforms[path] = load_audio(self.root / path)
                    except ValueError as error:
                        faults[path] = str(error)
        # One by one within the batch size: a record of many turns must not fill the memory.
        units: dict[str, tuple[int, ...]] = {}
        paths = sorted(waveforms, key=lambda path: (len(waveforms[path]), path))
        for start in range(0, len(paths), self.step.batch_size):
            batch = paths[start : start + self.step.batch_size]
            try:
                found = self.step.extractor.extract_batch([waveforms[path] for path in batch])
                frames = dict(zip(batch, found, strict=True))
            except ValueError:  # one is too short or too long for the encoder: find out which
                frames = self.one_by_one(batch, waveforms, faults)
            units |= {path: tuple(merge_repeats(frames[path]).tolist()) for path in frames}
        return [self.labelled(record, units, faults) for record in records]

    def one_by_one(
        self, batch: Sequence[str], waveforms: dict[str, np.ndarray], faults: dict[str, str]
    ) -> dict[str, np.ndarray]:
        """[F] frame units of each recording that has some; `faults` takes the others' reasons."""
        found = {}
        for path in batch:
            try:
                found[path] = self.step.extractor.extract(waveforms[path])
            except ValueError as error:
                faults[path] = f"{path}: {error}"
        return found

    def labelled(
        self, record: Record, units: dict[str, tuple[int, ...]], faults: dict[str, str]
    ) -> Record | LeftOut:
        """The record with `units` of its turns; left out if one of them has a fault."""
        for turn in record.turns:
            if turn.role in self.step.roles and turn.speech in faults:
                return LeftOut(faults[turn.speech])
        turns = tuple(
            replace(turn, units=units[turn.speech])
            if turn.role in self.step.roles and turn.speech is not None
            else turn
            for turn in record.turns
        )
        return replace(record, turns=turns)

    def close(self) -> None:
        """Holds nothing that ends."""
        pass


def load_units_step(
    units: str | Path,
    *,
    encoder: str | Path | None = None,
    roles: tuple[str, ...] = ("assistant",),
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int = 16,
) -> UnitsStep:
    """units: a units folder, or a checkpoint that carries one, nano and mini by their names.
    encoder: the speech encoder whose features it is of; None takes that of the checkpoint, and
    HuBERTs are found by the name that the folder states."""
    from omni.checkpoint import load_speech_encoder, load_units

    check_names(device, dtype)  # before anything is loaded
    loaded = None if encoder is None else load_speech_encoder(str(encoder))
    extractor = load_units(part_folder(units, "units"), encoder=loaded)
    return UnitsStep(
        extractor=extractor, roles=roles, device=device, dtype=dtype, batch_size=batch_size
    )
