"""The whole program beside a CPU: nothing is made on, or left on, another device than asked for."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel

from data_tools.encode.features import FeaturesConfig, extract_features
from data_tools.manifest import read_manifest
from omni.audio import save_wav
from omni.ctc import best_units
from omni.frame_cache import CLEAN
from omni.model import OmniForConditionalGeneration
from omni.prompt import IGNORE, Message
from omni.session import SessionConfig, SpeechSession
from omni.session.events import AudioDelta, Done
from omni.session.sampling import Sampling
from omni.units import UnitExtractor, UnitsConfig
from omni.values import Frames
from omni.vocoder import vocode
from omni.vocoder.chunking import Fixed
from tests.standin_device import MixedDevices, standin_device
from tests.tiny import UNITS, question, tiny_model, tiny_processor, tiny_records, tiny_vocoder
from train.data.batches import Collate, Dialogues, Prepared, examples, on_device
from train.data.features import LiveEars
from train.evaluation.answers import generate, speak_answers
from train.evaluation.evaluate import Evaluation, EvaluationConfig
from train.stages.stage2 import LearnsToSpeak
from train.voice.discriminators import DiscriminatorConfig, Discriminators
from train.voice.kmeans import label_corpus
from train.voice.learning import LearnsToSound, LossWeights

torch.set_num_threads(1)
CPU = torch.device("cpu")
RECORDINGS = [question(0.7, 0), question(1.2, 1)]


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA GPU"))])  # fmt: skip
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "cuda":
        yield torch.device("cuda", 0)
        return
    with standin_device() as there:
        yield there


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_records(tmp_path_factory.mktemp("data"))


def batch(data: Path, model: OmniForConditionalGeneration) -> dict[str, torch.Tensor]:
    """A padded batch of stage 1, where the model lies."""
    processor = tiny_processor()
    ears = LiveEars(processor, augmentation=None, seed=0)
    items = examples(read_manifest(data), "train")[:3]
    rows = Dialogues(items, processor, ears)
    return on_device(Collate(processor, ears)([rows[i] for i in range(3)]), model.device)


def agree(made: torch.Tensor, expected: torch.Tensor, device: torch.device) -> None:
    assert made.device == device
    torch.testing.assert_close(made.detach().cpu(), expected.detach(), atol=1e-4, rtol=1e-4)


def test_the_stand_in_computes_as_the_cpu_and_refuses_to_mix_the_two() -> None:
    layer, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    expected = layer(x)
    with standin_device() as device:
        layer.to(device)
        agree(layer(x.to(device)), expected, device)
        with pytest.raises(MixedDevices, match=r"addmm.*\[4, 3\] on cpu"):
            layer(x)
        with pytest.raises(MixedDevices):
            torch.ones(3, device=device) + torch.ones(3)
        with pytest.raises(MixedDevices, match="numpy"):
            torch.ones(3, device=device).numpy()


def test_a_part_that_was_left_on_the_cpu_is_noticed() -> None:
    model = tiny_model()
    with standin_device() as device:
        model.to(device)
        model.speech_adapter.to(CPU)
        with pytest.raises(MixedDevices):
            list(SpeechSession(model, tiny_processor()).ask(RECORDINGS[0]))


def test_the_loss_and_the_states_of_both_stages(data: Path, device: torch.device) -> None:
    model = tiny_model()
    here = batch(data, model)
    with torch.no_grad():
        loss, states = model(**here).loss, model.teacher_forced_states(**here)
        model.to(device)
        there = batch(data, model)
        agree(model(**there).loss, loss, device)
        agree(model.teacher_forced_states(**there).values, states.values, device)


def test_the_loss_of_the_unit_decoder(device: torch.device) -> None:
    learner = LearnsToSpeak(tiny_model().unit_decoder)
    states = {"states": torch.randn(2, 5, 32), "state_lengths": torch.tensor([5, 4])}
    labels = torch.tensor([[1, 2, 3], [4, 5, IGNORE]])
    rows = states | {"labels": labels, "label_lengths": torch.tensor([3, 2])}
    for mode in (learner.train, learner.eval):
        mode()
        with torch.no_grad():
            expected = learner.to(CPU)(**rows)
            made = learner.to(device)(**on_device(rows, device))
        assert made.keys() == expected.keys()
        for name, value in made.items():
            agree(value, expected[name], device)


@pytest.mark.parametrize("against", [None, DiscriminatorConfig(channels=128)], ids=["", "against"])
@pytest.mark.parametrize("kind", ["nsf", "hifigan"])
def test_the_losses_of_a_vocoder(
    kind: str, against: DiscriminatorConfig | None, device: torch.device
) -> None:
    discriminators = None if against is None else Discriminators(against)
    learner = LearnsToSound(tiny_vocoder(kind), LossWeights(), discriminators, edge_frames=4)
    frames, merged = 40, 9
    rows = {
        "units": torch.randint(UNITS, (2, frames)),
        "labels": 0.1 * torch.randn(2, frames * 320),
        "counts": torch.arange(frames).expand(2, -1) < 35,
        "f0": torch.full((2, frames), 120.0),
        "voiced": torch.ones(2, frames, dtype=torch.bool),
        "phase": torch.rand(2),
        "first_frame": torch.tensor([0, 7]),
        "merged": torch.randint(UNITS, (2, merged)),
        "merged_lengths": torch.tensor([merged, 4]),
        "durations": torch.ones(2, merged),
    }
    with torch.no_grad():
        expected = learner(**rows)
        made = learner.to(device)(**on_device(rows, device))
    agree(made["parts"], expected["parts"], device)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("vocoder", ["nsf", "hifigan"])
def test_a_session_of_two_turns(vocoder: str, temperature: float, device: torch.device) -> None:
    def said(model: OmniForConditionalGeneration) -> list:
        sampling = Sampling(temperature=temperature, top_p=0.9) if temperature else Sampling()
        config = SessionConfig(schedule=Fixed(4), max_new_tokens=12, sampling=sampling)
        torch.manual_seed(0)
        session = SpeechSession(model, tiny_processor(), config)
        return [event for ask in RECORDINGS for event in session.ask(ask)]

    model = tiny_model(vocoder=vocoder)
    expected, made = said(model), said(model.to(device))
    sounds = [[e.waveform for e in part if isinstance(e, AudioDelta)] for part in (expected, made)]
    ends = [[e for e in part if isinstance(e, Done)] for part in (expected, made)]
    assert len(ends[1]) == 2 and sounds[1]
    if device.type == "cuda" and temperature:
        return  # its generator draws other numbers
    assert [end.units for end in ends[1]] == [end.units for end in ends[0]]
    for one, other in zip(*sounds, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-3)


def test_the_unit_decoder_step_by_step(device: torch.device) -> None:
    decoder = tiny_model().unit_decoder.to(device)
    hidden = torch.randn(1, 6, 32).to(device)
    with torch.no_grad():
        whole = decoder(Frames(hidden, torch.tensor([6], device=device)))
        state, parts = decoder.initial_state(1), []
        for place in range(6):
            made, state = decoder.step(
                Frames(hidden[:, place : place + 1], torch.ones(1, dtype=torch.int64).to(device)),
                state,
            )
            parts.append(made.values)
    agree(torch.cat(parts, dim=1), whole.values.cpu(), device)
    assert best_units(whole)


@pytest.mark.parametrize("kind", ["nsf", "hifigan"])
def test_a_vocoder(kind: str, device: torch.device) -> None:
    vocoder, units = tiny_vocoder(kind), torch.arange(UNITS)
    expected = vocode(vocoder, units)
    agree(vocode(vocoder.to(device), units), expected, device)


def test_generation_with_sound(device: torch.device) -> None:
    model, processor = tiny_model(), tiny_processor()
    conversation = [{"role": "user", "content": [{"type": "audio", "audio": RECORDINGS[0]}]}]
    inputs = processor.apply_chat_template(
        conversation, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    options = {"return_audio": True, "max_new_tokens": 8, "do_sample": False}
    ids, waveform = model.generate(**inputs, **options)
    model.to(device)
    other_ids, other = model.generate(**on_device(inputs, device), **options)
    assert other_ids.tolist() == ids.tolist()
    agree(other, waveform, device)


def test_answers_in_batches(device: torch.device) -> None:
    processor = tiny_processor()
    prompts = []
    for recording in RECORDINGS:
        mel = processor.features(recording)
        message = Message(role="user", positions=processor.positions(mel.shape[1]))
        prompts.append(Prepared(processor.prompt([message]).ids, [], [mel]))
    found = []
    for model in (tiny_model(), tiny_model().to(device)):
        answers = generate(model, processor, prompts, 8)
        found.append((answers, speak_answers(model, processor, prompts, answers)))
    assert found[0] == found[1]


def hubert(stable: bool) -> tuple[HubertModel, UnitsConfig]:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = HubertConfig(
        **sizes, intermediate_size=32, conv_dim=(16,) * 7, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2, do_stable_layer_norm=stable,
        feat_extract_norm="layer" if stable else "group",
    )  # fmt: skip
    return HubertModel(config).eval(), UnitsConfig(kind="hubert", name="tiny", layer=2)


@pytest.mark.parametrize("kind", ["speech_encoder", "hubert", "large hubert"])
def test_units_and_the_labels_of_a_corpus(kind: str, device: torch.device, tmp_path: Path) -> None:
    if kind == "speech_encoder":
        encoder = tiny_model().speech_encoder
        config = UnitsConfig(kind="speech_encoder", name="tiny", layer=1, smooth_frames=3)
    else:
        encoder, config = hubert(kind != "hubert")
    centroids = torch.randn(8, 32 if kind == "speech_encoder" else 16)
    extractor = UnitExtractor(config, centroids, encoder)
    for number, recording in enumerate(RECORDINGS):
        save_wav(tmp_path / f"{number}.wav", recording)
    corpus = [(str(number), tmp_path / f"{number}.wav") for number in range(2)]
    expected = label_corpus(corpus, extractor, tmp_path / "here")
    made = label_corpus(corpus, extractor.to(device), tmp_path / "there")
    for name, units in expected.items():
        assert made[name].tolist() == units.tolist()


def test_frames_ahead_of_stage_1(data: Path, device: torch.device, tmp_path: Path) -> None:
    encoder, config = tiny_model().speech_encoder, FeaturesConfig(variants=1, batch_size=4)
    expected = extract_features(read_manifest(data), encoder, tmp_path / "here", config)
    made = extract_features(read_manifest(data), encoder.to(device), tmp_path / "there", config)
    for path in expected.names:
        frames = made.frames(path, CLEAN)
        torch.testing.assert_close(frames, expected.frames(path, CLEAN), atol=2e-3, rtol=2e-3)


def test_an_evaluation(
    data: Path, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvaluationConfig(splits=("test",), max_new_tokens=6, batch_size=2)

    def report(place: torch.device) -> dict:
        def start(checkpoint: str, **names: str) -> tuple:
            return tiny_model(vocoder=None).to(place), tiny_processor()

        monkeypatch.setattr("train.evaluation.evaluate.start", start)
        return Evaluation("tiny", read_manifest(data), config, tmp_path / place.type).run()

    expected, made = report(CPU), report(device)
    assert made["device"] == str(device)
    loss = expected["splits"]["test"].pop("loss")
    assert made["splits"]["test"].pop("loss") == pytest.approx(loss, rel=1e-4)
    assert made["splits"] == expected["splits"]
