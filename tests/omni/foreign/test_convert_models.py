"""Whisper, fairseq's vocoder and HuBERT, k-means: converted, they compute what they computed."""

import json

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel

from omni.audio import load_audio, log_mel, pad_to_window
from omni.checkpoint.bases import load_hubert, load_speech_encoder
from omni.checkpoint.extractors import load_units
from omni.files.folders import CheckpointError
from omni.foreign.hubert import fairseq_name, parse_layers, read_hubert
from omni.foreign.kmeans import read_kmeans
from omni.foreign.vocoder import read_vocoder
from omni.foreign.whisper import read_whisper
from omni.processor import pad_features
from omni.units.config import UnitsConfig
from omni.units.features import HubertFeatures
from omni.vocoder import load_vocoder, vocode
from omni.vocoder.chunking import parse_schedule
from omni.vocoder.streaming import StreamContext, StreamingVocoder
from tests.published import ENCODER, HUBERT, QUESTIONS, VOCODER, arrays

torch.set_num_threads(1)
FAIRSEQ = HUBERT / "hubert_base.pt"
SPOKEN = json.loads((VOCODER / "golden.json").read_text())["seqs"]
sequences = pytest.mark.parametrize("name", SPOKEN)


def test_a_converted_whisper_encoder_is_the_original(tmp_path):
    read_whisper(ENCODER).write(tmp_path / "encoder")
    encoder = load_speech_encoder(str(tmp_path / "encoder"))
    mel = log_mel(pad_to_window(load_audio(QUESTIONS["question_slt"])), 128)
    with torch.inference_mode():
        frames = encoder(**pad_features([mel])).values[0, ::10]
    np.testing.assert_allclose(frames, arrays()["question_slt.encoder_out"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["model_state_dict"].pop("encoder.ln_post.bias"), "missing encoder.ln_post"),
        (lambda c: c["model_state_dict"].update({"encoder.x": torch.ones(1)}), "surplus encoder.x"),
        (lambda c: c["dims"].update(n_mels=80), r"encoder\.conv1\.weight has shape"),
        (lambda c: c["dims"].pop("n_audio_ctx"), r"dims\.n_audio_ctx"),
        (lambda c: c.pop("dims"), "lacks 'dims'"),
        (lambda c: c.update(model_state_dict=[]), "model_state_dict is a list"),
        (lambda c: c["model_state_dict"].update({"encoder.x": 1}), r"encoder\.x is no tensor"),
    ],
)
def test_a_wrong_whisper_file_is_told(tmp_path, change, told):
    content = torch.load(ENCODER, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "wrong.pt")
    with pytest.raises(CheckpointError, match=told):
        read_whisper(tmp_path / "wrong.pt")


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voice") / "vocoder"
    read_vocoder(VOCODER).write(folder)
    return load_vocoder(folder)


def spoken(name: str) -> torch.Tensor:
    return torch.tensor([unit for unit in SPOKEN[name]["units"] if unit >= 0])


@sequences
def test_a_converted_vocoder_makes_the_originals_waveforms(voice, name):
    golden = np.load(VOCODER / "golden.npz")
    assert voice.durations(spoken(name)).tolist() == SPOKEN[name]["durations"]
    for key, durations in (("nodur", False), ("dur", True)):
        ours = vocode(voice, spoken(name), use_durations=durations)
        np.testing.assert_allclose(ours, golden[f"{name}.{key}"].reshape(-1), atol=1e-4, rtol=0)


@sequences
@pytest.mark.parametrize("schedule", ["10", "1,5,20"])
def test_streamed_a_converted_vocoder_makes_them_too(voice, name, schedule):
    streaming = StreamingVocoder(voice, parse_schedule(schedule), StreamContext.exact(voice))
    state, chunks = streaming.initial_state(), []
    for unit in spoken(name).tolist():
        made, state = streaming.step([unit], state)
        chunks += made
    chunks += streaming.finish(state)
    golden = np.load(VOCODER / "golden.npz")[f"{name}.dur"].reshape(-1)
    ours = np.concatenate([chunk.waveform for chunk in chunks])
    np.testing.assert_allclose(ours, golden, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda g: g.pop("conv_pre.bias"), "missing conv_pre.bias"),
        (lambda g: g.pop("conv_pre.weight_g"), "missing conv_pre.weight_g"),
        (lambda g: g.update({"speaker.weight": torch.ones(1)}), "surplus speaker.weight"),
        (lambda g: g.update({"conv_post.bias": torch.ones(2)}), r"conv_post\.bias has shape \[2\]"),
        (lambda g: g.update({"conv_pre.weight_g": torch.ones(3)}), r"conv_pre\.weight_g has shape"),
    ],
)
def test_a_wrong_vocoder_is_told(tmp_path, change, told):
    generator = torch.load(VOCODER / "g_00000000", weights_only=True)["generator"]
    change(generator)
    torch.save({"generator": generator}, tmp_path / "g_00000000")
    (tmp_path / "config.json").write_bytes((VOCODER / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=told):
        read_vocoder(tmp_path)


@pytest.mark.parametrize("key", ["num_embeddings", "upsample_rates", "dur_predictor_params"])
def test_a_vocoders_config_without_a_key_is_told(tmp_path, key):
    config = json.loads((VOCODER / "config.json").read_text())
    del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "g_00000000").write_bytes((VOCODER / "g_00000000").read_bytes())
    with pytest.raises(CheckpointError, match=key):
        read_vocoder(tmp_path)


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units") / "units"
    read_kmeans(HUBERT / "base_L3_km100.bin").write(folder)
    read_hubert(FAIRSEQ).write(folder, layer=3)
    return folder


