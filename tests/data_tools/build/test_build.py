"""A recipe from text to a data set: killed at any moment, it ends with the same files."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from data_tools.build.recipe import build, check_config, read_recipe, step_of
from data_tools.cli import app
from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Record, read_manifest, write_manifest
from data_tools.sources.splits import SplitStep, asked
from omni.files.errors import UserError
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig, save_speech_encoder
from omni.units.config import UnitsConfig
from omni.units.extractor import UnitExtractor
from tests.paths import ROOT

WORDS = "one two three four five six seven eight nine ten eleven twelve".split()
RECIPE = {
    "read": {"source": "text.jsonl"},
    "steps": [
        {"split": {"test": 0.2}},
        {"speak": {"question": {"voices": ["flite-awb", "flite-kal16", "flite-rms"]}}},
        {"augment": {"telephone_share": 0.5}},
        {"units": {"units": "units", "encoder": "encoder", "batch_size": 4}},
    ],
    "out": "data",
    "seed": 3,
    "check": {"tolerated": 0.2},
}


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    """A folder with a recipe and all that it needs."""
    folder = tmp_path_factory.mktemp("kitchen")
    questions = [
        (f"What comes after {word}?", f"After {word} comes {WORDS[(n + 1) % 12]}.")
        for n, word in enumerate(WORDS)
    ]
    records = [
        Record(
            id=f"after/{n}",
            turns=(
                RecordTurn(role="user", text=question),
                RecordTurn(role="assistant", text=answer),
            ),
        )
        for n, (question, answer) in enumerate(questions)
    ]
    write_manifest(folder / "text.jsonl", records)
    torch.manual_seed(0)
    encoder = SpeechEncoder(
        SpeechEncoderConfig(n_mels=20, width=16, layers=1, heads=2, ffn=32)
    ).eval()
    save_speech_encoder(encoder, folder / "encoder")
    config = UnitsConfig(kind="speech_encoder", name="tiny", layer=1)
    UnitExtractor(config, torch.randn(20, 16), encoder).save(folder / "units")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder


@pytest.fixture(scope="module")
def whole(kitchen) -> dict[str, str]:
    build(kitchen / "recipe.yaml")
    return contents(kitchen / "data")


def contents(folder: Path) -> dict[str, str]:
    """Every file of the data set but the journals, which name times of change."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".steps" not in path.parts
    }


def with_out(kitchen: Path, out: str, **changes: object) -> Path:
    path = kitchen / f"{out}.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"out": out} | changes))
    return path


def test_every_step_of_the_recipe_is_taken(kitchen, whole):
    records = read_manifest(kitchen / "data/records.jsonl").records
    assert [record.id for record in records] == [f"after/{n}" for n in range(12)]
    assert {record.split for record in records} == {"train", "test"}
    for record in records:
        question, answer = record.turns
        assert answer.units and question.units is None
        assert (question.speech or "").startswith("audio/augmented/") == (record.split == "train")


def test_run_again_it_makes_nothing(kitchen, whole):
    built = build(kitchen / "recipe.yaml")
    assert set(built.made.values()) == {0}
    assert contents(kitchen / "data") == whole


@pytest.mark.parametrize("clips", [(4, 15), (26,)], ids=["while speaking", "while augmenting"])
def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_files(kitchen, clips):
    """SIGKILL when so many clips lie there. Units, which need torch, are cut short elsewhere."""
    steps = RECIPE["steps"][:3]
    build(with_out(kitchen, "unharmed", steps=steps))
    out = f"killed{clips[0]}"
    recipe = str(with_out(kitchen, out, steps=steps))
    code = f"from data_tools.build.recipe import build; build({recipe!r})"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    for count in (*clips, 1000):
        before = clips_in(kitchen / out)
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and len(clips_in(kitchen / out)) < count:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == (0 if count == 1000 else -signal.SIGKILL)
        after = clips_in(kitchen / out)
        assert {path: after[path] for path in before} == before  # nothing was made again
    assert contents(kitchen / out) == contents(kitchen / "unharmed")


def clips_in(folder: Path) -> dict[Path, int]:
    """Every clip with its time of change."""
    return {path: path.stat().st_mtime_ns for path in (folder / "audio").rglob("*.wav")}


def test_a_changed_setting_redoes_that_step_and_those_after_it(kitchen, whole):
    path = with_out(kitchen, "changed")
    build(path)
    steps = [*RECIPE["steps"][:2], {"augment": {"telephone_share": 1.0}}, RECIPE["steps"][3]]
    with_out(kitchen, "changed", steps=steps)
    made = build(path).made
    assert made["1-split"] == made["2-speak"] == 0
    train = sum(
        record.split == "train"
        for record in read_manifest(kitchen / "changed/records.jsonl").records
    )
    assert made["3-augment"] == 12 and made["4-units"] == train < 12


