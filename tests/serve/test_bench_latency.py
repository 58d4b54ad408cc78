"""The benchmark of latency: the whole command at its smallest size, and that it compares truly."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from omni.batching import compiled_steps
from omni.ctc import best_units
from omni.session import compile_steps
from serve.bench.latency.answer import Asked, clock_of
from serve.bench.latency.asking import Live
from serve.bench.latency.measuring import CHUNK_UNITS, GROWING_S, QUESTIONS_S
from serve.bench.latency.preparing import compile_ours
from serve.bench.latency.question import speech
from serve.bench.latency.reference import Reference
from serve.bench.latency.sizes import SIZES, build, variant
from serve.cli import app

COMMAND = ["bench", "latency", "--size", "tiny", "--device", "cpu", "--repeats", "1"]
PROMPT = Reference.prompt
OURS = ["padded", "true_length", "live_blocks", "live_speculated"]


@dataclass(frozen=True)
class Run:
    report: dict[str, Any]
    picture: str
    output: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("latency")
    files = ["--json", str(folder / "report.json"), "--plot", str(folder / "first-audio.svg")]
    threads = ["--threads", str(torch.get_num_threads())]
    result = CliRunner().invoke(app, [*COMMAND, *threads, *files], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == ["first-audio.svg", "report.json"]
    report = json.loads((folder / "report.json").read_text())
    return Run(report, (folder / "first-audio.svg").read_text(), result.stdout)


def rows(run: Run, table: str) -> list[dict[str, Any]]:
    return run.report["tables"][table]["rows"]


def test_first_audio_is_measured_for_every_question_chunk_and_way(run: Run) -> None:
    found = rows(run, "first_audio")
    cases = [(float(row["case"]["question_s"]), row["case"]["chunk_units"]) for row in found]
    assert cases == [(s, units) for s in QUESTIONS_S for units in CHUNK_UNITS]
    for row in found:
        assert list(row["ms"]) == ["reference", *OURS] and min(row["ms"].values()) > 0
        assert list(row["pause_ms"]) == ["live_speculated"]
        assert row["times_as_fast"] == {
            way: pytest.approx(row["ms"]["reference"] / row["ms"][way]) for way in OURS
        }


def test_it_is_followed_over_the_length_of_the_question(run: Run) -> None:
    assert [float(row["case"]["question_s"]) for row in rows(run, "growth")] == list(GROWING_S)


def test_whole_replies_and_single_tokens_are_measured_on_the_same_footing(run: Run) -> None:
    for table, label, numbers in (
        ("replies", "tokens", SIZES["tiny"].long_replies),
        ("tokens", "at_token", SIZES["tiny"].timed_tokens),
    ):
        assert [row["case"] for row in rows(run, table)] == [{label: str(n)} for n in numbers]
        assert all(list(row["ms"]) == ["reference", "padded"] for row in rows(run, table))


def test_every_answer_is_held_against_the_plain_algorithm(run: Run) -> None:
    ways, cases = 1 + len(OURS), len(QUESTIONS_S) * len(CHUNK_UNITS) + len(GROWING_S)
    warm_up, replies = ways, 2 * len(SIZES["tiny"].long_replies)
    assert run.report["agreement"]["answers"] == warm_up + ways * cases + replies
    assert "are the plain algorithm's" in run.output


def test_the_stages_up_to_the_first_sound_stand_beside_their_floor(run: Run) -> None:
    speed = run.report["speed"]
    assert speed["gb_per_s"] > 0 and speed["gflop_per_s"] > 0
    whole, live = run.report["waterfalls"]
    assert (whole["way"], live["way"]) == ("true_length", "live_blocks")
    after_mel = ["encoder", "adapter", "prefill", "unit decoder", "LLM step", "waveform"]
    for fall, stages in ((whole, ["log-mel", *after_mel]), (live, after_mel)):
        first = dict.fromkeys(span["stage"] for span in fall["spans"])
        assert [stage for stage in first if stage != "durations"] == stages
        for span in fall["spans"]:
            assert span["start_ms"] >= 0 and span["ms"] > 0
            if span["stage"] not in ("log-mel", "durations"):
                assert span["floor_ms"] > 0
    assert "live blocks: first audio" in run.picture


def test_the_machine_and_its_load_stand_in_the_report(run: Run) -> None:
    machine = run.report["machine"]
    assert machine["torch_threads"] == torch.get_num_threads() and machine["dtype"] == "float32"
    assert f"load {machine['load_before']:.1f} to {machine['load_after']:.1f}" in run.output


def one_unit_fewer(reference: Reference, states: Tensor) -> list[int]:
    return best_units(reference.log_probs(states))[0][:-1]


def heard_backwards(reference: Reference, waveform: np.ndarray) -> Tensor:
    return PROMPT(reference, waveform[::-1].copy())


@pytest.mark.parametrize(
    ("part", "broken"), [("units", one_unit_fewer), ("prompt", heard_backwards)]
)
def test_a_reference_that_says_something_else_fails(
    part: str, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reference, part, broken)
    result = CliRunner().invoke(app, COMMAND)
    assert isinstance(result.exception, RuntimeError), result.output
    assert "says something else than one forward over everything" in str(result.exception)


def test_whole_replies_can_be_left_out() -> None:
    options = [*COMMAND, "--threads", str(torch.get_num_threads()), "--no-replies"]
    result = CliRunner().invoke(app, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "first audio by the length" in result.stdout and "whole reply" not in result.stdout


def test_a_picture_of_another_kind_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*COMMAND, "--plot", str(tmp_path / "first-audio.doc")])
    assert result.exit_code == 2
    assert "must end in .png or .svg" in result.stderr and result.stderr.count("\n") == 1


def test_compiled_steps_are_those_of_all_our_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    without_a_compiler = partial(compile_steps, backend="eager")
    monkeypatch.setattr("serve.bench.latency.preparing.compile_steps", without_a_compiler)
    subject = build(SIZES["tiny"], torch.device("cpu"), torch.float32)
    compile_ours(subject)
    blocks = variant(subject, block_frames=10)
    steps = [
        compiled_steps(part) for part in (blocks.model.language_model, blocks.model.unit_decoder)
    ]
    used = [0, 0]
    for place, one in enumerate(steps):
        assert one is not None and one.sizes
        monkeypatch.setattr(one, "run", counted(one.run, used, place))
    clock = clock_of(torch.device("cpu"))
    asked = Asked(waveform=speech(3.0), schedule=None, tokens=6)
    said = Live(blocks, clock).ask(asked)
    plain = Reference(blocks, clock, padded=False).ask(asked)
    assert (said.token_ids, said.units) == (plain.token_ids, plain.units)
    assert used == [5, 6]  # the first token comes of the prompt


def counted(run: Callable[..., Any], used: list[int], place: int) -> Callable[..., Any]:
    def counting(*args: Any) -> Any:
        made = run(*args)
        used[place] += made is not None
        return made

    return counting
