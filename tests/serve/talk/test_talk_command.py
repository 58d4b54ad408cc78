"""`omni-serve talk`: questions from files to a served nano, and talking without any device."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from omni.engine import Engine
from omni.files import UserError
from omni.loading import NANO, load
from serve.cli import app
from serve.talk.client import WIRE_RATE, RealtimeClient
from serve.talk.speaking import Loudspeaker, converse, talk_by_microphone
from serve.web.app import create_app
from serve.web.running import model_of
from serve.web.settings import ServeSettings
from tests.realtime import served

torch.set_num_threads(1)
QUESTIONS = NANO.parent / "questions"
FRANCE, FEBRUARY = QUESTIONS / "1-capital-of-france.wav", QUESTIONS / "7-after-february.wav"
KEY = "correct-horse"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    settings = ServeSettings(api_keys=(KEY,))
    model, processor = load()
    with (
        Engine(model, processor, max_sessions=2) as engine,
        served(create_app(settings, engine, model_of(settings, model, processor))) as port,
    ):
        yield f"ws://127.0.0.1:{port}/v1/realtime"


def talk(*options: object, key: str | None = KEY) -> Result:
    return CliRunner().invoke(app, ["talk", *map(str, options)], env={"OMNI_API_KEY": key})


def refused(*options: object, key: str | None = KEY) -> str:
    result = talk(*options, key=key)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    return result.stderr


def test_a_recorded_question_is_answered_in_words_and_in_a_file(url: str, tmp_path: Path) -> None:
    saved = tmp_path / "answer.wav"
    result = talk(FRANCE, "--save", saved, "--url", url, "--chunk-units", "20")
    assert (result.exit_code, result.stdout) == (0, "The capital of France is Paris.\n")
    samples, rate = soundfile.read(saved)
    assert rate == WIRE_RATE and len(samples) > rate and abs(samples).max() > 0.05


def test_several_questions_have_a_file_for_each_answer(url: str, tmp_path: Path) -> None:
    result = talk(FRANCE, FEBRUARY, "--save", tmp_path / "a.wav", "--url", url)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"a-1.wav", "a-2.wav"}


def test_what_the_server_refuses_is_told_in_its_words(url: str, tmp_path: Path) -> None:
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(16_000), 16_000)
    assert "of silence" in refused(silent, "--url", url)
    assert "session.omni.chunk_size" in refused(FRANCE, "--url", url, "--chunk-units", "often")


def test_without_a_server_or_its_key_the_remedy_is_told(url: str) -> None:
    assert "wants a key" in refused(FRANCE, "--url", url, key="wrong-key")
    assert "ws://" in refused(FRANCE, "--url", "localhost")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = refused(FRANCE, "--url", f"ws://127.0.0.1:{port}/v1/realtime")
    assert "omni-serve run" in told


def test_what_cannot_be_is_told_before_anybody_is_called(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nothing.wav")
    assert "--save" in refused("--save", tmp_path / "a.wav")
    assert "does not exist" in refused(FRANCE, "--save", tmp_path / "nowhere" / "a.wav")


@pytest.mark.parametrize("name", ["answer", "answer.xyz"])
def test_a_bad_suffix_is_told_before_asking(url: str, tmp_path: Path, name: str) -> None:
    assert f"{name}: its suffix" in refused(FRANCE, "--save", tmp_path / name, "--url", url)


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "omni-speech[talk]" in refused()


def test_without_a_device_recorded_questions_are_offered(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoDevice(Exception):
        pass

    def missing(**_: Any) -> None:
        raise NoDevice("Error querying device -1")

    package = SimpleNamespace(InputStream=missing, OutputStream=missing, PortAudioError=NoDevice)
    monkeypatch.setitem(sys.modules, "sounddevice", package)
    with (
        RealtimeClient(url, KEY) as client,
        pytest.raises(UserError, match=r"omni-serve talk question\.wav"),
    ):
        talk_by_microphone(client, print)


# Loudspeaker


def filled(loudspeaker: Loudspeaker, samples: int) -> list[int]:
    block = np.full(samples, 7, np.int16)
    loudspeaker.fill(block)
    return block.tolist()


def test_pieces_are_played_without_a_gap_and_silence_follows() -> None:
    loudspeaker = Loudspeaker()
    loudspeaker.play("a", np.array([1, 2, 3], np.int16))
    loudspeaker.play("a", np.array([4, 5], np.int16))
    assert filled(loudspeaker, 4) == [1, 2, 3, 4]
    assert filled(loudspeaker, 3) == [5, 0, 0]
    assert loudspeaker.stop() is None


def test_what_was_heard_of_the_answer_that_is_cut_is_known() -> None:
    loudspeaker = Loudspeaker()
    loudspeaker.play("a", np.ones(240, np.int16))
    loudspeaker.play("b", np.ones(24_000, np.int16))
    filled(loudspeaker, 240 + 2_400)
    assert loudspeaker.stop() == ("b", 100)
    assert filled(loudspeaker, 2) == [0, 0]


def test_speech_stops_the_answer_and_tells_the_server_how_much_was_heard() -> None:
    sent: list[dict[str, Any]] = []
    client: Any = SimpleNamespace(send=lambda type, **fields: sent.append({"type": type, **fields}))
    loudspeaker = Loudspeaker()
    loudspeaker.play("a", np.ones(24_000, np.int16))
    filled(loudspeaker, 12_000)
    started = {"type": "input_audio_buffer.speech_started", "item_id": "q", "audio_start_ms": 0}
    converse(client, [started], loudspeaker, lambda words: None)
    (told,) = sent
    assert told["type"] == "conversation.item.truncate"
    assert (told["item_id"], told["audio_end_ms"]) == ("a", 500)
    assert filled(loudspeaker, 2) == [0, 0]
