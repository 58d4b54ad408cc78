"""Tuning: playback is replayed rightly, the choice keeps its rules, the checkpoint is written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import serve.tune.tuning as tune
from omni.files.errors import UserError
from omni.files.folders import CheckpointError
from omni.session.config import SessionConfig
from omni.session.events import Chunk
from omni.vocoder.chunking import parse_schedule, stored_schedule
from serve.cli import app
from serve.tune.drawing import plot
from tests.tiny import tiny_model, tiny_processor


def chunk(at_ms: float, duration_ms: float) -> Chunk:
    return Chunk(units=1, samples=round(duration_ms * 16), at_ms=at_ms, tokens=1)


def row(schedule: str, *, latency: float, seam: float = 0.0, underruns: int = 0) -> tune.Row:
    return tune.Row(
        schedule=schedule, replies=1, first_audio_p50_ms=latency, first_audio_p95_ms=latency,
        lagging_words=1.0, real_time_factor=0.5, underruns=underruns, stalled_ms=0.0,
        seam_error=seam, border_error=seam,
    )  # fmt: skip


def a_report(rows: tuple[tune.Row, ...], best: str | None) -> tune.Report:
    machine = tune.Machine(cores=2, torch_threads=1, device="cpu", load_before=0.1, load_after=0.2)
    return tune.Report(
        rows=rows, best=best, budget_ms=300.0, questions=1, mute=0, repeats=1, machine=machine
    )


def test_chunks_in_time_play_without_a_stall() -> None:
    played = tune.play([chunk(100, 200), chunk(250, 200), chunk(500, 50)])
    assert (played.underruns, played.stalled_ms) == (0, 0.0)


def test_a_late_chunk_stalls_the_player_and_delays_what_follows() -> None:
    # The first ends at 300; the second comes at 350 and ends at 450; the third is in time again.
    played = tune.play([chunk(100, 200), chunk(350, 100), chunk(440, 100)])
    assert (played.underruns, played.stalled_ms) == (1, 50.0)


def test_nothing_said_never_stalls() -> None:
    assert tune.play([]).underruns == 0


def test_the_earliest_of_those_that_sound_alike_is_chosen() -> None:
    rows = [
        row("all", latency=900),
        row("40", latency=300, seam=9e-3),
        row("10", latency=150, seam=0.05),
    ]
    best = tune.choose(rows, budget_ms=None)
    assert best is not None and best.schedule == "40"


def test_the_budget_excludes_what_sounds_better_but_late() -> None:
    rows = [row("40", latency=300), row("10", latency=150, seam=0.05)]
    best = tune.choose(rows, budget_ms=200)
    assert best is not None and best.schedule == "10"
    assert tune.choose(rows, budget_ms=100) is None


def test_a_stalling_schedule_is_chosen_last() -> None:
    rows = [row("10", latency=100, underruns=3), row("20", latency=200, seam=0.05)]
    best = tune.choose(rows, budget_ms=None)
    assert best is not None and best.schedule == "20"


def test_the_schedule_is_written_and_the_other_settings_stay(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    (tmp_path / "generation_config.json").write_text(
        '{"eos_token_id": 7, "_from_model_config": true}'
    )
    tune.write_schedule(tmp_path, "10,40", None)
    settings = GenerationConfig.from_pretrained(tmp_path)
    assert settings.eos_token_id == 7
    assert stored_schedule(settings) == parse_schedule("10,40")


def test_a_right_context_is_written_with_the_schedule_that_it_was_measured_with(
    tmp_path: Path,
) -> None:
    path = tune.write_schedule(tmp_path, "10", 8)
    assert json.loads(path.read_text()) == {"chunk_schedule": "10", "right_context_frames": 8}
    tune.write_schedule(tmp_path, "20", None)
    assert json.loads(path.read_text()) == {"chunk_schedule": "20"}


def test_a_hub_id_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no local folder"):
        tune.write_schedule(tmp_path / "someone" / "model", "10", None)


def test_the_plot_marks_the_choice(tmp_path: Path) -> None:
    report = a_report((row("10", latency=100, seam=0.01), row("all", latency=500)), best="10")
    for name in ("tune.png", "tune.svg"):
        plot(report, tmp_path / name)
    assert (tmp_path / "tune.png").read_bytes().startswith(b"\x89PNG")
    assert "10 (chosen)" in (tmp_path / "tune.svg").read_text()


@pytest.fixture(scope="module")
def measured() -> list[tune.Measurement]:
    rng = np.random.default_rng(0)
    questions = [rng.normal(0, 0.1, n).astype(np.float32) for n in (8_000, 12_000)]
    schedules = [parse_schedule(word) for word in ("2", "2,5", "all")]
    return list(
        tune.measure(
            tiny_model(), tiny_processor(), questions, schedules,
            SessionConfig(max_new_tokens=12), repeats=2,
        )
    )  # fmt: skip


def test_schedules_take_turns(measured: list[tune.Measurement]) -> None:
    assert [m.schedule for m in measured[:3]] == ["2", "2,5", "all"]
    assert [m.question for m in measured] == [0, 0, 0, 1, 1, 1] * 2


def test_the_whole_reply_has_no_seams_and_comes_last(measured: list[tune.Measurement]) -> None:
    rows = {row.schedule: row for row in tune.summarise(measured)}
    assert rows["all"].seam_error < 1e-4
    assert rows["all"].lagging_words >= rows["2"].lagging_words
    assert all(row.replies == 4 for row in rows.values())


def test_a_schedule_that_changes_the_reply_is_a_loud_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listen = tune._listen

    def disobedient(session, question):  # says one unit more in chunks of two
        reply = listen(session, question)
        if session._config.schedule == parse_schedule("2"):
            reply = replace(reply, done=replace(reply.done, units=[*reply.done.units, 1]))
        return reply

    monkeypatch.setattr(tune, "_listen", disobedient)
    question = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    schedules = [parse_schedule("all"), parse_schedule("2")]
    config = SessionConfig(max_new_tokens=12)
    with pytest.raises(RuntimeError, match="schedule 2 changed the reply"):
        list(tune.measure(tiny_model(), tiny_processor(), [question], schedules, config))


def test_a_checkpoint_without_a_voice_cannot_be_tuned() -> None:
    model = tiny_model()
    model.vocoder = None
    with pytest.raises(UserError, match="no voice"):
        list(tune.measure(model, tiny_processor(), [], [], SessionConfig()))


def test_mute_replies_only_are_an_error() -> None:
    with pytest.raises(UserError, match="no reply has any sound"):
        tune.report([], questions=3, repeats=1, budget_ms=None, device="cpu", load_before=0.0)


def test_the_command_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omni.audio import save_wav

    checkpoint = tmp_path / "checkpoint"
    tiny_model().save_pretrained(checkpoint, self_contained=True, processor=tiny_processor())
    save_wav(tmp_path / "question.wav", np.random.default_rng(0).normal(0, 0.1, 8_000))
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app,
        [
            "tune", "--questions", str(tmp_path), "--checkpoint", str(checkpoint),
            "--chunk-units", "2", "--chunk-units", "2,4", "--chunk-units", "all",
            "--repeats", "1", "--output", str(out), "--write",
            "--right-context-frames", "5",
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads((out / "tune.json").read_text())
    assert [row["schedule"] for row in found["rows"]] == ["2", "2,4", "all"]
    settings = json.loads((checkpoint / "generation_config.json").read_text())
    assert settings["chunk_schedule"] == found["best"]
    assert settings["right_context_frames"] == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--questions", "nowhere.wav"], "nowhere.wav: no such file"),
        (["--chunk-units", "10,ten"], "chunk schedule '10,ten'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["tune", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and says in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["tune", "--questions", str(tmp_path)])
    assert result.exit_code == 2
    assert "no recordings" in result.stderr