def test_questions_asked_alike_fall_into_the_same_split():
    def record(name: str, text: str, split: str = "train") -> Record:
        return Record(id=name, turns=(RecordTurn(role="user", text=text),), split=split)

    step = SplitStep(shares={"test": 0.3, "validation": 0.3})
    records = [record(str(n), f"Question {n}?") for n in range(300)]
    twins = [record(f"{n}b", f"question, {n}") for n in range(300)]
    first, second = step(records), step(twins)
    splits = [r.split for r in first if isinstance(r, Record)]
    assert splits == [r.split for r in second if isinstance(r, Record)]
    assert splits.count("test") == pytest.approx(90, abs=25)
    assert splits.count("validation") == pytest.approx(90, abs=25)
    assert step([record("x", "Question 1?", "holdout")])[0].split == "holdout"  # type: ignore[union-attr]
    assert asked(records[1].turns) == asked(twins[1].turns) == "question 1"
    with pytest.raises(UserError, match="together below 1"):
        SplitStep(shares={"test": 0.6, "validation": 0.4})


def test_every_split_that_a_recipe_asks_for_gets_a_question(tmp_path: Path) -> None:
    rows = [{"instruction": f"Question {n}?", "output": "Yes."} for n in range(5)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "recipe.yaml").write_text(
        "{read: rows.json, steps: [split: {validation: 0.01, test: 0.01}], out: out, check: null}"
    )
    built = build(tmp_path / "recipe.yaml")
    assert built.splits == "train 3, validation 1, test 1"
    splits = [record.split for record in read_manifest(built.manifest).records]
    assert sorted(splits) == ["test", "train", "train", "train", "validation"]


def test_a_held_out_question_stays_held_out_when_the_data_grow(tmp_path: Path) -> None:
    recipe = {"read": {"source": "t.jsonl"}, "steps": [{"split": {"test": 0.2}}], "out": "data"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"check": None}))

    def held_out(count: int) -> set[str]:
        rows = [{"id": str(n), "question": f"What is {n}?", "answer": "It."} for n in range(count)]
        (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        build(tmp_path / "recipe.yaml")
        records = read_manifest(tmp_path / "data/records.jsonl").records
        return {record.id for record in records if record.split == "test"}

    sizes = {count: held_out(count) for count in (40, 41, 60, 100)}
    for few, many in itertools.pairwise(sizes.values()):
        assert few <= many
    assert len(sizes[100]) > len(sizes[40]) > 0


def test_the_recipe_of_the_documentation_is_one(tmp_path):
    page = (ROOT / "docs/data.md").read_text()
    text = next(part for part in page.split("```") if part.startswith("yaml\nread:"))
    (tmp_path / "recipe.yaml").write_text(text.removeprefix("yaml\n"))
    recipe = read_recipe(tmp_path / "recipe.yaml")
    named = [name for entry in recipe.steps for name in entry]
    assert named == ["rewrite", "respond", "split", "speak", "units"]
    steps = [step_of(entry, recipe, tmp_path) for entry in recipe.steps[:-1]]  # units needs a model
    assert [step.name for step in steps] == named[:-1]
    assert check_config({**(recipe.check or {}), "tokenizer": None})[0].upsample == 25


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"colour": 1}, "unknown key 'colour'; known are check"),
        ({"workers": "two"}, "workers='two': must be of type"),
        ({"steps": [{"augment": {"snr_db": "loud"}}]}, "snr_db='loud': must be a list, each of"),
        ({"steps": [{"augment": {"snr": [1, 2]}}]}, "step augment: unknown key 'snr'; known are"),
        ({"steps": [{"sing": {}}]}, "step 'sing': must be one of"),
        ({"steps": [{"speak": {"loud": True}}]}, "step speak: .*loud"),
        ({"steps": [{"speak": {}, "units": {}}]}, "write one NAME"),
        ({"read": {"source": "text.jsonl", "radio": 1}}, "read: .*radio"),
        ({"read": {"limit": 2}}, "needs source"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(kitchen, changes, rule):
    with pytest.raises(UserError, match=rule):
        build(with_out(kitchen, "wrong", **changes))


def test_a_recipe_that_lacks_something_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_text("read: text.jsonl\nout: data\n")
    with pytest.raises(UserError, match="'steps' is missing"):
        read_recipe(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("read: [")
    with pytest.raises(UserError, match="not YAML"):
        read_recipe(tmp_path / "r.yaml")


def test_a_check_that_can_not_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    write_manifest(tmp_path / "text.jsonl", [])
    recipe = {"read": {"source": "text.jsonl"}, "steps": [], "out": "data", "check": {"lamp": 1}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    refused = CliRunner().invoke(app, ["build", str(tmp_path / "recipe.yaml")])
    assert refused.exit_code == 2 and "lamp" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_the_command_builds_checks_and_reports(kitchen, whole):
    done = CliRunner().invoke(app, ["build", str(kitchen / "recipe.yaml")])
    assert done.exit_code == 0, done.output
    assert "12 records" in done.output and "fit to train on" in done.output
    report = json.loads((kitchen / "data/report.json").read_text())
    assert report["records"] == 12 and report["fit"]
    for name in ("report.json", "report.html"):
        (kitchen / "data" / name).unlink()
