import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from omni.vocoder import (
    Fixed,
    HifiGanConfig,
    NsfConfig,
    NsfVocoder,
    StreamContext,
    StreamingVocoder,
    UnitHifiGan,
    Vocoder,
    load_vocoder,
    save_vocoder,
    vocode,
)
from omni.vocoder.hifigan_config import fold_weight_norm, hifigan_config
from omni.vocoder.source import frame_phases, hashed_noise, pulses
from tests.paths import DATA

GOLDEN = DATA / "vocoder"
SEQUENCES = json.loads((GOLDEN / "golden.json").read_text())["seqs"]
TINY_HIFIGAN = HifiGanConfig(
    num_embeddings=20, embedding_dim=8, upsample_initial_channel=32, duration_width=8
)
TINY_NSF = NsfConfig(
    num_units=20, width=16, prosody_width=12, mid_width=8, fine_width=8, duration_width=8
)


def tiny(kind: str) -> Vocoder:
    torch.manual_seed(3)
    vocoder = UnitHifiGan(TINY_HIFIGAN) if kind == "hifigan" else NsfVocoder(TINY_NSF)
    return vocoder.eval()


both = pytest.mark.parametrize("kind", ["hifigan", "nsf"])


@pytest.fixture(scope="module")
def golden() -> UnitHifiGan:
    """The original's checkpoint in our class."""
    vocoder = UnitHifiGan(hifigan_config(json.loads((GOLDEN / "config.json").read_text())))
    weights = torch.load(GOLDEN / "g_00000000", weights_only=True)["generator"]
    vocoder.load_state_dict(fold_weight_norm(weights))
    return vocoder.eval()


@pytest.mark.parametrize("name", SEQUENCES)
def test_hifigan_gives_the_waveforms_of_the_original(golden, name):
    arrays = np.load(GOLDEN / "golden.npz")
    # The original drops codes below 0.
    units = torch.tensor([unit for unit in SEQUENCES[name]["units"] if unit >= 0])
    assert golden.durations(units).tolist() == SEQUENCES[name]["durations"]
    for key, use_durations in (("nodur", False), ("dur", True)):
        ours = vocode(golden, units, use_durations=use_durations).numpy()
        np.testing.assert_allclose(ours, arrays[f"{name}.{key}"].reshape(-1), atol=1e-4)


def test_the_published_recipe_has_its_published_size_and_context():
    with torch.device("meta"):
        vocoder = UnitHifiGan(HifiGanConfig())
    weights = {name: p for name, p in vocoder.named_parameters()}
    normed = [
        p
        for name, p in weights.items()
        if name.endswith("weight") and not name.startswith(("dict", "dur_predictor"))
    ]
    gains = sum(p.shape[0] for p in normed)
    assert sum(p.numel() for p in weights.values()) + gains == 13_485_443
    assert vocoder.context_frames == 21


def test_half_a_weight_norm_pair_is_refused():
    with pytest.raises(ValueError, match=r"conv_pre.weight_g has no conv_pre.weight_v"):
        fold_weight_norm({"conv_pre.weight_g": torch.ones(2, 1, 1)})


@both
def test_a_frame_depends_on_no_more_than_the_stated_context(kind):
    vocoder = tiny(kind)
    reach, centre = vocoder.context_frames, 40
    units = torch.randint(0, 20, (2 * centre,), generator=torch.Generator().manual_seed(0))
    whole = vocode(vocoder, units, use_durations=False)
    other = units.clone()
    # The source's phase is state, and so outside of the context: change only what follows.
    other[centre + reach + 1 :] = (other[centre + reach + 1 :] + 1) % 20
    changed = vocode(vocoder, other, use_durations=False)
    end = (centre + 1) * 320
    torch.testing.assert_close(changed[:end], whole[:end], atol=1e-6, rtol=0)
    assert not torch.allclose(changed[end + reach * 320 :], whole[end + reach * 320 :], atol=1e-5)


