"""Speech from servers, programs and models: what comes back, and what happens when it doesn't."""

import io
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from data_tools.speech.speak import SAMPLE_RATE
from data_tools.speech.tts import (
    CommandConfig,
    OpenAiConfig,
    OpenAiTts,
    TransformersConfig,
    TransformersTts,
    engine_config,
    settings_of,
)
from data_tools.speech.voices import Voice
from data_tools.steps.service import RetryConfig, ServiceError
from omni.files.errors import UserError
from tests.standin import Answer, StandIn, stand_in

ALLOY = Voice("openai", "alloy")


def wav(seconds: float = 0.5, rate: int = 24_000, kind: str = "WAV") -> bytes:
    """A tone as a server would send it."""
    time = np.arange(round(seconds * rate)) / rate
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * 300 * time), rate, format=kind)
    return file.getvalue()


@pytest.fixture
def service() -> Iterator[StandIn]:
    with stand_in(lambda request: Answer(wav(), headers={"content-type": "audio/wav"})) as service:
        yield service


def client(service: StandIn, waits: list[float], **options: Any) -> OpenAiTts:
    retry = RetryConfig(attempts=4, first_wait_s=0.5, timeout_s=options.pop("timeout_s", 5.0))
    config = OpenAiConfig(url=service.url, model="cosy", retry=retry, **options)
    return OpenAiTts(config, sleep=waits.append)


def test_the_server_is_asked_as_openai_specifies_and_its_audio_comes_at_16_khz(
    service, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    tts = client(service, [], extra={"instructions": "calmly"})
    waveform = tts.speak("Hello.", Voice.parse("openai-alloy:speed=1.1"))
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(0.5 * SAMPLE_RATE, abs=20)
    assert service.requests == [
        {
            "path": "/v1/audio/speech", "model": "cosy", "input": "Hello.", "voice": "alloy",
            "response_format": "wav", "speed": 1.1, "instructions": "calmly",
        }
    ]  # fmt: skip
    assert service.keys == ["Bearer secret"]


FAULTS = {
    "busy": Answer(b"slow down", 429),
    "broken": Answer(b"oops", 500),
    "truncated connection": Answer(wav()[:2000], declared=20_000),
    "truncated file": Answer(wav()[:2000]),
    "truncated flac": Answer(wav(kind="FLAC")[:40]),
    "an error as JSON": Answer(json.dumps({"error": "no voice"}).encode()),
    "invalid JSON": Answer(b'{"error": '),
    "nothing": Answer(b""),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_that_may_pass_is_tried_again(service, name):
    service.script = [FAULTS[name], FAULTS[name]]
    waits: list[float] = []
    assert len(client(service, waits).speak("Hello.", ALLOY)) > 7000
    assert len(service.requests) == 3
    assert waits == [0.5, 1.0]


def test_a_server_that_does_not_answer_in_time_is_asked_again(service):
    service.script = [Answer(wav(), delay_s=0.6)]
    assert len(client(service, [], timeout_s=0.2).speak("Hello.", ALLOY)) > 7000
    assert len(service.requests) == 2


def test_the_wait_that_the_server_asks_for_is_kept(service):
    service.script = [Answer(b"", 429, headers={"retry-after": "7"})]
    waits: list[float] = []
    client(service, waits).speak("Hello.", ALLOY)
    assert waits == [7.0]


def test_a_fault_that_stays_ends_the_run_and_says_what_it_was(service):
    service.script = [Answer(b"the model is loading", 503)] * 9
    with pytest.raises(ServiceError, match=r"in 4 attempts.*503: the model is loading"):
        client(service, []).speak("Hello.", ALLOY)
    assert len(service.requests) == 4


def test_a_server_that_is_not_there_ends_the_run(service):
    tts = client(service, [])
    tts.config = OpenAiConfig(url="http://127.0.0.1:9/v1", model="x", retry=tts.config.retry)
    with pytest.raises(ServiceError, match="ConnectError"):
        tts.speak("Hello.", ALLOY)


def test_a_wrong_key_ends_the_run_at_once_and_a_refused_text_is_that_texts_fault(service):
    service.script = [Answer(b"bad key", 401)]
    with pytest.raises(ServiceError, match=r"401: bad key.*check the address, the key"):
        client(service, []).speak("Hello.", ALLOY)
    service.script = [Answer(b"too long", 400)]
    with pytest.raises(ValueError, match="400: too long"):
        client(service, []).speak("Hello.", ALLOY)
    assert len(service.requests) == 2


def test_streamed_wavs_that_do_not_know_their_length_are_taken(service):
    endless = bytearray(wav())
    endless[4:8] = b"\xff\xff\xff\xff"
    service.script = [Answer(bytes(endless))]
    assert len(client(service, []).speak("Hello.", ALLOY)) > 7000
    assert len(service.requests) == 1


COPY = f"""{sys.executable} -c "
import sys, numpy, soundfile
text, out, voice = sys.argv[1:]
soundfile.write(out, numpy.full(100 * len(text), 0.1 * int(voice)), 8000)
" """


def test_a_program_gets_the_text_as_one_argument_whatever_it_holds():
    tts = CommandConfig(command=COPY + "{text} {out} {voice}").build()
    text = "say \"$HOME\" {out} ; 'quoted'"
    waveform = tts.speak(text, Voice("command", "3"))
    assert len(waveform) == pytest.approx(200 * len(text), abs=10)
    assert np.median(waveform) == pytest.approx(0.3, abs=0.01)
    tts.close()


def test_a_program_without_a_place_for_the_text_reads_it():
    script = (
        "import sys, numpy, soundfile; samples = numpy.ones(100 * len(sys.stdin.read())) / 2; "
        "soundfile.write(sys.argv[1], samples, 16000)"
    )
    tts = CommandConfig(command=f"{sys.executable} -c '{script}' {{out}}").build()
    assert len(tts.speak("ten chars.", Voice("command", "default"))) == 1000
    tts.close()


@pytest.mark.parametrize(
    ("script", "rule"),
    [("import sys; sys.exit('no such voice')", "no such voice"), ("pass", "no such file")],
)
def test_a_program_that_fails_or_writes_nothing_is_named(script, rule):
    tts = CommandConfig(command=f'{sys.executable} -c "{script}" {{out}}').build()
    with pytest.raises(ValueError, match=rule):
        tts.speak("Hello.", Voice("command", "default"))
    tts.close()


def test_a_program_that_hangs_is_given_up():
    command = f'{sys.executable} -c "import time; time.sleep(9)" {{out}}'
    tts = CommandConfig(command=command, timeout_s=0.3).build()
    with pytest.raises(ServiceError, match="took over"):
        tts.speak("Hello.", Voice("command", "default"))
    tts.close()


@pytest.fixture(scope="module")
def vits(tmp_path_factory) -> str:
    """A tiny VITS with random weights, three speakers and letters as tokens."""
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    folder = tmp_path_factory.mktemp("vits")
    letters = {c: i for i, c in enumerate("_ abcdefghijklmnopqrstuvwxyz")}
    (folder / "letters.json").write_text(json.dumps(letters))
    tokenizer = VitsTokenizer(
        str(folder / "letters.json"), pad_token="_", unk_token="_", phonemize=False,
        is_uroman=False, normalize=True,
    )  # fmt: skip
    torch.manual_seed(0)
    config = VitsConfig(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        ffn_dim=16, flow_size=16, spectrogram_bins=9, num_speakers=3, speaker_embedding_size=4,
        upsample_initial_channel=16, upsample_rates=[8, 8], upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3, 5]], prior_encoder_num_flows=2,
        posterior_encoder_num_wavenet_layers=1, prior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=2, wavenet_dilation_rate=1, depth_separable_num_layers=1,
        sampling_rate=16_000, use_stochastic_duration_prediction=False,
    )  # fmt: skip
    VitsModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_transformers_model_speaks_a_text_alike_each_time_and_by_each_speaker(vits):
    tts = TransformersConfig(model=vits).build()
    first = tts.speak("hello there", Voice("transformers", "0"))
    tts.speak("something else", Voice("transformers", "0"))
    np.testing.assert_array_equal(tts.speak("hello there", Voice("transformers", "0")), first)
    assert first.dtype == np.float32 and first.ndim == 1 and len(first) > 100
    other = tts.speak("hello there", Voice("transformers", "2"))
    assert len(other) != len(first) or not np.array_equal(other, first)
    with pytest.raises(ValueError, match="speakers 0 to 2"):
        tts.speak("hello", Voice("transformers", "3"))
    assert vits in tts.versions()["transformers"]


