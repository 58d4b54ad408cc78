"""First-audio latency against seam error, as a picture."""

from __future__ import annotations

from pathlib import Path

from omni.files import replace_file
from serve.tune.tuning import INAUDIBLE, Report

LABEL_STEP_PT, LABEL_STEPS = 11, 6
FLOOR = 1e-5  # a logarithmic axis has no place for 0, the seam error of a whole reply


def plot(report: Report, path: Path) -> None:
    """Write one dot per schedule; path: .png or .svg. Needs matplotlib, of extra `serve`."""
    from matplotlib.figure import Figure

    # A Figure of its own: no global state, no display.
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(sorted(report.rows, key=lambda row: row.first_audio_p50_ms)):
        x, y = row.first_audio_p50_ms, max(row.border_error, FLOOR)
        late = max(0.0, row.first_audio_p95_ms - x)
        chosen = row.schedule == report.best
        axes.errorbar(
            x,
            y,
            xerr=[[0.0], [late]],
            fmt="o",
            color="tab:red" if chosen else "tab:blue",
            capsize=3,
        )
        label = f"{row.schedule} (chosen)" if chosen else row.schedule
        # Schedules longer than the reply are one point: their labels stand above one another.
        offset = (6, 6 + LABEL_STEP_PT * (place % LABEL_STEPS))
        axes.annotate(label, (x, y), textcoords="offset points", xytext=offset, fontsize="small")
    axes.axhline(INAUDIBLE, color="grey", linestyle=":", label="-40 dB")
    if report.budget_ms is not None:
        axes.axvline(report.budget_ms, color="grey", linestyle="--", label="budget")
    axes.set_yscale("log")
    axes.margins(0.15)  # room for the labels
    axes.set_xlabel("first audio, ms after the question (dot: p50, bar: to p95)")
    axes.set_ylabel("seam error at chunk borders, relative RMS")
    axes.set_title("Units per chunk")
    axes.grid(alpha=0.3)
    axes.legend()
    with replace_file(path) as aside:
        figure.savefig(aside, dpi=150, format=path.suffix[1:])
