"""`omni-serve run`: a server that stock clients of OpenAI's Realtime protocol can talk to."""

# Heavy imports stand inside: `omni-serve --help` must not wait for torch.
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from omni.commands import Compile, without_garbage_collection
from omni.files import need


def run_command(
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_DIR_OR_HUB_ID",
            help="The model: nano (the default), mini, or any other.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="The address to listen at; others than this machine's need a key."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="0 takes any free one.")] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Who comes must bring it; may be repeated. Default: OMNI_API_KEY, one key. Others "
            "see an argument in the list of processes: prefer the variable or the file.",
        ),
    ] = None,
    key_secret: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            envvar="OMNI_KEY_SECRET",
            help="Signs short-lived keys; servers with the same one take each other's.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings in YAML; flags go first."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let everybody in who can reach the address.")
    ] = False,
    ssl_certificate: Annotated[
        str | None, typer.Option(metavar="FILE", help="PEM; speak TLS, with --ssl-key.")
    ] = None,
    ssl_key: Annotated[str | None, typer.Option(metavar="FILE", help="PEM.")] = None,
    max_sessions: Annotated[int | None, typer.Option(help="Clients at a time; default 8.")] = None,
    replicas: Annotated[
        int | None,
        typer.Option(help="Processes behind the address, each with a model of its own; default 1."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"] | None,
        typer.Option(help="Where replicas run: on this machine, or where Ray Serve places them."),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of the cluster, or auto. Default: RAY_ADDRESS, or one of this machine alone.",
        ),
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="After SIGTERM, how long open sessions may go on; default 30."
        ),
    ] = None,
    instructions: Annotated[
        Literal["auto", "always", "never"] | None,
        typer.Option(help="Tell the model the session's; auto: if it was taught system messages."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: as `omni ask` chooses.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or float16; default: as stored.")
    ] = None,
    compiled: Compile = False,
) -> None:
    """Serve a conversation by voice and text at /v1/realtime, until Ctrl-C."""
    need("fastapi", "serve", "the server")
    need("uvicorn", "serve", "the server")
    need("websockets", "serve", "the server")
    need("prometheus_client", "serve", "the server")
    need("onnxruntime", "serve", "voice activity detection")
    need("silero_vad", "serve", "voice activity detection")
    import logging
    import os

    from rich.console import Console

    from serve.web import bind, read_settings

    # Not the option's own: that would make a list of a key with blanks, of which each word opens.
    if not api_key and (key := os.environ.get("OMNI_API_KEY")):
        api_key = [key]
    settings = read_settings(
        config,
        {
            "checkpoint": checkpoint, "host": host, "port": port,
            "api_keys": api_key or None, "key_secret": key_secret, "insecure": insecure or None,
            "ssl_certificate": ssl_certificate, "ssl_key": ssl_key,
            "max_sessions": max_sessions, "replicas": replicas,
            "engine": engine, "ray_address": ray_address, "drain_s": drain_seconds,
            "instructions": instructions, "threads": threads, "device": device,
            "dtype": dtype, "compile": compiled or None,
        },
    )  # fmt: skip
    if settings.engine == "ray":
        need("ray", "cluster", "--engine ray")
    door = bind(settings)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("serve").setLevel(logging.INFO)
    console = Console(stderr=True)
    loading = f"loading {settings.checkpoint or 'nano'} ..."
    if settings.replicas > 1 or settings.engine == "ray":
        from serve.router import serve_on_cluster, supervise

        console.print(loading)
        run = serve_on_cluster if settings.engine == "ray" else supervise
        run(settings, door, started=lambda told: typer.echo("\n".join(told)))
        return
    with console.status(loading):
        with without_garbage_collection():
            from serve.web import describe, load, serve
        model_engine, known = load(settings)
    told = "\n".join(describe(settings, known, door.getsockname()[1]))
    with model_engine:
        serve(settings, model_engine, known, door, started=lambda: typer.echo(told))
