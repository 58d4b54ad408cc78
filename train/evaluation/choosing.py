"""Which ear judges: Whisper, by the package that can read its weights, or pocketsphinx.

Nothing is downloaded but a hub id that the user has named.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_tools.manifest import Manifest
from omni.files import (
    CheckpointError,
    UserError,
    fetch,
    files_digest,
    is_hub_id,
    local_path,
    need,
    on_this_machine,
    read_json,
)
from train.evaluation.judges import POCKETSPHINX, Ear
from train.evaluation.whispers import FasterWhisper, OpenaiWhisper, TransformersWhisper

log = logging.getLogger(__name__)

AUTO = "auto"
DEFAULT = "base"  # of Whisper's sizes the smallest that hears clear speech almost without error
WEIGHTS = ("*.bin", "*.safetensors", "*.pt")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A package that runs Whisper. make: a recogniser from what `reads` describes. hub: where its
    weights lie, by size; None for openai-whisper's own cache."""

    package: str
    reads: str
    make: Callable[..., Any]
    hub: str | None = None

    @property
    def installed(self) -> bool:
        """Whether it can be imported."""
        return importlib.util.find_spec(self.package) is not None


ENGINES = {
    "faster-whisper": Engine(
        package="faster_whisper",
        reads="a folder of CTranslate2",
        make=FasterWhisper,
        hub="Systran/faster-whisper-{size}",
    ),
    "openai-whisper": Engine(
        package="whisper", reads="openai-whisper's .pt file", make=OpenaiWhisper
    ),
    "transformers": Engine(
        package="transformers",
        reads="a folder of transformers",
        make=TransformersWhisper,
        hub="openai/whisper-{size}",
    ),
}


def choose_ear(
    judge: str = AUTO,
    *,
    engine: str = AUTO,
    language: str = "en",
    device: torch.device | None = None,
) -> Ear:
    """The judge of a name.

    judge: "pocketsphinx"; a size of Whisper's ("base", "tiny.en") whose weights lie on this
    machine; a folder, a .pt file or a hub id, which is downloaded if need be; "auto" is Whisper
    base where its weights are here, else pocketsphinx. engine: one of ENGINES, or "auto" for one
    that is installed and reads those weights. language: a code of Whisper's.
    Raises UserError if there is no such judge here.
    """
    if engine not in (AUTO, *ENGINES):
        raise UserError(f"judge engine {engine!r}: must be {AUTO} or one of {', '.join(ENGINES)}")
    if judge == POCKETSPHINX.name:
        return POCKETSPHINX
    if judge == AUTO:
        try:
            return choose_ear(DEFAULT, engine=engine, language=language, device=device)
        except UserError as error:
            if engine != AUTO:
                raise
            log.info("%s; pocketsphinx judges instead", error)
            return POCKETSPHINX
    is_path = local_path(judge).exists()
    if is_path or is_hub_id(judge):
        where = whole(judge)
        kind = engine_of(where)
        if engine not in (AUTO, kind):
            raise UserError(
                f"judge {judge}: is {ENGINES[kind].reads}, which {engine} can't read; leave the "
                f"engine out, or give {ENGINES[engine].reads}"
            )
    else:
        kind, where = of_size(judge, engine)
    _require(kind)
    made = ENGINES[kind].make
    place = torch.device("cpu") if device is None else device
    return Ear(
        make=lambda _: made(where, language=language, device=place),
        name=f"Whisper {where.name if is_path else judge} by {kind}",
        normaliser="whisper-en" if language == "en" else "basic",
        weights=files_digest(weights_in(where)),
    )


def common_language(manifest: Manifest) -> str:
    """The code, without a country, in which most of the manifest is said."""
    counted = Counter(record.language.partition("-")[0] for record in manifest.records)
    return counted.most_common(1)[0][0] if counted else "en"


def whole(name: str) -> Path:
    """A path, or a hub id with its decoder: what `omni fetch-bases` puts by is the encoder alone.

    Raises CheckpointError if the hub does not give it.
    """
    here = on_this_machine(name)
    if here is not None and (local_path(name).exists() or not encoder_alone(here)):
        return here
    return fetch(name, revision="main")  # the hub's own


def of_size(size: str, engine: str) -> tuple[str, Path]:
    """(engine, weights) of one of Whisper's sizes on this machine. Raises UserError for none."""
    wanted = ENGINES if engine == AUTO else {engine: ENGINES[engine]}
    for kind, known in wanted.items():
        if engine != AUTO:
            _require(kind)
        where = put_by(size, known) if known.installed else None
        if where is not None:
            return kind, where
    ids = [known.hub.format(size=size) for known in wanted.values() if known.hub]
    raise UserError(
        f"judge {size!r}: no such file or folder, and no weights of that size on this machine for "
        f"{' or '.join(wanted)}; give a folder, or a hub id ({' or '.join(ids) or 'OWNER/NAME'}), "
        "which is downloaded"
    )


def put_by(size: str, engine: Engine) -> Path | None:
    """The weights of a size where the engine's package, or the user, has put them."""
    if engine.hub is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        file = cache / "whisper" / f"{size}.pt"
        return file if file.is_file() else None
    name = engine.hub.format(size=size)
    here = on_this_machine(name)
    if here is not None and not encoder_alone(here):
        return here
    try:
        found = fetch(name, revision="main", local_files_only=True)
    except CheckpointError:
        return None
    return found if weights_in(found) else None


def engine_of(where: Path) -> str:
    """The engine that reads a file or folder. Raises UserError if it is no whole Whisper."""
    if where.is_file() and where.suffix == ".pt":
        return "openai-whisper"
    if (where / "model.bin").is_file():
        return "faster-whisper"
    if (where / "config.json").is_file() and weights_in(where):
        if encoder_alone(where):
            raise UserError(
                f"{where}: is a Whisper encoder alone; a judge needs the decoder and the tokenizer "
                "too: give a whole Whisper"
            )
        return "transformers"
    kinds = ", ".join(engine.reads for engine in ENGINES.values())
    raise UserError(f"{where}: no Whisper; a judge is one of: {kinds}")


def encoder_alone(folder: Path) -> bool:
    """Whether a folder holds the encoder of a Whisper and nothing to write words with."""
    config = folder / "config.json"
    return config.is_file() and read_json(config).get("architectures") == ["WhisperEncoder"]


def weights_in(where: Path) -> list[Path]:
    """The files of weights, in order."""
    if where.is_file():
        return [where]
    return [file for kind in WEIGHTS for file in sorted(where.glob(kind))]


def _require(kind: str) -> None:
    """Raises UserError, with the pip command, unless the engine is installed."""
    if kind == "faster-whisper":
        need("faster_whisper", "judge", "a Whisper judge by faster-whisper")
    elif kind == "openai-whisper":
        need("whisper", "whisper", "a Whisper judge by openai-whisper")
