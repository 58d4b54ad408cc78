"""`omni-serve bench compiled`: a step of the LLM and of the unit decoder, as it is and compiled.

Both are timed in turns in one process, so that what else the machine does hits them alike; what
counts is their ratio.
"""

# Heavy imports stand inside the functions: `omni-serve --help` must not wait for torch.
from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from omni.commands import Device
from omni.files import UserError, check_file
from serve.bench.options import BenchDtype, ReportFile, Threads
from serve.bench.table import print_table

if TYPE_CHECKING:
    from omni.batching import Size
    from omni.model import OmniForConditionalGeneration
    from serve.bench.latency import Clock, Machine

SHORTER = 2 / 3  # of a buffer's capacity: how far the timed sequences have come


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One part in one size of buffer, ms a step, medians. as_it_is: of the same sequences without
    compilation; ratio: the median of the ratios, round by round."""

    part: str
    slots: int
    capacity: int
    as_it_is_ms: float
    compiled_ms: float
    ratio: float


@dataclass(frozen=True, kw_only=True)
class CompiledReport:
    """compile_seconds: of all sizes; less where the cache on disk knows them."""

    rows: tuple[Timed, ...]
    model: str
    compile_seconds: float
    repeats: int
    machine: Machine

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compiled_report(
    model: OmniForConditionalGeneration,
    *,
    name: str,
    sessions: int,
    repeats: int,
    machine: Callable[[], Machine],
    clock: Clock,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> CompiledReport:
    """Compile, then time each size with as many sequences as it has room for.

    Raises UserError for a part that can't be compiled.
    """
    from omni.batching import compiled_steps
    from omni.session import compile_steps

    started = time.perf_counter()
    compile_steps(model, sessions=sessions, progress=progress)
    seconds = time.perf_counter() - started
    rows: list[Timed] = []
    for part, module, case in (
        ("language model", model.language_model, _llm_steps),
        ("unit decoder", model.unit_decoder, _decoder_steps),
    ):
        steps = None if module is None else compiled_steps(module)
        if steps is None or not steps.sizes:
            raise UserError(f"{name}: its {part} can't be compiled, so there is nothing to measure")
        for size in steps.sizes:
            ways = [case(model, size, compiled=compiled) for compiled in (False, True)]
            rows.append(_timed(part, size, ways, repeats=repeats, clock=clock))
    return CompiledReport(
        rows=tuple(rows), model=name, compile_seconds=seconds, repeats=repeats, machine=machine()
    )


def _timed(
    part: str, size: Size, ways: Sequence[Callable[[], object]], *, repeats: int, clock: Clock
) -> Timed:
    """ways: a step as it is, and compiled."""
    took: list[tuple[float, float]] = []
    for _ in range(2 + repeats):  # the first two pay for set-up
        moments = [clock()]
        for way in ways:
            way()
            moments.append(clock())
        took.append((moments[1] - moments[0], moments[2] - moments[1]))
    plain, compiled = zip(*took[2:], strict=True)
    return Timed(
        part=part,
        slots=size.slots,
        capacity=size.capacity,
        as_it_is_ms=statistics.median(plain),
        compiled_ms=statistics.median(compiled),
        ratio=statistics.median(two / one for one, two in took[2:]),
    )


def _llm_steps(
    model: OmniForConditionalGeneration, size: Size, *, compiled: bool
) -> Callable[[], object]:
    """Makes the same step again and again, of sequences that fill the size's rows."""
    import torch

    from omni.batching import CacheRow, LanguageModelSteps, StepInputs, StepOutput

    llm = model.language_model
    steps, length = LanguageModelSteps(llm, compiled=compiled), int(SHORTER * size.capacity)
    ids = torch.arange(length, device=llm.device)[None] % llm.config.get_text_config().vocab_size
    embeddings = model.embed_tokens(ids).detach()
    items = [StepInputs(embeddings, None)] * size.slots

    def step() -> None:
        nonlocal items
        next_items: list[StepInputs] = []
        for output in steps.run(items):
            if not isinstance(output, StepOutput):
                raise output
            if isinstance(output.past, CacheRow):
                output.past.length = length
            elif output.past is not None:
                output.past.crop(-1)
            next_items.append(StepInputs(embeddings[:, :1], output.past))
        items = next_items

    step()
    return step


def _decoder_steps(
    model: OmniForConditionalGeneration, size: Size, *, compiled: bool
) -> Callable[[], object]:
    """As of the LLM; a state can be gone on from again."""
    import torch

    from omni.batching import SpeechInputs, SpeechOutput, StateRow, UnitDecoderSteps
    from omni.values import Frames

    decoder = model.unit_decoder
    assert decoder is not None
    steps = UnitDecoderSteps(decoder, compiled=compiled)
    tokens = int(SHORTER * size.capacity) // decoder.upsample
    weight = decoder.output_proj.weight
    states = torch.ones(1, tokens, decoder.config.reads_width).to(weight)
    count = torch.tensor([tokens], device=weight.device)
    # Of one each: a state may be gone on from once.
    items = [
        SpeechInputs(Frames(states, count), decoder.initial_state(1)) for _ in range(size.slots)
    ]
    one = Frames(states[:, :1], torch.ones_like(count))

    def step() -> None:
        nonlocal items
        next_items: list[SpeechInputs] = []
        for item, output in zip(items, steps.run(items), strict=True):
            if not isinstance(output, SpeechOutput):
                raise output
            first = item.states is not one
            if isinstance(output.past, StateRow):
                output.past.length = tokens * decoder.upsample
            next_items.append(
                SpeechInputs(one, output.past)
                if first or isinstance(output.past, StateRow)
                else item
            )
        items = next_items

    step()
    return step


def compiled_command(
    size: Annotated[
        Literal["nano", "tiny", "mid", "8b"],
        typer.Option(
            help="nano: the embedded model. Others have random weights: tiny tries the command; "
            "mid is for two CPU cores; 8b, of the published sizes, for a GPU."
        ),
    ] = "mid",
    sessions: Annotated[int, typer.Option(min=1, help="The most that are stepped together.")] = 1,
    device: Device = "auto",
    dtype: BenchDtype = None,
    threads: Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Steps of each way.")] = 30,
    json: ReportFile = None,
) -> None:
    """What compiling buys here: a step of each part as it is and compiled, in turns.

    Sequences fill two thirds of each buffer. The second run shows what the cache on disk saves.
    """
    if json is not None:
        check_file(json)
    import os

    from omni.commands import compiling
    from omni.files import write_json
    from omni.loading import load
    from serve.bench.latency import SIZES, Machine, build, clock_of, prepare

    place, kind = prepare(device, dtype, threads)
    before = os.getloadavg()[0]
    if size == "nano":
        model, _ = load(device_map=None if place.type == "cpu" else place, dtype=kind)
    else:
        model = build(SIZES[size], place, kind).model
    with compiling() as progress:
        found = compiled_report(
            model, name=size, sessions=sessions, repeats=repeats, clock=clock_of(place),
            machine=lambda: Machine.here(place, kind, before), progress=progress,
        )  # fmt: skip
    if json is not None:
        write_json(json, found.as_json())
    cells = [["part", "rows", "positions", "as it is, ms", "compiled, ms", "ratio"]]
    for row in found.rows:
        times = f"{row.as_it_is_ms:.2f}", f"{row.compiled_ms:.2f}", f"{row.ratio:.2f}"
        cells.append([row.part, str(row.slots), str(row.capacity), *times])
    print_table("a step", cells)
    typer.echo(f"{found.model}: compiled in {found.compile_seconds:.0f} s; {found.machine}")
