"""Optional packages: asked for before the work that needs them, by the name of their extra."""

from __future__ import annotations

import importlib.util

from omni.files.errors import UserError


def need(package: str, extra: str, what_for: str) -> None:
    """Raise UserError with the pip command if the package can't be imported.

    package: as it is imported. extra: of pyproject.toml. what_for: "the plot of tune".
    It is found, not imported: some take seconds.
    """
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{package}: not installed, and {what_for} needs it; run: "
            f"pip install 'omni-speech[{extra}]'"
        )
