"""What `check` found, as JSON and as one HTML page that holds all that it shows, sounds too."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_tools.check.check import Check
from data_tools.check.findings import RULES
from data_tools.manifest import Record
from omni.audio import SAMPLE_RATE, load_audio
from omni.files import write_json, write_text

WORST = 6  # examples per rule on the page
SAMPLES = 6  # ordinary records on the page
LONGEST_PLAYED_S = 15.0  # a page of whole speeches would be too large to open
BINS = 40
WAVE_POINTS = 300
TEMPLATE = Path(__file__).with_name("report.html.jinja")


def write_report(check: Check, folder: str | Path) -> None:
    """report.json and report.html, aside first and then renamed; the page comes last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", as_json(check))
    write_text(folder / "report.html", as_html(check))


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
    """Names such as "p5" and "median" -> that quantile of the values, which must be some."""
    names = {"min": 0, "p1": 1, "p5": 5, "median": 50, "p95": 95, "p99": 99, "max": 100}
    points = np.percentile(np.asarray(values, np.float64), list(names.values()))
    return {name: round(float(point), 4) for name, point in zip(names, points, strict=True)}


def as_html(check: Check) -> str:
    """The page; all text in it is escaped by the template."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined
    )
    order = np.random.default_rng(check.config.seed).permutation(len(check.manifest.records))
    return environment.get_template(TEMPLATE.name).render(
        check=check,
        rules=RULES,
        histograms=[histogram(*named) for named in check.distributions.items()],
        examples=list(examples(check)),
        samples=[dialogue(check, check.manifest.records[index], None) for index in order[:SAMPLES]],
        wave_points=WAVE_POINTS,
    )


def histogram(name: str, values: Sequence[float]) -> dict[str, Any]:
    """40 bins from the least to the greatest value, heights as shares of the highest."""
    counts, edges = np.histogram(values, BINS)
    bars = [
        {
            "place": place,
            "height": count / counts.max(),
            "title": f"{edges[place]:.3g} to {edges[place + 1]:.3g}: {count}",
        }
        for place, count in enumerate(counts)
        if count
    ]
    return {
        "name": name,
        "median": f"{quantiles(values)['median']:.3g}",
        "bars": bars,
        "ends": (f"{edges[0]:.3g}", f"{edges[-1]:.3g}"),
    }


def examples(check: Check) -> Iterator[dict[str, Any]]:
    """Of each broken rule the worst records, in the order of the rules."""
    by_id = {record.id: record for record in check.manifest.records}
    for result in check.results:
        if result.worst:
            yield {
                "result": result,
                "meaning": RULES[result.rule].meaning,
                "worst": [
                    {"detail": f.detail} | dialogue(check, by_id[f.record], f.turn)
                    for f in result.worst[:WORST]
                ],
            }


def dialogue(check: Check, record: Record, only: int | None) -> dict[str, Any]:
    """A record's turns, or one of them, with sound where there is some."""
    turns = []
    for number, turn in enumerate(record.turns, start=1):
        if only in (None, number):
            clip = check.clips.get(turn.speech or "")
            heard = turn.speech is not None and clip is not None and clip.stats is not None
            sound = sound_of(check.manifest.root / str(turn.speech)) if heard else None
            turns.append({"turn": turn, "sound": sound})
    return {"record": record, "turns": turns}


def sound_of(path: Path) -> dict[str, str]:
    """The envelope as one SVG path, full scale its height, and the sound as MP3 in a data URL."""
    waveform = load_audio(path)[: round(LONGEST_PLAYED_S * SAMPLE_RATE)]
    sound = io.BytesIO()
    soundfile.write(sound, waveform, SAMPLE_RATE, format="MP3")
    pieces = np.array_split(waveform, min(WAVE_POINTS, len(waveform)))
    lines = (
        f"M{x} {30 - 30 * piece.max():.1f}V{31 - 30 * piece.min():.1f}"
        for x, piece in enumerate(pieces)
    )
    data = base64.b64encode(sound.getvalue()).decode()
    return {"envelope": "".join(lines), "url": f"data:audio/mpeg;base64,{data}"}
