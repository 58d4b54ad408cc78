"""A run knows what it is: `run.json` in its folder says what it was made of.

Run again with the same, a command goes on or finds itself finished; run with something else in the
same folder, it is refused with the first thing that differs. What counts as the same is said in
train/data/fingerprint.py. Versions of the software are noted and never a reason to refuse: an
update in the middle of a long run must not end it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import shlex
import shutil
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omni.files import UserError, read_json, write_json
from train.loop.processes import from_first, main_process

log = logging.getLogger(__name__)

FILE = "run.json"
FORMAT_VERSION = 1


class Hold:
    """`run.json` as long as this lives, and no longer than the process: no other may go on then.

    A process has but one of a file, for a run that failed may still stand in an error's frames.
    """

    def __init__(self, file: Path) -> None:
        """Raises UserError if another process holds it."""
        self._file = file.open("rb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(
                f"{file.parent}: another process is at work on this run; wait for it, stop it, or "
                "give another --output"
            ) from None
        except OSError as error:  # a file system without locks
            log.debug("%s: can't be held: %s", file, error)
        # Workers are forks: one that outlives a killed run for a moment must not keep its lock.
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: (held := me()) and held.release())
        _held[file.resolve()] = self

    @staticmethod
    def of(file: Path) -> Hold:
        """This process's, made unless it has one of this very file."""
        found = _held.get(file.resolve())
        return found if found is not None and found.is_of(file) else Hold(file)

    def is_of(self, file: Path) -> bool:
        """Whether it is still held, and no other file has taken its place."""
        return not self._file.closed and os.path.samestat(
            os.fstat(self._file.fileno()), file.stat()
        )

    def release(self) -> None:
        """Let others have it."""
        self._file.close()


_held: weakref.WeakValueDictionary[Path, Hold] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Run:
    """A run that may begin, go on, or has ended.

    result: what it came to, if it has ended and its product is still there. hold: against other
    processes, in the one that writes.
    """

    folder: Path
    result: dict[str, Any] | None
    hold: Hold | None = field(default=None, repr=False, compare=False)

    def give_up(self) -> None:
        """Leave the folder to another run: what this one was given is refused."""
        if main_process():
            (self.folder / FILE).unlink(missing_ok=True)
            self._let_go()

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Keep what the run came to; returns it."""
        if main_process():
            write_json(self.folder / FILE, read_json(self.folder / FILE) | {"result": result})
            self._let_go()
        return result

    def _let_go(self) -> None:
        if self.hold is not None:
            self.hold.release()


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
    Raises UserError that names the first difference and the remedies, and where another process is
    at work on the run.
    """
    # One process looks and writes: the others would see what it has just written.
    run = from_first(
        lambda: _begin(output, command, made_of, product, also_writes, shared, restart, names)
    )
    if run.result is None and main_process():
        return replace(run, hold=Hold.of(output / FILE))
    return run


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
    if before is not None:
        Hold.of(file)  # for a moment: before anything of another process is removed
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
