"""A run knows what it is: `run.json` in its folder says what it was made of.

Run again with the same, a command goes on or finds itself finished; run with something else in the
same folder, it is refused with the first thing that differs. What counts as the same is said in
train/data/fingerprint.py. Versions of the software are noted and never a reason to refuse: an
update in the middle of a long run must not end it.
"""

from __future__ import annotations

import json
import logging
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omni.files import UserError, read_json, write_json
from train.loop.processes import from_first, main_process

log = logging.getLogger(__name__)

FILE = "run.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Run:
    """A run that may begin, go on, or has ended.

    result: what it came to, if it has ended and its product is still there.
    """

    folder: Path
    result: dict[str, Any] | None

    def give_up(self) -> None:
        """Leave the folder to another run: what this one was given is refused."""
        if main_process():
            (self.folder / FILE).unlink(missing_ok=True)

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Keep what the run came to; returns it."""
        if main_process():
            write_json(self.folder / FILE, read_json(self.folder / FILE) | {"result": result})
        return result


def begin_run(
    output: Path,
    command: str,
    made_of: Mapping[str, Any],
    *,
    product: str,
    also_writes: Sequence[str] = (),
    shared: Sequence[str] = (),
    restart: bool = False,
    names: Mapping[str, str] | None = None,
) -> Run:
    """Write `output/run.json`, or compare with the one that is there.

    made_of: JSON values of everything that the result depends on, seed included, in the order in
        which differences shall be named.
    product: the file or folder in `output` that is there when the run has ended.
    also_writes: patterns of what else the command writes. None of it may be there before the run:
        it would be taken for the run's own.
    shared: what the command writes or finds there, such as a cache that was filled ahead.
    restart: begin anew: removes what the run wrote there, and nothing else.
    names: what the bases and data are called; noted for readers, never compared.
    Raises UserError that names the first difference and the remedies.
    """
    # One process looks and writes: the others would see what it has just written.
    return from_first(
        lambda: _begin(output, command, made_of, product, also_writes, shared, restart, names)
    )


def _begin(
    output: Path,
    command: str,
    made_of: Mapping[str, Any],
    product: str,
    also_writes: Sequence[str],
    shared: Sequence[str],
    restart: bool,
    names: Mapping[str, str] | None,
) -> Run:
    made_of = json.loads(json.dumps(made_of))  # as it reads back
    there = _found(output, (product, *also_writes))
    file = output / FILE
    before = read_json(file) if file.is_file() else None
    if restart and before is not None:
        _check_command(output, command, before)
        for name in _found(output, before["writes"]):
            _remove(output / name)
        file.unlink()
        before = None
    elif before is None and there:
        raise UserError(
            f"{output}/{there[0]}: is there, and no {FILE} says what it was made of; give another "
            "--output, or remove it yourself"
        )
    if before is not None:
        _check_command(output, command, before)
        _check_same(output, before["made_of"], made_of)
        for name, now in _versions().items():
            if (then := before["versions"].get(name)) != now:
                log.warning("%s: begun with %s %s, goes on with %s", output, name, then, now)
        ended = "result" in before and (output / product).exists()
        if ended:
            log.info("%s: is finished; nothing to do (--restart makes it anew)", output)
        return Run(output, before["result"] if ended else None)
    output.mkdir(parents=True, exist_ok=True)
    own = [name for name in shared if not (output / name).exists()]
    value = {
        "format_version": FORMAT_VERSION,
        "command": command,
        "made_of": made_of,
        "names": dict(names or {}),
        "versions": _versions(),
        "called": shlex.join(sys.argv),
        "begun": time.time(),
        "writes": [product, *also_writes, *own],
    }
    write_json(file, value)
    return Run(output, None)


def first_difference(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """(dotted name, what it was, what it is) of the first value that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            path = f"{name}.{key}" if name else key
            if found := first_difference(before.get(key), now.get(key), path):
                return found
        return None
    return None if before == now else (name, before, now)


def _check_same(output: Path, before: Any, now: Any) -> None:
    if found := first_difference(before, now):
        name, was, is_now = found
        raise UserError(
            f"{output}: its run was made with {name}={_shown(was)}, this one has {_shown(is_now)}; "
            f"give another --output, or --restart, which removes what that run wrote there"
        )


def _check_command(output: Path, command: str, before: dict[str, Any]) -> None:
    if before["command"] != command:
        raise UserError(
            f"{output}: holds a run of `{before['command']}`, this is `{command}`; give another "
            "--output"
        )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _found(output: Path, patterns: Sequence[str]) -> list[str]:
    """Names in `output` itself that a pattern matches, also those written aside."""
    aside = [f".{pattern}.*" for pattern in patterns]
    return [
        path.name
        for pattern in (*patterns, *aside)
        if "/" not in pattern and pattern.strip(".")  # run.json may have been edited
        for path in sorted(output.glob(pattern))
    ]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    packages = ("omni-speech", "torch", "transformers")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
