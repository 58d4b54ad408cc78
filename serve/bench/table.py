"""Tables, as the benches print them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

FILE_WIDTH = 200


def print_table(title: str, cells: Sequence[Sequence[str]]) -> None:
    """The first line of the cells is the heading."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    heading, *rows = cells
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    for name in heading:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*row)
    # A file or a pipe has no width of its own.
    Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(table)