@pytest.mark.parametrize(("layer", "key"), [(1, "layer1"), (3, "layer3"), (4, "layer4")])
def test_features_of_a_converted_hubert_are_fairseqs(extractor, layer, key):
    golden = np.load(HUBERT / "golden.npz")[f"base.question_slt.{key}"]
    config = UnitsConfig(kind="hubert", name="hubert", layer=layer)
    for source in (extractor / "hubert", FAIRSEQ):
        features = HubertFeatures(load_hubert(str(source)), config)
        ours = features([load_audio(QUESTIONS["question_slt"])])[0]
        np.testing.assert_allclose(ours, golden, atol=1e-4, rtol=0)


def test_units_of_a_converted_extractor_are_the_originals(extractor):
    golden = json.loads((HUBERT / "golden.json").read_text())["models"]["base"]["units"]
    waveform = load_audio(QUESTIONS["question_slt"])
    loaded = load_units(extractor)
    assert loaded.extract(waveform).tolist() == golden["question_slt"]["frames"]
    assert loaded.extract_merged(waveform).tolist() == golden["question_slt"]["reduced"]


def test_units_folders_may_name_a_fairseq_file(tmp_path):
    read_kmeans(HUBERT / "base_L3_km100.bin").write(tmp_path)
    (tmp_path / "hubert.pt").write_bytes(FAIRSEQ.read_bytes())
    config = {"format_version": 1, "kind": "hubert", "name": "hubert.pt", "layer": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_units(tmp_path).config.layer == 3


# mHuBERT is of the first kind, the large public HuBERTs of the second.
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_any_hubert_in_fairseqs_names_gives_the_same_features(tmp_path, large, legacy):
    torch.manual_seed(0)
    model = HubertModel(
        HubertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
            conv_dim=(16, 16), conv_kernel=(10, 3), conv_stride=(5, 2), conv_bias=large,
            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, apply_spec_augment=False,
            feat_extract_norm="layer" if large else "group", do_stable_layer_norm=large,
        )
    ).eval()  # fmt: skip
    settings = {
        "_name": "hubert", "encoder_layers": 2, "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 48, "encoder_attention_heads": 2,
        "conv_feature_layers": "[(16,10,5)] + [(16,3,2)] * 1", "conv_bias": large, "conv_pos": 16,
        "conv_pos_groups": 4, "extractor_mode": "layer_norm" if large else "default",
        "layer_norm_first": large,
    }  # fmt: skip
    norm = model.config.feat_extract_norm
    weights = {fairseq_name(name, norm): value for name, value in model.state_dict().items()}
    assert ("feature_extractor.conv_layers.1.2.1.weight" in weights) == large
    content = {
        "args": None,
        "cfg": {"model": settings, "task": {"normalize": large}},
        "model": weights | {"final_proj.weight": torch.zeros(1)},
    }
    torch.save(content, tmp_path / "h.pt", _use_new_zipfile_serialization=not legacy)
    assert read_hubert(tmp_path / "h.pt").normalize == large
    waveform = torch.randn(1, 4000)
    with torch.inference_mode():
        expected = model(waveform).last_hidden_state
        assert torch.equal(
            load_hubert(str(tmp_path / "h.pt"))(waveform).last_hidden_state, expected
        )


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("layer_type", "conformer", "layer_type='conformer'"),
        ("conv_feature_layers", "__import__('os').system('x')", "not a HuBERT's"),
        ("encoder_embed_dim", 128, "has shape"),
        ("encoder_layers", 5, r"missing encoder\.layers\.4"),
        ("encoder_layers", 3, r"surplus encoder\.layers\.3"),
        ("conv_pos", None, "not a HuBERT's"),
    ],
)
def test_a_wrong_hubert_is_told(tmp_path, key, value, told):
    content = torch.load(FAIRSEQ, weights_only=False, pickle_module=_without_fairseq())
    content["cfg"]["model"][key] = value
    content["task_state"] = None
    torch.save(content, tmp_path / "wrong.pt")
    with pytest.raises(CheckpointError, match=told):
        read_hubert(tmp_path / "wrong.pt")


def _without_fairseq():
    """A pickle module for torch.load under which fairseq's Dictionary is a plain object."""
    import pickle
    import types

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            known = not module.startswith("fairseq")
            return super().find_class(module, name) if known else type(name, (), {})

    return types.SimpleNamespace(Unpickler=Unpickler, load=pickle.load, __name__="pickle")


def test_convolutions_are_read_without_being_evaluated():
    published = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
    assert parse_layers(published) == [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2
    for wrong in ("[(1,2)]", "[]", "[(1,2,3)] * 10**9", "f()", "[(1,2,'a')]", "[(1,2,3)] - []"):
        with pytest.raises(ValueError):
            parse_layers(wrong)
