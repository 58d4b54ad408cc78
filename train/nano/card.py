"""The nano's model card: the numbers that its own evaluation measured, against its gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omni.about import front_matter
from train.evaluation import difference, table_rows
from train.stages import nano_units

UNITS = nano_units()
SEEN, UNSEEN = "test_seen", "test_unseen"

TEXT = """{front}# omni nano

A speech-in, speech-out model small enough to be embedded: it hears a question, answers in text and
in speech at once. It shows that every part of the pipeline works on two CPU cores.

**What it can't do.** It was trained on synthetic voices (flite, festival, espeak-ng) in a closed
domain of a few hundred facts: capitals, continents, opposites, animals, colours, days and months,
counting, sums and differences of numbers up to ten, spelling, units, definitions, jokes and a few
follow-up questions. It knows nothing else and answers anything else wrongly. Human voices were not
trained on, and are understood far less often: docs/benchmarks.md of the project has a measurement.
All its answers stand in its training data, in other questions' words; follow-ups work for the pairs
of questions that it was trained on.

## Recipe and data

Made by the parts of `make nano`, on two CPU cores, from data that it speaks itself; no pretrained
weights went into it. Sizes, rates and seeds stand in `train/stages/recipes.py`.

| part | what it is | its own validation |
|---|---|---|
{parts}

## Measured

`omni-train evaluate`, greedy, on phrasings that were held out: {questions} questions a split,
`test_seen` by the voices of training, `test_unseen` by flite's rms, a voice never heard. An answer
is right if its words equal the reference. "Heard" is pocketsphinx, with a bigram of the domain's
sentences (domain) or with its own model (full), on {sentences} sentences a split, normaliser
"basic"; the text is what the model itself said, for the teacher and the vocoder the reference.

{table}

{more}

## Gates

| gate | measured | |
|---|---|---|
{gates}

Right answers by skill (seen, unseen): {skills}.
"""

PARTS = {
    "lm": ("Llama 256 x 4, byte-pair vocabulary of 1,024, on the dialogues as text", "eval_exact"),
    "encoder": ("Whisper encoder 256 x 4, CTC on letters", "eval_cer"),
    "units": (
        f"k-means, {UNITS.clusters} clusters of encoder layer {UNITS.layer}",
        "merged_units_per_second",
    ),
    "vocoder": ("NSF vocoder, 2.8 M parameters, by reconstruction", "eval_loss"),
    "stage1": ("adapter and LLM, cross-entropy on the answer", "eval_exact"),
    "stage2": ("unit decoder 256 x 2, CTC", "eval_unit_error_rate"),
}


@dataclass(frozen=True)
class Gate:
    """One promise: `low` or `high` bounds a number of the report; a `share` is shown in percent."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    share: bool = True

    def row(self) -> str:
        """A line of the card's table."""

        def shown(number: float) -> str:
            return f"{100 * number:.1f} %" if self.share else f"{number:.2f}"

        if self.value is None:
            return f"| {self.name} | not measured | |"
        bounds = [] if self.low is None else [f"at least {shown(self.low)}"]
        bounds += [] if self.high is None else [f"at most {shown(self.high)}"]
        kept = (self.low is None or self.value >= self.low) and (
            self.high is None or self.value <= self.high
        )
        verdict = "met" if kept else "**missed**"
        return f"| {self.name}: {' and '.join(bounds)} | {shown(self.value)} | {verdict} |"


def gates(report: Mapping[str, Any]) -> list[Gate]:
    """What the nano is held to, with what was measured."""
    seen, unseen = report["splits"][SEEN], report["splits"][UNSEEN]
    found = [
        Gate("right answers, voices of training", seen["right"], low=0.90),
        Gate("right answers, a voice never heard", unseen["right"], low=0.75),
        Gate("right answers to written questions", report["text_in_right"], low=0.95),
    ]
    speech = seen.get("speech")
    if speech is None:
        return found
    domain, full = speech["wer_domain"], speech["wer_full"]
    for chunks in report["timing"]:
        over = difference(domain.get(chunks), domain["teacher"])
        found.append(Gate(f"word errors above the teacher's, chunks of {chunks}", over, high=0.05))
    revoiced = difference(domain["vocoder"], domain["teacher"])
    found.append(Gate("vocoder alone, word errors above natural (domain)", revoiced, high=0.03))
    revoiced = difference(full["vocoder"], full["teacher"])
    found.append(Gate("vocoder alone, word errors above natural (full)", revoiced, high=0.08))
    mos = speech["dnsmos"]
    duller = difference(mos.get("vocoder"), mos.get("teacher"))
    found.append(Gate("vocoder alone, DNSMOS above natural", duller, low=-0.4, share=False))
    length = speech["duration_ratio"]
    found.append(Gate("length of the speech, teacher = 1", length, 0.7, 1.4, share=False))
    for chunks, timing in report["timing"].items():
        factor = timing.get("real_time_factor_median")
        found.append(Gate(f"real-time factor, chunks of {chunks}", factor, high=0.5, share=False))
        first = timing.get("first_audio_ms_median")
        seconds = None if first is None else first / 1000
        found.append(Gate(f"first audio in s, chunks of {chunks}", seconds, high=0.5, share=False))
    return found


def model_card(report: Mapping[str, Any], validation: Mapping[str, Mapping[str, Any]]) -> str:
    """README.md of the checkpoint, in markdown; validation: each part's own numbers."""
    splits = list(report["splits"])
    lines = ["| | " + " | ".join(splits) + " |", "|---" * (len(splits) + 1) + "|"]
    lines += ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in table_rows(report)]
    more = [f"- The same questions in writing: {report['text_in_right']:.1%} right."]
    for chunks, timing in report.get("timing", {}).items():
        first, late = timing["first_audio_ms_median"], timing["first_audio_ms_p95"]
        more.append(
            f"- Chunks of {chunks} units: first audio after {first:.0f} ms (median), {late:.0f} ms "
            f"(95 %), real-time factor {timing['real_time_factor_median']:.2f}; "
            f"{report['threads']} CPU threads, load average {report['load_average']:.1f}."
        )
    parts = [
        f"| {name} | {what} | {metric.removeprefix('eval_').replace('_', ' ')} "
        f"{validation[name][metric]:.3f} |"
        for name, (what, metric) in PARTS.items()
        if metric in validation.get(name, {})
    ]
    seen, unseen = report["splits"][SEEN], report["splits"][UNSEEN]
    skills = ", ".join(
        f"{skill.replace('_', ' ')} {100 * right:.0f} / {100 * unseen['right_by_skill'][skill]:.0f}"
        for skill, right in seen["right_by_skill"].items()
    )
    return TEXT.format(
        front=front_matter(speaks=True, license="apache-2.0", language="en"),
        parts="\n".join(parts),
        questions=seen["questions"],
        sentences=seen.get("speech", {}).get("sentences", 0),
        table="\n".join(lines),
        more="\n".join(more),
        gates="\n".join(gate.row() for gate in gates(report)),
        skills=skills,
    )
