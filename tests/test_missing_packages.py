"""What misses an extra says so at once, with its remedy, before any work begins."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_tools.manifest import Manifest
from omni.files.errors import UserError
from omni.files.optional import need
from tests.commands import APPS


def test_what_is_installed_is_not_complained_of() -> None:
    need("jiwer", "eval", "this test")


def test_what_is_missing_is_named_with_its_remedy() -> None:
    with pytest.raises(UserError) as caught:
        need("no_such_package", "eval", "hearing")
    assert str(caught.value) == (
        "no_such_package: not installed, and hearing needs it; run: pip install 'omni-speech[eval]'"
    )


@pytest.mark.parametrize(
    ("missing", "extra", "command"),
    [
        ("matplotlib", "serve", "omni-serve tune --checkpoint nowhere"),
        ("sklearn", "train", "omni-train units nowhere.jsonl --speech-encoder nowhere -o out"),
        ("ray", "ray", "omni-data speak nowhere.jsonl -o out.jsonl --executor ray"),
        ("ray", "cluster", "omni-serve run --engine ray --port 0"),
    ],
)
def test_a_command_says_it_before_it_reads_anything(
    missing: str, extra: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.chdir(tmp_path)
    name, *arguments = command.split()
    result = CliRunner().invoke(APPS[name], arguments)
    assert result.exit_code == 2, result.output
    assert f"{missing}: not installed" in result.stderr
    assert f"pip install 'omni-speech[{extra}]'" in result.stderr
    assert result.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_training_says_it_before_it_loads_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train.bases.encoder import train_encoder
    from train.bases.lm import train_lm
    from train.stages.named import STAGE1, STAGE2
    from train.stages.recipes import nano_bases, nano_vocoder
    from train.stages.stage1 import train_stage1
    from train.stages.stage2 import train_stage2
    from train.voice.vocoder import train_vocoder

    nothing = Manifest(records=[], root=tmp_path)
    bases, voice = nano_bases(), nano_vocoder()
    trainings = [
        lambda: train_lm(nothing, size=bases.lm, loop=bases.lm_loop, output=tmp_path / "out"),
        lambda: train_encoder(
            [], [], architecture=bases.encoder, loop=bases.encoder_loop, output=tmp_path / "out"
        ),
        lambda: train_stage1(
            nothing, speech_encoder="nowhere", language_model="nowhere",
            recipe=STAGE1["nano"](), output=tmp_path / "out",
        ),
        lambda: train_stage2("nowhere", nothing, recipe=STAGE2["nano"](), output=tmp_path / "out"),
        lambda: train_vocoder(
            [], [], architecture=voice.architecture, loop=voice.loop, output=tmp_path / "out"
        ),
    ]  # fmt: skip
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for training in trainings:
        with pytest.raises(UserError, match=r"tensorboard: .*'omni-speech\[train\]'"):
            training()
    assert list(tmp_path.iterdir()) == []


def test_deepspeed_is_asked_for_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from train.loop import check_installed
    from train.stages.recipes import nano_bases

    monkeypatch.setitem(sys.modules, "deepspeed", None)
    loop = nano_bases().lm_loop
    check_installed(loop)
    with pytest.raises(UserError, match=r"deepspeed: .*'omni-speech\[deepspeed\]'"):
        check_installed(replace(loop, deepspeed="zero3.json"))


@pytest.mark.parametrize("missing", ["tensorboard", "sklearn", "jiwer", "pocketsphinx"])
def test_the_nano_is_not_begun_without_what_its_last_part_needs(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train.nano import NANO

    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"{missing}: .*omni-speech\[(train|eval)\]"):
        NANO.build_all(tmp_path)


def test_evaluation_says_it_before_it_loads_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train.evaluation.evaluate import Evaluation, EvaluationConfig

    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(UserError, match=r"jiwer: .*'omni-speech\[eval\]'"):
        Evaluation(
            "nowhere",
            Manifest(records=[], root=tmp_path),
            EvaluationConfig(splits=("test",)),
            tmp_path,
        )


def test_a_rating_that_will_be_missing_is_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from train.evaluation.quality import load_dnsmos

    monkeypatch.setitem(sys.modules, "speechmos", None)
    assert load_dnsmos() is None
    assert "omni-speech[metrics]" in caplog.text
