"""Is this data set fit to train on? Every rule of `findings`, counted against what is tolerated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from data_tools.check.findings import RULES, Finding
from data_tools.check.speech import (
    CheckedClip,
    at_least_tokens,
    letters_per_s,
    measure_clips,
    speech_findings,
    spoken_turns,
    unit_findings,
)
from data_tools.check.text import text_findings
from data_tools.manifest import Manifest, Record
from data_tools.speech import ClipRules
from data_tools.steps import Executor
from omni.files import UserError

UPSAMPLE = 25  # steps per token in LLaMA-Omni's unit decoder


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """upsample: of the unit decoder. tolerated: share of records that may break a "limit" rule.

    sample: listen to so many recordings, drawn by seed; None listens to all.
    """

    upsample: int = UPSAMPLE
    max_question_s: float = 30.0
    tolerated: float = 0.01
    sample: int | None = None
    seed: int = 0
    rules: ClipRules = field(default_factory=ClipRules)

    def __post_init__(self) -> None:
        if self.upsample < 1:
            raise UserError(f"upsample={self.upsample}: must be at least 1; LLaMA-Omni has 25")
        if not 0 <= self.tolerated <= 1:
            raise UserError(f"tolerated={self.tolerated}: is a share, from 0 to 1")
        if self.sample is not None and self.sample < 1:
            raise UserError(f"sample={self.sample}: must be at least 1; leave it out for all")


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """records: how many break the rule; allowed: how many may; worst: its findings, worst first."""

    rule: str
    records: int
    allowed: int | None  # None: a note, however many there are
    worst: list[Finding]

    @property
    def passed(self) -> bool:
        """Whether no more records broke the rule than it allows."""
        return self.allowed is None or self.records <= self.allowed


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found. hours: of sound, by split and role; shared recordings count once per split.

    distributions: name with unit -> values, for the histograms.
    """

    manifest: Manifest
    config: CheckConfig
    exact_tokens: bool  # counted by a tokenizer, not estimated
    clips: dict[str, CheckedClip]
    splits: dict[str, int]
    hours: dict[str, dict[str, float]]
    distributions: dict[str, list[float]]
    results: list[RuleResult]

    @property
    def fit(self) -> bool:
        """Whether training on it makes sense."""
        return bool(self.manifest.records) and all(result.passed for result in self.results)


def check_manifest(
    manifest: Manifest,
    config: CheckConfig | None = None,
    *,
    count_tokens: Callable[[str], int] | None = None,
    executor: Executor | None = None,
) -> Check:
    """count_tokens: of the language model's tokenizer; without, a lower bound serves. executor: who
    listens; this machine if it isn't said."""
    config = config or CheckConfig()
    records = manifest.records
    clips = measure_clips(manifest, sample=config.sample, seed=config.seed, executor=executor)
    findings = [
        *text_findings(records),
        *speech_findings(records, clips, rules=config.rules, max_question_s=config.max_question_s),
        *unit_findings(
            records,
            clips,
            upsample=config.upsample,
            count_tokens=count_tokens or at_least_tokens,
        ),
    ]
    splits: dict[str, int] = defaultdict(int)
    for record in records:
        splits[record.split] += 1
    return Check(
        manifest=manifest,
        config=config,
        exact_tokens=count_tokens is not None,
        clips=clips,
        splits=dict(splits),
        hours=hours(records, clips),
        distributions=distributions(records, clips, count_tokens or at_least_tokens),
        results=rule_results(findings, len(records), config.tolerated),
    )


def rule_results(findings: Sequence[Finding], records: int, tolerated: float) -> list[RuleResult]:
    """One per rule, in the order of RULES, those that nothing breaks included."""
    by_rule: dict[str, list[Finding]] = {name: [] for name in RULES}
    for finding in findings:
        by_rule[finding.rule].append(finding)
    allowed = {"error": 0, "limit": int(tolerated * records), "note": None}
    return [
        RuleResult(
            rule=name,
            records=len({finding.record for finding in found}),
            allowed=allowed[RULES[name].level],
            worst=sorted(found, key=lambda f: (-f.badness, f.record, f.turn or 0)),
        )
        for name, found in by_rule.items()
    ]


def hours(records: Sequence[Record], clips: dict[str, CheckedClip]) -> dict[str, dict[str, float]]:
    """split -> role -> hours of speech; a recording that several turns name counts once."""
    heard: dict[str, dict[str, float]] = {}
    seen: set[tuple[str, str]] = set()
    for record, _, turn, clip in spoken_turns(records, clips):
        key = (record.split, turn.speech or "")
        if clip.stats is not None and key not in seen:
            seen.add(key)
            by_role = heard.setdefault(record.split, {"user": 0.0, "assistant": 0.0})
            by_role[turn.role] += clip.stats.seconds / 3600
    return heard


def distributions(
    records: Sequence[Record], clips: dict[str, CheckedClip], count_tokens: Callable[[str], int]
) -> dict[str, list[float]]:
    """name -> one value per turn, of lengths and rates; what cannot be measured is left out."""
    values: dict[str, list[float]] = defaultdict(list)
    side = {"user": "question", "assistant": "answer"}
    for record in records:
        for turn in record.turns:
            values[f"{side[turn.role]}: words"].append(len(turn.text.split()))
            if turn.units:
                values["answer: units per token"].append(
                    len(turn.units) / (count_tokens(turn.text) + 1)
                )
    for _, _, turn, clip in spoken_turns(records, clips):
        if clip.stats is None:
            continue
        name = side[turn.role]
        values[f"{name}: seconds"].append(clip.stats.seconds)
        values[f"{name}: letters per second"].append(letters_per_s(clip.stats, turn.text))
        values[f"{name}: peak, dB below full scale"].append(clip.stats.peak_db)
        values[f"{name}: share of silence"].append(clip.stats.silence)
        if turn.units:
            rate = len(turn.units) / max(clip.stats.seconds, 0.01)
            values[f"{name}: merged units per second"].append(rate)
    return dict(sorted(values.items()))
