"""`omni-serve talk`: ask a running server, with a microphone or with files."""

# Heavy imports stand inside: `omni-serve --help` must not wait for numpy.
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from omni.files import UserError, check_file, need

URL = "ws://127.0.0.1:8000/v1/realtime"  # where `omni-serve run` is by default


def talk_command(
    questions: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="Recorded questions, asked in one conversation. Default: the microphone.",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="WAV",
            help="Where the spoken answer goes; of several, with -1, -2, ... before the suffix.",
        ),
    ] = None,
    url: Annotated[str, typer.Option(help="The server's WebSocket.")] = URL,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="OMNI_API_KEY",
            help="The server's key. Others see an argument in the list of processes: prefer the "
            "variable.",
        ),
    ] = None,
    chunk_units: Annotated[
        str | None,
        typer.Option(metavar="N|N,N,..|all|auto", help="Units of speech per chunk of sound."),
    ] = None,
) -> None:
    """Talk to a running `omni-serve run`: with a microphone until Ctrl-C, or with files.

    Wear headphones: a terminal does not keep the answer out of the microphone.
    """
    need("websockets", "talk", "the connection")
    if save is not None and not questions:
        raise UserError("--save: belongs to questions from files; name some, or leave it out")
    if not questions:
        need("sounddevice", "talk", "the microphone")
    targets = _targets(save, len(questions or []))
    for target in targets:
        check_file(target)
        _check_format(target)

    from omni.audio import load_audio
    from serve.talk.asking import ask
    from serve.talk.client import WIRE_RATE, RealtimeClient, to_wire
    from serve.talk.speaking import talk_by_microphone

    recordings = [to_wire(load_audio(path)) for path in questions or []]

    def tell(words: str) -> None:
        typer.echo(words, nl=False)

    with RealtimeClient(url, key) as client:
        detection = None if recordings else {"type": "server_vad"}
        session: dict[str, Any] = {
            "type": "realtime", "audio": {"input": {"turn_detection": detection}},
        }  # fmt: skip
        if chunk_units is not None:
            session["omni"] = {"chunk_size": chunk_units}
        client.send("session.update", session=session)
        if not recordings:
            typer.echo("Speak; Ctrl-C ends it.", err=True)
            talk_by_microphone(client, tell)
            return
        import soundfile

        for place, recording in enumerate(recordings):
            answer = ask(client, recording, tell)
            typer.echo()
            if targets:
                soundfile.write(targets[place], answer.sound, WIRE_RATE)


def _check_format(target: Path) -> None:
    """Before anybody is asked: an answer that can't be written would be lost."""
    import soundfile

    if target.suffix[1:].upper() not in soundfile.available_formats():
        raise UserError(
            f"{target}: its suffix is of no format of sound; give a name that ends in .wav"
        )


def _targets(save: Path | None, count: int) -> list[Path]:
    """Where each answer goes."""
    if save is None:
        return []
    if count == 1:
        return [save]
    return [save.with_stem(f"{save.stem}-{place}") for place in range(1, count + 1)]
