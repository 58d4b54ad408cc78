"""A server of our own, in another process, for as long as it is measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TextIO, cast

from omni.files import UserError

ADDRESS = re.compile(r"^address: (ws://\S+/v1/realtime)", re.MULTILINE)
END_S = 20.0
RUN = ("serve.cli", "run", "--port", "0")


@contextmanager
def own_server(options: Sequence[str], program: Sequence[str] = RUN) -> Generator[str]:
    """Its address. program: the module that serves and tells its address as `omni-serve run` does,
    with what it is always given; options: more of it. Raises UserError with what it said if it ends
    before it listens."""
    with own_process(options, program) as (address, _):
        yield address


@contextmanager
def own_process(options: Sequence[str], program: Sequence[str] = RUN) -> Generator[tuple[str, int]]:
    """Its address and its process, as `own_server`."""
    command = [sys.executable, "-m", *program, *options]
    without_key = {name: value for name, value in os.environ.items() if name != "OMNI_API_KEY"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=errors, env=without_key
        )
        try:
            said = partial(_all_of, cast(TextIO, errors))
            yield _address(process, program[0], said), process.pid
        finally:
            process.terminate()
            try:
                process.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _all_of(stream: TextIO) -> str:
    stream.seek(0)
    return stream.read()


def _address(process: subprocess.Popen[str], name: str, errors: Callable[[], str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if (found := ADDRESS.match(line)) is not None:
            return found[1]
    raise UserError(errors().strip().removeprefix("error: ") or f"{name}: ended early")
