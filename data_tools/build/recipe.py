"""The whole way as one command: a recipe names a source and the steps from it to a data set.

OUT/records.jsonl         the data set (or records.parquet)
OUT/records.left_out.jsonl  what has no place in it, and why; absent if nothing was left out
OUT/audio/                recordings
OUT/.steps/               a journal per step: what it has made so far, by content

Run again after a kill, or with another setting, it does what is new and no more; the files of a
run that was killed are those of one that was not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from data_tools.check import CheckConfig
from data_tools.manifest import Record, write_manifest
from data_tools.sources import SplitStep, counts, hold_out
from data_tools.speech import AugmentConfig, AugmentStep, ClipRules, SpeakStep, speaker_of
from data_tools.steps import Executor, Step, run_step, write_left_out
from omni.files import UserError, build_strictly, open_text


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """read: source and the options of `readers.ImportConfig`. steps: [{step: options}, ...], in
    order. Paths start from the recipe's folder.

    manifest: file name of the data set in `out`. check: options of `check`, or None to go without.
    """

    read: dict[str, Any]
    steps: tuple[dict[str, Any], ...]
    out: str
    manifest: str = "records.jsonl"
    seed: int = 0
    workers: int | None = None
    max_left_out: float = 0.05
    check: dict[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Built:
    """splits: how many records each has, as text. made: step -> records that were new in this run.
    left_out: step -> id -> reason."""

    manifest: Path
    records: int
    splits: str
    made: dict[str, int]
    left_out: dict[str, dict[str, str]]


Options = dict[str, Any]


def read_recipe(path: str | Path) -> Recipe:
    """Raises UserError for what is missing, unknown or no YAML."""
    path = Path(path)
    try:
        with open_text(path) as file:
            values: Any = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({error}); mend the line") from None
    if isinstance(values, dict):  # what may be written shorter
        if isinstance(read := values.get("read"), str):
            values["read"] = {"source": read}
        if isinstance(steps := values.get("steps"), list):
            values["steps"] = [{entry: {}} if isinstance(entry, str) else entry for entry in steps]
    recipe = build_strictly(Recipe, values, where=str(path), remedy="see docs/data.md")
    for entry in recipe.steps:
        if len(entry) != 1:
            raise UserError(f"{path}: step {entry!r}: write one NAME: {{option: value}} each")
    return recipe


def build(path: str | Path, executor: Executor | None = None) -> Built:
    """Goes the whole way, or the rest of it. Raises UserError that names the step and the cause.

    executor: who does the work, this machine if it isn't said; it changes nothing in the data set.
    """
    path = Path(path)
    recipe = read_recipe(path)
    out = path.parent / recipe.out
    steps = [step_of(entry, recipe, path.parent) for entry in recipe.steps]
    records = read_source(recipe.read, path.parent, out)
    made: dict[str, int] = {}
    left_out: dict[str, dict[str, str]] = {}
    for number, step in enumerate(steps, start=1):
        name = f"{number}-{step.name}"
        result = run_step(
            records,
            step,
            root=out,
            journal=out / ".steps" / f"{name}.jsonl",
            workers=recipe.workers,
            max_left_out=recipe.max_left_out,
            executor=executor,
        )
        made[name] = result.made
        # Of few questions, a split may have got none.
        records = hold_out(records, step) if isinstance(step, SplitStep) else result.records
        if result.left_out:
            left_out[name] = result.left_out
    manifest = out / recipe.manifest
    write_left_out(manifest, left_out)
    write_manifest(manifest, records)
    return Built(
        manifest=manifest,
        records=len(records),
        splits=counts(records),
        made=made,
        left_out=left_out,
    )


def read_source(options: Options, folder: Path, out: Path) -> list[Record]:
    """The records that the recipe starts from; recordings beside the recipe get relative paths."""
    from data_tools.sources import HUB, ImportConfig, import_records

    options = dict(options)
    source = str(options.pop("source", ""))
    if not source:
        raise UserError("read: needs source, a file, a folder of recordings, or hub:OWNER/NAME")
    try:
        config = ImportConfig(audio_folder=out / "audio/source", **options)
    except TypeError as error:
        raise UserError(f"read: {error}; see its options in docs/data.md") from None
    out.mkdir(parents=True, exist_ok=True)
    imported = import_records(
        source if source.startswith(HUB) else str((folder / source).resolve()), config
    )
    return [relative(record, folder.resolve(), out.resolve()) for record in imported.records]


def relative(record: Record, folder: Path, out: Path) -> Record:
    """Recordings within `folder` by their path from `out`, so that both can move together."""
    turns = tuple(
        replace(turn, speech=os.path.relpath(turn.speech, out))
        if turn.speech and Path(turn.speech).is_relative_to(folder)
        else turn
        for turn in record.turns
    )
    return replace(record, turns=turns)


def step_of(entry: Options, recipe: Recipe, folder: Path) -> Step:
    """A recipe's entry {name: options} as a step. Raises UserError for what it does not know."""
    ((name, options),) = entry.items()
    if name not in STEPS:
        raise UserError(f"step {name!r}: must be one of {', '.join(STEPS)}")
    try:
        return STEPS[name](dict(options or {}), recipe.seed, folder)
    except TypeError as error:
        raise UserError(f"step {name}: {error}; see its options in docs/data.md") from None


