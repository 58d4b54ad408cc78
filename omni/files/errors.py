"""Errors that a user can mend, told in one line."""

from __future__ import annotations

import errno
import functools
import os
import select
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

BAD_INPUT = 2  # exit codes, as shells know them
STOPPED = 130  # 128 + SIGINT
NOBODY_LISTENS = 141  # 128 + SIGPIPE

SPACE = "free some space, or choose another disk"
RIGHTS = "choose another place, or get the right to use this one"
REMEDIES = {
    errno.ENOSPC: SPACE, errno.EDQUOT: SPACE, errno.EFBIG: SPACE,
    errno.EACCES: RIGHTS, errno.EPERM: RIGHTS, errno.EROFS: RIGHTS,
    errno.EISDIR: "give a file", errno.ENOTDIR: "give a folder", errno.EEXIST: "choose another",
    errno.ENOENT: "check the path", errno.ENAMETOOLONG: "choose a shorter one",
}  # fmt: skip


class UserError(ValueError):
    """The user can mend this: the text gives the value, the rule and the remedy."""


def friendly(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Wraps a command, so that it ends as `ending_well` says."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with ending_well():
            return command(*args, **kwargs)

    return wrapped


@contextmanager
def ending_well() -> Generator[None]:
    """One line on stderr and the right exit code, whatever the block meets.

    Bad input (ValueError, UserError with it, and OSError) is `error: ...` and 2; Ctrl-C is 130. A
    pipe whose reader has gone is 141 without a word. Anything else is our own mistake and keeps
    its traceback, and so does everything when OMNI_DEBUG=1.
    """
    try:
        with _errors_of_threads():
            try:
                yield
            except SystemExit as end:
                if isinstance(end.__context__, BrokenPipeError):
                    end.code = NOBODY_LISTENS  # rich and typer have hushed the stream, and say 1
                elif not end.code:
                    _flush()
                raise
            _flush()
    except KeyboardInterrupt as error:
        _say("stopped")
        raise SystemExit(STOPPED) from error
    except Exception as error:
        line = one_line(error)
        if line is None or os.environ.get("OMNI_DEBUG") == "1":
            raise
        if isinstance(error, BrokenPipeError) and nobody_listens():
            _drop_output()
            raise SystemExit(NOBODY_LISTENS) from error
        _say(f"error: {line}")
        _drop_output_that_cannot_go()
        raise SystemExit(BAD_INPUT) from error


def one_line(error: Exception) -> str | None:
    """What a user is told; None for what only a programmer can mend."""
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        named = isinstance(error.filename, (str, bytes))
        place = os.fsdecode(error.filename) if named else "output"
        rule = error.strerror[:1].lower() + error.strerror[1:]
        return f"{place}: {rule}" + (f"; {remedy}" if (remedy := REMEDIES.get(error.errno)) else "")
    text = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError)):
        return text
    # Weights are written by code that is not Python, and that has errors of its own.
    if type(error).__name__ == "SafetensorError" and "I/O error" in text:
        return f"weights: {text.rpartition('I/O error: ')[2]}; {SPACE}"
    if isinstance(error, RuntimeError) and "inline_container" in text and "Reader" not in text:
        return f"weights: not written to their end ({text}); {SPACE}"
    return None


def nobody_listens() -> bool:
    """Whether stdout or stderr is a pipe whose reader has gone. The pipe of a program that we
    started may be the broken one as well, and that is an error."""
    poll = select.poll()
    for stream in (1, 2):
        poll.register(stream, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def _errors_of_threads() -> Generator[None]:
    """Raise at the end what the user can mend in them, instead of printing it as it happens."""
    kept: list[Exception] = []
    before = threading.excepthook

    def keep(failed: threading.ExceptHookArgs) -> None:
        error = failed.exc_value
        if isinstance(error, Exception) and one_line(error) is not None:
            kept.append(error)
        else:
            before(failed)

    threading.excepthook = keep
    try:
        yield
    finally:
        threading.excepthook = before
    if kept:
        raise kept[0]


def _flush() -> None:
    if sys.stdout is not None:  # closed by whoever started us
        sys.stdout.flush()


def _say(line: str) -> None:
    with suppress(OSError, AttributeError):  # stderr full or closed: the exit code remains
        print(" ".join(line.splitlines()), file=sys.stderr, flush=True)


def _drop_output_that_cannot_go() -> None:
    try:
        _flush()
    except OSError:
        _drop_output()


def _drop_output() -> None:
    """Python would write what is left as it ends, and complain again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
