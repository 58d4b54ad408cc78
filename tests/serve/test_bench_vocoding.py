"""The benchmark of chunks against the whole: what it counts, and that it runs."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from omni.vocoder import Fixed, StreamContext, save_vocoder
from serve.bench.vocoding import vocoder_report
from serve.cli import app
from tests.tiny import tiny_vocoder

torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["hifigan", "nsf"])
def test_chunks_of_ten_units_cost_at_most_three_tenths_more_work_than_the_whole(kind: str) -> None:
    vocoder = tiny_vocoder(kind)
    report = vocoder_report(
        vocoder,
        [Fixed(10)],
        StreamContext.recommended(vocoder),
        name=kind,
        units=200,
        repeats=1,
    )
    whole, chunks = report.rows
    assert (whole.chunks, whole.work_ratio, whole.seam_error) == (1, 1.0, 0.0)
    assert chunks.chunks == 20 and 1.0 <= chunks.work_ratio <= 1.3
    assert chunks.seconds > 0 and chunks.real_time_factor > 0


def test_cutting_every_chunk_short_costs_more_work_and_leaves_seams() -> None:
    vocoder = tiny_vocoder("hifigan")
    exact, cut = (
        vocoder_report(vocoder, [Fixed(10)], context, name="", units=60, repeats=1).rows[1]
        for context in (StreamContext.exact(vocoder), StreamContext(right_context_frames=0))
    )
    assert cut.work_ratio > exact.work_ratio + 0.3
    assert cut.border_error > 100 * exact.border_error


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    save_vocoder(tiny_vocoder("nsf"), tmp_path / "vocoder")
    command = ["bench", "vocoder", str(tmp_path / "vocoder"), "--units", "30", "--repeats", "1"]
    command += ["--chunk-units", "10", "--threads", "1", "-o", str(tmp_path / "bench.json")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "30 units" in result.stdout and "1 threads, load" in result.stdout
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [row["schedule"] for row in found["rows"]] == ["all", "10"]
    assert found["torch_threads"] == 1


def test_the_whole_alone_is_nothing_to_compare() -> None:
    result = CliRunner().invoke(app, ["bench", "vocoder", "--chunk-units", "all"])
    assert result.exit_code == 2 and "name another" in result.stderr
