"""Units: nearest centroids of a layer's features, each waveform as if alone."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import HubertConfig, HubertModel

from omni.audio import encoder_frames, log_mel, mel_frames
from omni.checkpoint.extractors import load_units
from omni.files.errors import UserError
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from omni.units.config import UnitsConfig, merge_repeats
from omni.units.extractor import UnitExtractor
from omni.units.features import HubertFeatures, SpeechEncoderFeatures, smooth

WIDTH, LAYERS, CLUSTERS = 16, 3, 12


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 0.1


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    config = SpeechEncoderConfig(
        n_mels=20, width=WIDTH, layers=LAYERS, heads=2, ffn=32, max_frames=200
    )
    return SpeechEncoder(config).eval()


def hubert(*, stable: bool) -> HubertModel:
    torch.manual_seed(0)
    return HubertModel(
        HubertConfig(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=24,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            do_stable_layer_norm=stable,
            feat_extract_norm="layer" if stable else "group",
        )
    ).eval()


def speech_config(**changes) -> UnitsConfig:
    return UnitsConfig(**{"kind": "speech_encoder", "name": "tiny", "layer": 2} | changes)


def extractor(encoder, **changes) -> UnitExtractor:
    centroids = torch.randn(CLUSTERS, WIDTH, generator=torch.Generator().manual_seed(1))
    return UnitExtractor(speech_config(**changes), centroids, encoder)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_a_run_of_equal_units_becomes_one(units):
    merged = merge_repeats(units)
    assert merged.dtype == np.int64
    assert merged.tolist() == [unit for unit, _ in itertools.groupby(units)]


def test_features_of_a_layer_are_those_that_pass_through_the_whole_encoder(encoder):
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, out, at=index: seen.__setitem__(at, out[0]))
        for index, layer in enumerate(encoder.layers, start=1)
    ]
    mel = log_mel(noise(16_000), 20)[None]
    with torch.no_grad():
        whole = encoder(mel, torch.ones(1, mel.shape[2], dtype=torch.bool))
    for hook in hooks:
        hook.remove()
    for layer in range(1, LAYERS + 1):
        [features] = SpeechEncoderFeatures(encoder, speech_config(layer=layer))([noise(16_000)])
        torch.testing.assert_close(features, seen[layer][0])
    torch.testing.assert_close(encoder.layer_norm(seen[LAYERS][0]), whole.values[0])
    [input_features] = SpeechEncoderFeatures(encoder, speech_config(layer=0))([noise(16_000)])
    torch.testing.assert_close(encoder.layers[0](input_features[None], None)[0], seen[1])


@pytest.mark.parametrize("stable", [False, True])
def test_features_of_hubert_are_transformers_hidden_states(stable):
    model = hubert(stable=stable)
    with torch.no_grad():
        hidden = model(torch.from_numpy(noise(8000))[None], output_hidden_states=True).hidden_states
    for layer in range(LAYERS):  # the last entry carries the final norm in stable models
        config = UnitsConfig(kind="hubert", name="tiny", layer=layer)
        [features] = HubertFeatures(model, config)([noise(8000)])
        torch.testing.assert_close(features, hidden[layer][0], atol=1e-5, rtol=1e-4)
    assert len(model.encoder.layers) == LAYERS and len(features) == (8000 - 400) // 320 + 1


def test_loudness_and_offset_vanish_where_the_waveform_is_normalised():
    config = UnitsConfig(kind="hubert", name="tiny", layer=1, normalize_waveform=True)
    features = HubertFeatures(hubert(stable=True), config)
    quiet, loud = features([noise(8000), noise(8000) * 7 + 0.5])
    torch.testing.assert_close(quiet, loud, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("samples", [3200, 3360, 3519, 16_000, 20_479])
def test_a_waveform_gives_one_unit_per_encoder_frame(encoder, samples):
    units = extractor(encoder).extract(noise(samples))
    assert units.dtype == np.int64 and set(units) <= set(range(CLUSTERS))
    assert len(units) == encoder_frames(mel_frames(samples))


def test_each_waveform_of_a_batch_comes_out_as_if_alone(encoder):
    features = SpeechEncoderFeatures(encoder, speech_config())
    waveforms = [noise(samples, seed=samples) for samples in (9600, 3520, 16_160)]
    for together, waveform in zip(features(waveforms), waveforms, strict=True):
        torch.testing.assert_close(together, features([waveform])[0], atol=1e-5, rtol=1e-4)


def test_the_unit_is_the_nearest_centroid(encoder):
    units = extractor(encoder)
    features = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(2)) + 3.0
    expected = torch.cdist(features.double(), units.centroids.double()).argmin(-1)
    assert torch.equal(units.nearest(features), expected)


def test_merged_units_are_the_frame_units_without_repeats(encoder):
    units = extractor(encoder, smooth_frames=3)
    assert np.array_equal(
        units.extract_merged(noise(16_000)), merge_repeats(units.extract(noise(16_000)))
    )


def test_smoothing_is_a_mean_over_the_neighbours_that_exist():
    features = torch.tensor([[1.0], [2.0], [6.0], [10.0]])
    assert smooth(features, 3).flatten().tolist() == [1.5, 3.0, 6.0, 8.0]
    assert smooth(features[:1], 5).tolist() == [[1.0]]
    assert smooth(features, 1) is features


def test_a_saved_extractor_gives_the_same_units(encoder, tmp_path):
    before = extractor(encoder, smooth_frames=3)
    before.save(tmp_path / "units")
    after = UnitExtractor.load(tmp_path / "units", encoder=encoder)
    assert after.config == before.config and after.units == CLUSTERS
    assert np.array_equal(after.extract(noise(9600)), before.extract(noise(9600)))
    assert sorted(path.name for path in (tmp_path / "units").iterdir()) == [
        "centroids.safetensors",
        "config.json",
    ]


def test_a_hubert_extractor_finds_its_encoder_by_name(tmp_path):
    model = hubert(stable=False)
    model.save_pretrained(tmp_path / "hubert")
    config = UnitsConfig(kind="hubert", name=str(tmp_path / "hubert"), layer=2)
    before = UnitExtractor(config, torch.randn(CLUSTERS, WIDTH), model)
    before.save(tmp_path / "units")
    after = load_units(tmp_path / "units")
    assert np.array_equal(after.extract(noise(8000)), before.extract(noise(8000)))


def test_a_recording_shorter_than_huberts_window_is_refused():
    config = UnitsConfig(kind="hubert", name="tiny", layer=1)
    with pytest.raises(UserError, match="399 samples"):
        HubertFeatures(hubert(stable=False), config)([noise(8000), noise(399)])


def test_a_folder_that_cannot_be_used_says_why(encoder, tmp_path):
    with pytest.raises(UserError, match="no units folder"):
        UnitExtractor.load(tmp_path / "nowhere", encoder=encoder)
    folder = tmp_path / "units"
    extractor(encoder).save(folder)
    with pytest.raises(UserError, match="encoder="):
        load_units(folder)
    record = json.loads((folder / "config.json").read_text())
    for change, says in [
        ({"layers": 3}, "unknown key 'layers'"),
        ({"format_version": 2}, "format_version=2"),
        ({"layer": 9}, "tiny has 3 layers"),
        ({"kind": "mfcc"}, "'mfcc'"),
        ({"smooth_frames": 2}, "must be odd"),
    ]:
        (folder / "config.json").write_text(json.dumps(record | change))
        with pytest.raises(UserError, match=says):
            UnitExtractor.load(folder, encoder=encoder)
    (folder / "config.json").write_text(json.dumps({"format_version": 1, "kind": "hubert"}))
    with pytest.raises(UserError, match="key 'name' is missing"):
        UnitExtractor.load(folder, encoder=encoder)
    (folder / "config.json").write_text(json.dumps(record))
    save_file({"centroids": torch.zeros(4, WIDTH + 1)}, folder / "centroids.safetensors")
    with pytest.raises(UserError, match="another encoder"):
        UnitExtractor.load(folder, encoder=encoder).extract(noise(9600))
    (folder / "centroids.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="damaged"):
        UnitExtractor.load(folder, encoder=encoder)
