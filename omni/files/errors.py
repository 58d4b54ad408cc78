"""Errors that a user can mend, told in one line."""

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class UserError(ValueError):
    """The user can mend this: the text gives the value, the rule and the remedy."""


def friendly(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Wraps a typer command: bad input becomes `error: ...` on stderr and exit code 2.

    ValueError (UserError with it) and OSError are bad input; anything else is our own mistake and
    keeps its traceback, and so does everything when OMNI_DEBUG=1.
    """

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        import typer  # here, so that the libraries that only raise UserError stay free of it

        try:
            return command(*args, **kwargs)
        except (ValueError, OSError) as error:
            if os.environ.get("OMNI_DEBUG") == "1":
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            raise typer.Exit(2) from error

    return wrapped