def speak_step(options: Options, seed: int, folder: Path) -> SpeakStep:
    """`speak`: question and answer are speakers, rules the options of `ClipRules`."""
    for role in ("question", "answer"):
        if role in options:
            options[role] = speaker_of(options[role])
    if "rules" in options:
        options["rules"] = build_strictly(ClipRules, options["rules"], where="step speak: rules")
    if "roles" in options:
        options["roles"] = tuple(options["roles"])
    options.setdefault("seed", seed)
    return SpeakStep(**options)


def augment_step(options: Options, seed: int, folder: Path) -> AugmentStep:
    """`augment`: seed, epoch and splits, and the options of `AugmentConfig`."""
    own = {name: options.pop(name) for name in ("seed", "epoch", "splits") if name in options}
    config = build_strictly(AugmentConfig, options, where="step augment")
    return build_strictly(AugmentStep, {"config": config, "seed": seed} | own, where="step augment")


def units_step(options: Options, seed: int, folder: Path) -> Step:
    """`units`: units and encoder may be folders beside the recipe."""
    from data_tools.encode import load_units_step

    for name in ("units", "encoder"):
        if name in options and (folder / options[name]).exists():
            options[name] = folder / options[name]
    return load_units_step(**pairs(options))


def split_step(options: Options, seed: int, folder: Path) -> SplitStep:
    """`split`: rest and seed, and {split: share} for all that is left of the options."""
    own = {name: options.pop(name) for name in ("rest", "seed") if name in options}
    own.setdefault("seed", seed)
    return SplitStep(shares=options, **own)


def pairs(options: Options) -> Options:
    """Lists as tuples, which is what the configurations hold."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }


def rewrite_step(options: Options, seed: int, folder: Path) -> Step:
    """`rewrite`: see `written`."""
    from data_tools.writers import RewriteStep

    return RewriteStep(**written(options, seed, folder))


def respond_step(options: Options, seed: int, folder: Path) -> Step:
    """`respond`: see `written`."""
    from data_tools.writers import RespondStep

    return RespondStep(**written(options, seed, folder))


def written(options: Options, seed: int, folder: Path) -> Options:
    """writer: a mapping with kind and its options. prompt: a file beside the recipe."""
    from data_tools.writers import read_prompt, writer_config

    writer: Options = dict(options.pop("writer", {}))
    if writer.get("kind", "rules") == "rules":
        writer.setdefault("seed", seed)
    if "prompt" in options:
        options["prompt"] = read_prompt(folder / options["prompt"])
    return {"writer": writer_config(**writer), **options}


STEPS: dict[str, Callable[[Options, int, Path], Step]] = {
    "rewrite": rewrite_step,
    "respond": respond_step,
    "split": split_step,
    "speak": speak_step,
    "augment": augment_step,
    "units": units_step,
}


def check_config(options: Options) -> tuple[CheckConfig, Callable[[str], int] | None]:
    """A recipe's or command's options of `check`; tokenizer: folder or hub id, to count by."""
    options = {name: value for name, value in options.items() if value is not None}
    tokenizer = options.pop("tokenizer", None)
    config = build_strictly(CheckConfig, options, where="check")
    return config, None if tokenizer is None else token_counter(tokenizer)


def token_counter(tokenizer: str) -> Callable[[str], int]:
    """Counts the tokens of a text; tokenizer: folder or hub id."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    return lambda text: len(loaded.encode(text, add_special_tokens=False))
