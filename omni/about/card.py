"""A checkpoint's model card: README.md with the metadata that the hub reads, told from its files.

A card that this program wrote is written anew at each saving. One that a person wrote or changed
is not: the last line of ours has a digest of the lines above.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard_data import ModelCardData

from omni.about.parts import CheckpointInfo, PartInfo, describe
from omni.config import OmniConfig
from omni.files import hub_name, write_text

NAME = "README.md"
INHERITED = ("license", "license_name", "license_link", "language", "base_model")
_MADE = {"library_name", "pipeline_tag"}  # what a checkpoint's own files decide
_FRONT = re.compile(r"\A---\s*\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
_SEAL = re.compile(r"<!-- written by omni ([0-9a-f]{16}); once changed, it is kept -->\n\Z")
_PATH = re.compile(r"(?<!\S)(?:~|\.{1,2})?/\S+")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

TEXT = """
# {title}

{what}

| part | what it is | parameters | weights | trained in |
|---|---|---|---|---|
{parts}

- Units: {units}
- Chunks of units per piece of speech: {schedule}

## Use

```python
import omni

model, processor = omni.load("{title}")
```

In a terminal: `omni ask question.wav --checkpoint {title}`. `docs/transformers.md` of the project
has the calls of transformers.

## Not told here

This card holds what the checkpoint's own files say. On which data it was trained, for whom it is
meant, and how well it hears and answers, they do not say: `omni-train evaluate` measures it. Add
that here; a card that you have changed is kept as it is.
"""
WHAT = {
    True: "It hears a question and answers in text and in speech at once.",
    False: "It hears a question and answers in text. It has no voice yet: stage 2 trains one.",
}


def write_card(
    folder: Path,
    *,
    title: str,
    bases: Iterable[str] = (),
    earlier: Path | None = None,
    inherited: Path | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the card of a complete checkpoint folder; a card that a person wrote is left alone.

    title: the name to call it by. bases: what it was made from, beside the bases that config.json
    names; of these, hub ids are told.
    earlier: a folder with a card of the same checkpoint, whose metadata are kept. inherited: one
    of the checkpoint that it was made from, whose licence, language and bases still hold.
    metadata: more of it, in the hub's words (license, datasets, language, tags, ...).
    """
    path = folder / NAME
    if path.is_file() and not is_generated(path):
        return
    old = {key: value for key, value in card_metadata(inherited).items() if key in INHERITED}
    for place in (earlier, folder):
        old |= {k: v for k, v in card_metadata(place).items() if k != "base_model"}
    old |= metadata or {}
    info = describe(folder)
    bases = [*OmniConfig.from_pretrained(folder).bases.values(), *bases]
    found = [name for base in bases if _HUB_ID.fullmatch(name := hub_name(base))]
    found = [name for name in found if not Path(name).exists()]
    if base_model := list(dict.fromkeys([*_listed(old.pop("base_model", None)), *found])):
        old["base_model"] = base_model
    speaks = any(stage.name == "unit_decoder" for stage in info.parts)
    write_text(path, seal(front_matter(speaks=speaks, **old) + _body(info, title, speaks)))


def front_matter(*, speaks: bool, **metadata: Any) -> str:
    """The YAML that the hub reads at the top of a card, between its two rules.

    speaks: whether the model has a unit decoder. metadata: license, language, base_model, ...
    """
    known = {key: value for key, value in metadata.items() if key not in _MADE}
    tags = ["omni", "speech-to-speech" if speaks else "speech-to-text"]
    stale = {"speech-to-speech", "speech-to-text"}
    tags += [tag for tag in _listed(known.pop("tags", None)) if tag not in {*tags, *stale}]
    data = ModelCardData(
        library_name="transformers",
        # What transformers' pipelines call what goes in and what comes out.
        pipeline_tag="any-to-any" if speaks else "audio-text-to-text",
        tags=tags,
        ignore_metadata_errors=True,
        **known,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def seal(text: str) -> str:
    """The text with the line by which `is_generated` knows it."""
    return f"{text}<!-- written by omni {_digest(text)}; once changed, it is kept -->\n"


def is_generated(card: Path) -> bool:
    """Whether a card is as this program wrote it: no person has changed a letter."""
    text = _read(card)
    found = _SEAL.search(text)
    return found is not None and found[1] == _digest(text[: found.start()])


def card_metadata(folder: Path | None) -> dict[str, Any]:
    """What the card in a folder tells the hub; nothing where there is none that can be read."""
    path = None if folder is None else folder / NAME
    if path is None or not path.is_file():
        return {}
    front = _FRONT.match(_read(path))
    try:
        values = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        return {}
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def _body(info: CheckpointInfo, title: str, speaks: bool) -> str:
    config = OmniConfig.from_pretrained(info.folder)
    parts = "\n".join(_row(stage, config.bases) for stage in info.parts)
    return TEXT.format(
        title=title, what=WHAT[speaks], parts=parts, schedule=info.schedule,
        units=_public(info.units, config.bases),
    )  # fmt: skip


def _row(stage: PartInfo, bases: Mapping[str, str]) -> str:
    return (
        f"| {stage.name} | {stage.shape} | {stage.parameters:,} | "
        f"{_public(stage.source, bases)} | {stage.trained} |"
    )


def _public(text: str, bases: Mapping[str, str]) -> str:
    """Without the folders of the machine that it was made on."""
    for base in bases.values():
        if not _HUB_ID.fullmatch(hub_name(base)):
            text = text.replace(base, Path(base).name)
    return _PATH.sub(lambda found: Path(found[0]).name, text)


def _read(card: Path) -> str:
    return card.read_text(encoding="utf-8", errors="replace")


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
