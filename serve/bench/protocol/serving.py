"""The server whose protocol is measured: all of `omni-serve run` but the model.

`python -m serve.bench.protocol.serving SESSIONS SECONDS`: so many places, answers so long.
"""

from __future__ import annotations

import logging
import sys
from typing import cast

import typer

from omni.engine import Engine
from omni.session import SessionConfig
from serve.bench.protocol.stand_in import StandInEngine, prepared_answer
from serve.realtime import Model, silero
from serve.web import ServeSettings, bind, describe, serve

LONGEST_S = 30.0  # of a spoken question, as Whisper's


def known() -> Model:
    """What sessions have to know of a model that is none."""
    return Model(
        name="stand-in", base=SessionConfig(), takes_system=False, takes_tools=False,
        longest_s=LONGEST_S, control_token_in=lambda text: None,
    )  # fmt: skip


def main(max_sessions: int, answer_s: float) -> None:
    """Serve until a signal ends it."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = ServeSettings(port=0, max_sessions=max_sessions)
    door = bind(settings)
    silero()  # loaded before anybody waits for it
    with StandInEngine(prepared_answer(answer_s), max_sessions=max_sessions) as engine:
        told = "\n".join(describe(settings, known(), door.getsockname()[1]))
        # It takes the calls that a server makes, which a test holds; the type is a class.
        serve(settings, cast(Engine, engine), known(), door, started=lambda: typer.echo(told))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
