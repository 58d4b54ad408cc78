"""The nano's model card: the numbers that its own evaluation measured, against its gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omni.about import front_matter
from train.evaluation import difference, table_head, table_rows
from train.nano.measuring import KNOWN, NOT_ENGLISH, REFUSE, WIDE
from train.parts import part_rows
from train.stages import nano_units

UNITS = nano_units()

TEXT = """{front}# omni nano

A speech-in, speech-out model small enough to be embedded: it hears a question, answers in text and
in speech at once. It shows that every part of the pipeline works on two CPU cores.

**What it can't do.** It was trained on synthetic voices (flite, festival, espeak-ng) in a closed
domain of a few hundred facts: capitals, continents, opposites, animals, colours, days and months,
counting, sums and differences of numbers up to ten, spelling, units, definitions, jokes and a few
follow-up questions. It knows nothing else. It was also trained to refuse sounds that are no speech,
other languages, and questions that nobody could answer; how well it does is measured below. Human
voices were not trained on, and are understood far less often: docs/benchmarks.md of the project has
a measurement. All its answers stand in its training data, in other questions' words; follow-ups
work for the pairs of questions that it was trained on.

## Recipe and data

Made by the parts of `make nano`, on two CPU cores, from data that it speaks itself; no pretrained
weights went into it. Sizes, rates and seeds stand in `train/stages/recipes.py`.

| part | what it is | its own validation |
|---|---|---|
{parts}

## Measured

`omni-train evaluate`, greedy. An answer is right if its words equal the reference.

**Free wordings**: questions of the domain from templates that were held out whole,
{wide_questions} in each voice. `test_wide` is asked by the voices of training, the others by voices
that training never heard.

{wide}

In writing: {wide_written} right.

**Known phrasings**: template and fact were both trained on, only not together; {questions} in each
voice. "Heard" is the judge's ear, told the domain's sentences (domain) or not (full), on
{sentences} sentences a split, normaliser "basic"; the text is what the model itself said, for the
teacher and the vocoder the reference.

{known}

In writing: {known_written} right.

**To be refused**: `test_unknown` are questions that nobody could answer, `test_refuse` sounds and
other languages, some of kinds that were not trained on.

{refuse}

{more}

## Gates

| gate | measured | |
|---|---|---|
{gates}

Right answers by skill, free wordings ({wide_splits}): {skills}.
"""

ROWS = {
    "lm": ("Llama 256 x 4, byte-pair vocabulary of 1,024, on the dialogues as text", "eval_exact"),
    "letters": ("the encoder's first round, clean and then augmented", "eval_cer"),
    "encoder": ("Whisper encoder 256 x 4, attention in blocks, CTC on letters", "eval_cer"),
    "units": (
        f"k-means, {UNITS.clusters} clusters of encoder layer {UNITS.layer}",
        "merged_units_per_second",
    ),
    "vocoder": (
        "NSF vocoder, 2.8 M parameters, 80 ms of right context, by reconstruction",
        "eval_loss",
    ),
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


def gates(report: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]]) -> list[Gate]:
    """What the nano is held to, with what was measured; made: each part's own validation."""
    known, wide, refuse = (report[name] for name in (KNOWN, WIDE, REFUSE))
    seen, *unseen = known["splits"].items()
    found = [Gate("free wordings in writing, right", wide["text_in_right"], low=0.85)]
    for split, row in list(wide["splits"].items())[1:]:
        found.append(
            Gate(f"free wordings, a voice never heard ({split}), right", row["right"], 0.7)
        )
    found += [
        # Every answer to these is the same, so that what is right is a refusal.
        Gate(
            "sounds and other languages refused", refuse["splits"][NOT_ENGLISH]["right"], low=0.90
        ),
        *(
            Gate(f"questions refused ({split})", row.get("questions_refused"), high=0.03)
            for split, row in (known["splits"] | wide["splits"]).items()
        ),
        Gate("known phrasings, voices of training, right", seen[1]["right"], low=0.90),
        *(
            Gate(f"known phrasings, a voice never heard ({split}), right", row["right"], low=0.75)
            for split, row in unseen
        ),
        Gate("known phrasings in writing, right", known["text_in_right"], low=0.95),
        Gate("size in MB", made.get("checkpoint", {}).get("megabytes"), high=40, share=False),
    ]
    return [*found, *sound_gates(known, seen[1].get("speech"))]


def sound_gates(report: Mapping[str, Any], speech: Mapping[str, Any] | None) -> list[Gate]:
    """Of how it sounds and how soon."""
    if speech is None:
        return []
    found: list[Gate] = []
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


def table(report: Mapping[str, Any]) -> str:
    """The report's numbers in markdown, a column for each split and their spread."""
    columns = table_head(report)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in table_rows(report)]
    return "\n".join(lines)


def model_card(report: Mapping[str, Any], validation: Mapping[str, Mapping[str, Any]]) -> str:
    """README.md of the checkpoint, in markdown.

    report: of `measure`; validation: each part's own numbers.
    """
    known, wide, refuse = (report[name] for name in (KNOWN, WIDE, REFUSE))
    more = []
    for chunks, timing in known.get("timing", {}).items():
        first, late = timing["first_audio_ms_median"], timing["first_audio_ms_p95"]
        more.append(
            f"- Chunks of {chunks} units: first audio after {first:.0f} ms (median), {late:.0f} ms "
            f"(95 %), real-time factor {timing['real_time_factor_median']:.2f}; "
            f"{known['threads']} CPU threads, load average {known['load_average']:.1f}."
        )
    first_known, first_wide = (next(iter(part["splits"].values())) for part in (known, wide))
    by_skill = [row["right_by_skill"] for row in wide["splits"].values()]
    skills = ", ".join(
        f"{skill.replace('_', ' ')} "
        + " / ".join(f"{100 * right[skill]:.0f}" for right in by_skill)
        for skill in first_wide["right_by_skill"]
    )
    return TEXT.format(
        front=front_matter(speaks=True, license="apache-2.0", language="en"),
        parts=part_rows(ROWS, validation),
        wide_questions=first_wide["questions"],
        wide=table(wide),
        wide_written=f"{wide['text_in_right']:.1%}",
        wide_splits=", ".join(wide["splits"]),
        questions=first_known["questions"],
        sentences=first_known.get("speech", {}).get("sentences", 0),
        known=table(known),
        known_written=f"{known['text_in_right']:.1%}",
        refuse=table(refuse),
        more="\n".join(more),
        gates="\n".join(gate.row() for gate in gates(report, validation)),
        skills=skills,
    )
