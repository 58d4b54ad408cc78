"""The mini's model card: what it is made of, on which data, and what its parts measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_tools.manifest import Manifest
from omni.about import front_matter
from omni.files import is_hub_id
from train.parts import part_rows
from train.stages import mini_stage1, mini_stage2, mini_units

TEXT = """{front}# omni mini

A small model on real parts that hears a question and answers in text and in speech at once. This
folder holds what was trained for it and names the rest: a frozen Whisper encoder hears, and a
frozen Llama, with LoRA weights that lie here, answers.

## Use

```bash
omni fetch-bases mini                       # once: gets the two bases, and checks them
omni ask question.wav --checkpoint mini
```

| part | base | licence | digest |
|---|---|---|---|
{bases}

On other weights by these names it works and may answer worse; a warning says so.

**What it can't do.** It was trained on synthetic voices alone; that it understands people at all is
its encoder's doing. It knows what its small LLM knows, and says what it says with its faults. It
was trained to answer "I did not catch that." to sounds that are no speech and to other languages.

## Recipe and data

Made by `omni-train mini`; sizes, rates and seeds stand in `train/stages/recipes_mini.py`. Each
part's own validation:

| part | what it is | its own validation |
|---|---|---|
{parts}

Trained on {train} spoken dialogues by `omni-data mini`, from these texts:

| source | dialogues | licence of the texts |
|---|---|---|
{data}
"""


def rows() -> dict[str, tuple[str, str]]:
    """Part -> what it is, and its number."""
    stage1, stage2, units = mini_stage1(), mini_stage2(), mini_units()
    return {
        "align": ("speech adapter, CTC on the LLM's token embeddings", "eval_wer"),
        "stage1": (
            f"LoRA of rank {stage1.lora.rank} above the adapter ({stage1.adapter.stack} frames a "
            f"position, {stage1.adapter.hidden} wide), cross-entropy on the answer",
            "eval_loss",
        ),
        "units": (
            f"k-means, {units.clusters} clusters of encoder layer {units.layer}",
            "merged_units_per_second",
        ),
        "vocoder": ("NSF vocoder, by reconstruction", "eval_loss"),
        "stage2": (
            f"unit decoder {stage2.width} x {stage2.layers}, CTC",
            "eval_unit_error_rate",
        ),
    }


def model_card(manifest: Manifest, made: Mapping[str, Mapping[str, Any]]) -> str:
    """README.md of the checkpoint, in markdown; made: part -> what it came to."""
    trained = [record for record in manifest.records if record.split == "train"]
    sources: dict[tuple[str, str], int] = {}
    for record in trained:
        licence = record.provenance.get("licence", "").split(";")[0]
        key = (record.provenance.get("source", "not told"), licence)
        sources[key] = sources.get(key, 0) + 1
    bases = made["bases"]
    names = [base["base"] for base in bases.values() if is_hub_id(base["base"])]
    return TEXT.format(
        front=front_matter(speaks=True, license="apache-2.0", language="en", base_model=names),
        bases="\n".join(
            f"| {part.replace('_', ' ')} | {base['base']} | {base['licence']} | "
            f"{base['digest'][:12]} |"
            for part, base in bases.items()
        ),
        parts=part_rows(rows(), made),
        train=len(trained),
        data="\n".join(
            f"| {source} | {count} | {licence} |" for (source, licence), count in sources.items()
        ),
    )