def asked(kind: str, voice: str, **options: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a pipeline of this kind of model is called with."""
    calls: list[Any] = []

    def pipeline(*arguments: Any, **named: Any) -> dict[str, Any]:
        calls.append((arguments, named))
        return {"audio": np.full((1, 4800), 0.2), "sampling_rate": 24_000}

    pipeline.model = SimpleNamespace(config=SimpleNamespace(model_type=kind))
    tts = TransformersTts(TransformersConfig(model="m", **options), pipeline)
    assert len(tts.speak("hello", Voice("transformers", voice))) == 3200
    return calls[0]


def test_each_kind_of_model_is_told_its_speaker_in_its_own_way(tmp_path):
    np.save(tmp_path / "anna.npy", np.arange(512))
    assert asked("bark", "v2/en_speaker_6")[1] == {
        "preprocess_params": {"voice_preset": "v2/en_speaker_6"}
    }
    assert asked("csm", "1")[0] == ("[1]hello",)
    assert asked("vits", "default") == (("hello",), {})
    named = asked("speecht5", "anna", speakers=str(tmp_path))[1]
    assert named["forward_params"]["speaker_embeddings"].shape == (1, 512)
    with pytest.raises(UserError, match="needs its x-vector"):
        asked("speecht5", "otto", speakers=str(tmp_path))
    with pytest.raises(UserError, match="transformers-default only"):
        asked("fastspeech2_conformer", "5")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"kind": "siri"}, "must be one of installed, transformers, openai, command"),
        ({"kind": "openai", "url": "x", "model": "y", "colour": 1}, "colour"),
        ({"kind": "command", "command": "say {text}"}, r"by \{out\}"),
        ({"kind": "transformers"}, "model"),
    ],
)
def test_a_wrong_engine_in_a_recipe_is_named(options, rule):
    with pytest.raises(UserError, match=rule):
        engine_config(**options)


def test_how_often_and_where_a_server_is_asked_does_not_change_what_is_made():
    one = engine_config("openai", url="http://a/v1", model="m", retry={"attempts": 2})
    other = engine_config("openai", url="http://b/v1", model="m")
    assert settings_of(one) == settings_of(other)
    assert settings_of(one) != settings_of(engine_config("openai", url="http://a/v1", model="n"))
