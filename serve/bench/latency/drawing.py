"""First audio stage by stage beside its floor, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omni.files import UserError, check_file, need, replace_file

if TYPE_CHECKING:
    from serve.bench.latency.report import Waterfall

SHOWN_MS = 300.0  # at least; as far as the first sound where that is later
SUFFIXES = (".png", ".svg")


def check_picture(path: Path) -> None:
    """Before any measuring: raises UserError if no such picture can be written there."""
    need("matplotlib", "serve", "the picture of latency")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: must end in {' or '.join(SUFFIXES)}, as the picture is to be")
    check_file(path)


def draw(waterfalls: Sequence[Waterfall], path: Path) -> None:
    """One panel per way: a row per stage, a bar per call, and below each bar its floor."""
    from matplotlib.figure import Figure

    # A Figure of its own: no global state, no display.
    figure = Figure(figsize=(9, 3.2 * len(waterfalls)), layout="constrained")
    panels = figure.subplots(len(waterfalls), 1, squeeze=False)[:, 0]
    for axes, fall in zip(panels, waterfalls, strict=True):
        stages = [*fall.totals()]
        floor_ms = sum(floor for _, floor in fall.totals().values())
        for row, stage in enumerate(stages):
            spans = [span for span in fall.spans if span.stage == stage]
            axes.broken_barh(
                [(span.start_ms, span.ms) for span in spans], (row - 0.4, 0.4), color="tab:blue"
            )
            axes.broken_barh(
                [(span.start_ms, span.floor_ms) for span in spans], (row, 0.3), color="tab:orange"
            )
        axes.axvline(fall.first_audio_ms, color="tab:blue", linestyle="--")
        axes.axvline(floor_ms, color="tab:orange", linestyle="--")
        axes.set_yticks(range(len(stages)), stages)
        axes.invert_yaxis()
        axes.set_xlim(0, max(SHOWN_MS, 1.05 * fall.first_audio_ms))
        axes.set_title(
            f"{fall.way.replace('_', ' ')}: first audio {fall.first_audio_ms:.0f} ms (blue), "
            f"floor {floor_ms:.0f} ms (orange)",
            fontsize="medium",
        )
        axes.set_xlabel("ms after the question's last sample")
        axes.grid(alpha=0.3, axis="x")
    with replace_file(path) as aside:
        figure.savefig(aside, dpi=150, format=path.suffix[1:])
