"""Options that benchmarks of models with random weights share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from omni.commands import DTYPE_NAMES

RandomSize = Annotated[
    Literal["tiny", "mid", "8b"],
    typer.Option(
        help="Random weights: tiny tries the command; mid is for two CPU cores; 8b, of the "
        "published sizes, for a GPU: its weights alone are 18 GB."
    ),
]
BenchDtype = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"{DTYPE_NAMES}. Default: float32 on a CPU, else bfloat16."),
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; default: torch's own choice.")
]
Repeats = Annotated[int, typer.Option(min=1, help="Times that each case is measured.")]
ReportFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Where the report goes as JSON.")
]
CompileOurs = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Our steps of LLM and unit decoder are compiled first, as by `omni ask --compile`.",
    ),
]