@pytest.mark.parametrize("right", [2, 3, 4, 7])
def test_a_voice_that_looks_little_ahead_reaches_so_far_and_no_further(right):
    torch.manual_seed(3)
    vocoder = NsfVocoder(replace(TINY_NSF, right_context_frames=right)).eval()
    assert vocoder.right_context_frames == vocoder.recommended_right_context_frames == right
    units = torch.randint(0, 20, (1, 90), generator=torch.Generator().manual_seed(0))
    other = units.clone()
    other[:, 60] = (other[:, 60] + 1) % 20

    def made(given: torch.Tensor) -> torch.Tensor:
        # Driven by one phase: that of the frames before is state, and no context.
        prosody = vocoder.prosody(given)
        f0 = prosody.log_f0.double().exp()
        phases = torch.zeros(1, 91, dtype=torch.float64)
        source = vocoder.excite(f0, prosody.voiced.sigmoid(), phases, torch.tensor([0]))
        return vocoder.decode(vocoder.features(given), *source)

    touched = (made(units) - made(other)).abs().reshape(90, 320).amax(1) > 1e-7
    frames = torch.nonzero(touched).flatten().tolist()
    assert 60 - frames[0] == right
    assert frames[-1] - 60 <= vocoder.context_frames


def test_the_first_units_of_a_reply_are_heard_by_a_voice_that_looks_ahead():
    torch.manual_seed(3)
    vocoder = NsfVocoder(replace(TINY_NSF, right_context_frames=4)).eval()
    units = torch.randint(0, 20, (1, 20), generator=torch.Generator().manual_seed(0))
    other = units.clone()
    other[:, 0] = (other[:, 0] + 1) % 20
    assert (vocoder.features(units) - vocoder.features(other))[..., 0].abs().max() > 1e-4


def test_less_look_ahead_than_the_spectra_take_is_refused():
    with pytest.raises(ValueError, match="right_context_frames 1: must be at least 2"):
        replace(TINY_NSF, right_context_frames=1)


