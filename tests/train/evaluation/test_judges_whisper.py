"""Whisper as a judge: which weights are found, by what they are run, and what is refused."""

import importlib.util
import os
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from data_tools.manifest.record import Manifest, Record, RecordTurn
from omni.audio import load_audio
from omni.files.errors import UserError
from omni.files.folders import CheckpointError
from omni.metrics import word_error_rate
from omni.speech_encoder import save_speech_encoder
from tests.paths import DATA
from tests.tiny import question, tiny_model
from tests.tiny_whisper import write_openai, write_transformers
from train.evaluation.choosing import choose_ear, common_language
from train.evaluation.judges import POCKETSPHINX

torch.set_num_threads(1)
CT2 = [Path(name) for name in os.environ.get("OMNI_CTRANSLATE2", "").split(os.pathsep) if name]


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformers(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own folder of fetched bases, and no hub: what would be downloaded is told."""

    def snapshot_download(name: str, **options: object) -> str:
        if options.get("local_files_only"):
            raise LocalEntryNotFoundError(f"{name} is not here")
        raise OSError(f"{name} was to be downloaded")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setenv("OMNI_BASES", str(tmp_path / "bases"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "bases"


def heard_by(source: Path) -> list[str]:
    """Of a short and of a long recording, once more of the short one, and of nothing."""
    recogniser = choose_ear(str(source)).make(None)
    short, long = question(1.0), question(32.0)
    return [recogniser.hear(wave) for wave in (short, long, short, np.zeros(0, np.float32))]


def test_a_folder_of_transformers_hears_short_and_long_recordings(whisper_folder: Path) -> None:
    short, long, again, nothing = heard_by(whisper_folder)
    assert short and long and again == short and nothing == ""
    ear = choose_ear(str(whisper_folder))
    assert ear.name == "Whisper tiny by transformers" and ear.normaliser == "whisper-en"


def test_a_folder_of_ctranslate2_is_heard_by_faster_whisper(
    whisper_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("faster_whisper")
    from ctranslate2.converters import TransformersConverter

    folder = tmp_path / "converted"
    TransformersConverter(str(whisper_folder), copy_files=["tokenizer.json"]).convert(str(folder))
    short, _, again, nothing = heard_by(folder)
    assert short and again == short and nothing == ""
    assert choose_ear(str(folder)).name == "Whisper converted by faster-whisper"


def test_a_file_of_openai_is_heard_by_its_own_package(tmp_path: Path) -> None:
    pytest.importorskip("whisper")
    file = write_openai(tmp_path / "tiny.pt")
    short, _, again, nothing = heard_by(file)
    assert short and again == short and nothing == ""
    assert choose_ear(str(file)).name == "Whisper tiny.pt by openai-whisper"


@pytest.mark.skipif(
    not CT2 or importlib.util.find_spec("faster_whisper") is None,
    reason="OMNI_CTRANSLATE2 names no folder of CTranslate2, or faster-whisper is not installed",
)
@pytest.mark.parametrize("folder", CT2, ids=str)
def test_a_published_whisper_hears_every_word_of_a_clear_question(folder: Path) -> None:
    ear = choose_ear(str(folder))
    said = ear.make(None).hear(load_audio(DATA / "llama_omni" / "question_slt.flac"))
    true = "What is the capital of France? And how many people live there?"
    assert word_error_rate([true], [said], normaliser=ear.normaliser).errors == 0


def test_auto_is_pocketsphinx_where_no_whisper_is_and_asks_the_hub_for_nothing(
    bases: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="train"):
        assert choose_ear("auto") is POCKETSPHINX
    assert "pocketsphinx judges instead" in caplog.text
    assert choose_ear("pocketsphinx") is POCKETSPHINX


def test_auto_is_whisper_base_where_it_is(bases: Path, whisper_folder: Path) -> None:
    (bases / "openai").mkdir(parents=True)
    (bases / "openai" / "whisper-base").symlink_to(whisper_folder)
    assert choose_ear("auto").name == "Whisper base by transformers"


def test_an_encoder_alone_is_no_judge(bases: Path) -> None:
    folder = bases / "openai" / "whisper-base"
    save_speech_encoder(tiny_model(vocoder=None).speech_encoder, folder)
    assert choose_ear("auto") is POCKETSPHINX
    with pytest.raises(UserError, match="encoder alone; a judge needs the decoder"):
        choose_ear(str(folder))
    with pytest.raises(CheckpointError, match="openai/whisper-base was to be downloaded"):
        choose_ear("openai/whisper-base")  # named by its id: fetched anew, and whole


def test_a_size_that_is_not_here_is_told_with_its_hub_ids(bases: Path) -> None:
    with pytest.raises(UserError, match=r"judge 'tiny\.en': .*Systran/faster-whisper-tiny\.en"):
        choose_ear("tiny.en")


@pytest.mark.parametrize(
    ("engine", "module", "extra"),
    [("faster-whisper", "faster_whisper", "judge"), ("openai-whisper", "whisper", "whisper")],
)
def test_an_engine_that_is_missing_is_named_with_its_extra(
    engine: str, module: str, extra: str, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"{module}: not installed.*omni-speech\[{extra}\]"):
        choose_ear("base", engine=engine)


def test_an_engine_that_can_not_read_the_folder_is_refused(whisper_folder: Path) -> None:
    with pytest.raises(UserError, match="is a folder of transformers, which faster-whisper can't"):
        choose_ear(str(whisper_folder), engine="faster-whisper")
    with pytest.raises(UserError, match="judge engine 'vosk': must be auto or one of"):
        choose_ear(str(whisper_folder), engine="vosk")


def test_what_is_no_whisper_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Whisper; a judge is one of"):
        choose_ear(str(tmp_path))


def test_another_language_has_no_english_normaliser(whisper_folder: Path) -> None:
    assert choose_ear(str(whisper_folder), language="de").normaliser == "basic"


def test_the_judge_hears_the_language_that_most_is_said_in() -> None:
    turn = (RecordTurn(role="user", text="Hallo."),)
    records = [
        Record(id=str(place), turns=turn, language=language)
        for place, language in enumerate(("en", "de-at", "de"))
    ]
    assert common_language(Manifest(records=records, root=Path())) == "de"
