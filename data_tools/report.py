"""What `check` found, as JSON and as one HTML page that holds all that it shows, sounds too."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from data_tools.check import Check, RuleResult
from data_tools.findings import RULES, Finding
from data_tools.manifest import Record
from omni.audio import SAMPLE_RATE, load_audio
from omni.checkpoint import write_json

WORST = 6  # examples per rule on the page
SAMPLES = 6  # ordinary records on the page
LONGEST_PLAYED_S = 15.0  # a page of whole speeches would be too large to open
BINS = 40
WAVE_POINTS = 300


def write_report(check: Check, folder: str | Path) -> None:
    """report.json and report.html, aside first and then renamed; the page comes last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", as_json(check))
    aside = folder / "report.html.partial"
    aside.write_text(as_html(check), encoding="utf-8")
    aside.replace(folder / "report.html")


def as_json(check: Check) -> dict[str, Any]:
    """Counts, quantiles and every finding."""
    return {
        "fit": check.fit,
        "records": len(check.manifest.records),
        "splits": check.splits,
        "hours": check.hours,
        "recordings_heard": len(check.clips),
        "upsample": check.config.upsample,
        "tokens": "exact" if check.exact_tokens else "lower bound",
        "rules": {
            result.rule: {
                "level": RULES[result.rule].level,
                "records": result.records,
                "allowed": result.allowed,
                "passed": result.passed,
                "findings": [
                    {"record": f.record, "turn": f.turn, "detail": f.detail} for f in result.worst
                ],
            }
            for result in check.results
        },
        "distributions": {name: quantiles(values) for name, values in check.distributions.items()},
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    names = {"min": 0, "p1": 1, "p5": 5, "median": 50, "p95": 95, "p99": 99, "max": 100}
    points = np.percentile(np.asarray(values, np.float64), list(names.values()))
    return {name: round(float(point), 4) for name, point in zip(names, points, strict=True)}


def as_html(check: Check) -> str:
    title = f"{len(check.manifest.records)} dialogues, " + (
        "fit to train on" if check.fit else "not fit to train on"
    )
    by_id = {record.id: record for record in check.manifest.records}
    parts = [
        f"<h1 class='{'good' if check.fit else 'bad'}'>{title}</h1>",
        f"<p>{len(check.clips)} recordings listened to; text tokens "
        f"{'counted by the tokenizer' if check.exact_tokens else 'estimated from below'}; "
        f"upsample {check.config.upsample}.</p>",
        splits_table(check),
        rules_table(check.results),
        "<h2>Distributions</h2><div class='charts'>",
        *(histogram(name, values) for name, values in check.distributions.items()),
        "</div>",
    ]
    for result in check.results:
        if result.worst:
            rule = RULES[result.rule]
            parts.append(f"<h2>{result.rule} ({result.records})</h2><p>{rule.meaning}.</p>")
            parts += [example(check, by_id[f.record], f) for f in result.worst[:WORST]]
    parts.append("<h2>Ordinary records</h2>")
    order = np.random.default_rng(check.config.seed).permutation(len(check.manifest.records))
    parts += [dialogue(check, check.manifest.records[index], None) for index in order[:SAMPLES]]
    return PAGE.replace("TITLE", title).replace("BODY", "\n".join(parts))


def splits_table(check: Check) -> str:
    rows = [
        f"<tr><td>{html.escape(split)}</td><td>{count}</td>"
        f"<td>{check.hours.get(split, {}).get('user', 0.0):.2f}</td>"
        f"<td>{check.hours.get(split, {}).get('assistant', 0.0):.2f}</td></tr>"
        for split, count in check.splits.items()
    ]
    head = "<tr><th>split</th><th>records</th><th>h of questions</th><th>h of answers</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def rules_table(results: Sequence[RuleResult]) -> str:
    rows = []
    for result in results:
        state = "note" if result.allowed is None else "good" if result.passed else "bad"
        allowed = "any" if result.allowed is None else str(result.allowed)
        rows.append(
            f"<tr class='{state}'><td>{result.rule}</td><td>{result.records}</td>"
            f"<td>{allowed}</td><td>{RULES[result.rule].meaning}</td></tr>"
        )
    head = "<tr><th>rule</th><th>records</th><th>allowed</th><th>meaning</th></tr>"
    return f"<h2>Rules</h2><table>{head}{''.join(rows)}</table>"


def histogram(name: str, values: Sequence[float]) -> str:
    """An SVG of 40 bins from the least to the greatest value, its axis labelled at the ends."""
    counts, edges = np.histogram(values, BINS)
    top = counts.max()
    bars = "".join(
        f"<rect x='{index * 7}' y='{80 - 76 * count / top:.1f}' width='6' "
        f"height='{76 * count / top:.1f}'><title>{edges[index]:.3g} to {edges[index + 1]:.3g}: "
        f"{count}</title></rect>"
        for index, count in enumerate(counts)
        if count
    )
    middle = quantiles(values)["median"]
    return (
        f"<figure><figcaption>{html.escape(name)} (median {middle:.3g})</figcaption>"
        f"<svg viewBox='0 0 280 98' role='img'>{bars}<line x1='0' y1='80' x2='280' y2='80'/>"
        f"<text x='0' y='94'>{edges[0]:.3g}</text>"
        f"<text x='280' y='94' text-anchor='end'>{edges[-1]:.3g}</text></svg></figure>"
    )


def example(check: Check, record: Record, finding: Finding) -> str:
    detail = f"<p class='detail'>{html.escape(finding.detail)}</p>"
    return detail + dialogue(check, record, finding.turn)


def dialogue(check: Check, record: Record, only: int | None) -> str:
    """A record's turns, or one of them, with sound where there is some."""
    turns = []
    for number, turn in enumerate(record.turns, start=1):
        if only in (None, number):
            voice = f" <i>{html.escape(turn.voice)}</i>" if turn.voice else ""
            turns.append(f"<p><b>{turn.role}</b>{voice}: {html.escape(turn.text)}</p>")
            clip = check.clips.get(turn.speech or "")
            if turn.speech is not None and clip is not None and clip.stats is not None:
                turns.append(player(check.manifest.root / turn.speech))
    name = f"{html.escape(record.id)} <small>{html.escape(record.split)}</small>"
    return f"<section><h3>{name}</h3>{''.join(turns)}</section>"


def player(path: Path) -> str:
    """Waveform and sound, as MP3 inside the page."""
    waveform = load_audio(path)[: round(LONGEST_PLAYED_S * SAMPLE_RATE)]
    sound = io.BytesIO()
    soundfile.write(sound, waveform, SAMPLE_RATE, format="MP3")
    data = base64.b64encode(sound.getvalue()).decode()
    source = f"data:audio/mpeg;base64,{data}"
    return f"{wave(waveform)}<audio controls preload='none' src='{source}'></audio>"


def wave(waveform: np.ndarray) -> str:
    """The envelope as one SVG path; full scale is the picture's height."""
    pieces = np.array_split(waveform, min(WAVE_POINTS, len(waveform)))
    lines = "".join(
        f"M{x} {30 - 30 * piece.max():.1f}V{31 - 30 * piece.min():.1f}"
        for x, piece in enumerate(pieces)
    )
    return f"<svg class='wave' viewBox='0 0 {WAVE_POINTS} 61'><path d='{lines}'/></svg>"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
h1.good { color: #17692f; } h1.bad { color: #a3222a; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #ddd; }
tr.bad td { color: #a3222a; font-weight: 600; } tr.note td { color: #666; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: 13px; } svg { width: 100%; }
rect { fill: #3c6e9f; } line { stroke: #999; } text { font-size: 10px; fill: #555; }
svg.wave { width: 22rem; height: 4rem; max-width: 100%; vertical-align: middle;
           background: #f4f6f8; }
svg.wave path { stroke: #3c6e9f; fill: none; }
section { border-left: 3px solid #ccd5de; padding-left: .8rem; margin: .8rem 0; }
h3 { font-size: 14px; margin: .3rem 0; } section p { margin: .2rem 0; }
.detail { margin: 1rem 0 0; color: #a3222a; } audio { height: 2rem; vertical-align: middle; }
</style></head><body>
BODY
</body></html>
"""