def test_a_vocoder_from_before_there_was_a_number_looks_both_ways_as_it_did(tmp_path):
    torch.manual_seed(3)
    vocoder = NsfVocoder(TINY_NSF).eval()
    save_vocoder(vocoder, tmp_path, dtype=None)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["right_context_frames"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    units = torch.arange(20)
    torch.testing.assert_close(vocode(load_vocoder(tmp_path), units), vocode(vocoder, units))


def test_hifigans_context_is_reached_on_both_sides():
    vocoder = tiny("hifigan").double()
    embedded: list[torch.Tensor] = []
    vocoder.dict.register_forward_hook(lambda module, given, made: embedded.append(made))
    waveform = vocoder(torch.zeros(1, 60, dtype=torch.int64))[0]
    # By gradients: at the outermost frames a difference is lost in the rounding of the samples.
    (gradient,) = torch.autograd.grad(waveform[30 * 320 : 31 * 320].sum(), embedded[0])
    touched = torch.nonzero(gradient[0].abs().amax(1)).flatten()
    reach = max(30 - int(touched[0]), int(touched[-1]) - 30)
    assert reach == vocoder.context_frames == 21


@both
def test_durations_round_half_to_even_and_are_at_least_one(kind):
    vocoder = tiny(kind)
    units = torch.tensor([1, 2, 3])
    torch.nn.init.zeros_(vocoder.dur_predictor.proj.weight)
    for log_duration, frames in ((-3.0, 1), (np.log(3.5001), 3), (np.log(3.4), 2)):
        torch.nn.init.constant_(vocoder.dur_predictor.proj.bias, float(log_duration))
        assert vocoder.durations(units).tolist() == [frames] * 3


@both
def test_the_waveform_has_320_samples_per_frame_and_stays_in_range(kind):
    vocoder = tiny(kind)
    units = torch.tensor([3, 4, 3, 9])
    waveform = vocode(vocoder, units)
    assert waveform.shape == (int(vocoder.durations(units).sum()) * 320,)
    assert waveform.abs().max() <= 1
    assert len(vocode(vocoder, torch.zeros(0, dtype=torch.int64))) == 0


def test_a_reply_is_played_to_its_end_where_durations_need_no_look_ahead():
    torch.manual_seed(3)
    vocoder = UnitHifiGan(replace(TINY_HIFIGAN, duration_kernel=1)).eval()
    cut = StreamContext(right_context_frames=0, crossfade_samples=80)
    streaming = StreamingVocoder(vocoder, Fixed(2), cut)
    chunks, state = streaming.step([3, 4, 3, 9], streaming.initial_state())
    chunks += streaming.finish(state)
    whole = vocode(vocoder, torch.tensor([3, 4, 3, 9]))
    assert sum(len(chunk.waveform) for chunk in chunks) == len(whole)


@both
@pytest.mark.parametrize("unit", [-1, 20])
def test_an_unknown_unit_is_refused_by_name(kind, unit):
    with pytest.raises(ValueError, match=rf"unit {unit}: this vocoder knows units 0 to 19"):
        vocode(tiny(kind), torch.tensor([1, unit]))


def test_the_inverse_stft_undoes_the_stft():
    vocoder = tiny("nsf")
    signal = torch.randn(1, 3200)
    back = vocoder.spectrum.istft(vocoder.spectrum.stft(signal[:, None]) * vocoder.config.hop)
    torch.testing.assert_close(back[:, 64:-64], signal[:, 64:-64], atol=1e-5, rtol=0)


def test_the_source_sounds_at_its_f0_and_stays_below_the_nyquist_frequency():
    f0 = torch.full((50,), 200.0, dtype=torch.float64)
    wave = pulses(f0, frame_phases(f0, phase=0.3))
    spectrum = torch.fft.rfft(wave).abs()  # 1 s: a bin per Hz
    assert set(torch.nonzero(spectrum > 0.5 * spectrum.max()).flatten().tolist()) == set(
        range(200, 7801, 200)
    )
    assert wave.square().mean() == pytest.approx(1.0, abs=0.05)


def test_noise_depends_on_the_samples_place_alone():
    whole = hashed_noise(torch.tensor([0]), 4000)[0]
    torch.testing.assert_close(hashed_noise(torch.tensor([1000]), 500)[0], whole[1000:1500])
    assert whole.square().mean() == pytest.approx(1.0, abs=0.1)
    neighbours = torch.corrcoef(torch.stack([whole[1:], whole[:-1]]))[0, 1]
    assert abs(neighbours) < 0.06


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_saved_vocoder_reads_back(kind, dtype, tmp_path):
    vocoder = tiny(kind)
    save_vocoder(vocoder, tmp_path / "vocoder", dtype=dtype)
    again = load_vocoder(tmp_path / "vocoder")
    assert again.config == vocoder.config and type(again) is type(vocoder)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, vocoder.state_dict()[name].to(dtype).float())
    assert [path.name for path in tmp_path.iterdir()] == ["vocoder"]  # nothing left aside


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "wavenet"}, "vocoder kind 'wavenet' is unknown; known are hifigan, nsf"),
        ({"colour": 3}, "unknown key 'colour'; known are duration_dropout"),
        ({"width": "16"}, "width='16': must be of type int"),
        ({"upsample_rates": 8}, "upsample_rates=8: must be a list, each of type int"),
        ({"width": 24}, r"embedding.weight has shape \[20, 16\], config.json says \[20, 24\]"),
        ({"hop": 8}, "product is 160, must be 320"),
    ],
)
def test_a_wrong_config_is_refused_by_name(changes, message, tmp_path):
    save_vocoder(tiny("nsf"), tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        load_vocoder(tmp_path)


def test_missing_and_surplus_weights_are_refused_by_name(tmp_path):
    save_vocoder(tiny("hifigan"), tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    bias = weights.pop("conv_post.bias")
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"missing conv_post\.bias"):
        load_vocoder(tmp_path)
    save_file(weights | {"conv_post.bias": bias, "extra": bias.clone()}, path)
    with pytest.raises(ValueError, match="surplus extra"):
        load_vocoder(tmp_path)


def test_upsampling_that_does_not_make_20_ms_is_refused():
    with pytest.raises(ValueError, match="their product is 160, must be 320"):
        replace(TINY_HIFIGAN, upsample_rates=(5, 4, 4, 2, 1))
