"""The nano's recipe on a handful of questions: every part is made, and they fit together."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import train.nano.making as nano
from data_tools.manifest.record import Manifest, read_manifest
from data_tools.nano.asks import nano_asks
from data_tools.nano.data import build_nano
from omni.audio import load_audio
from omni.live_speech import LiveSpeech
from omni.loading import load
from omni.session import Done, SessionConfig, SpeechSession
from omni.vocoder import NsfConfig
from tests.nano_data import Tones
from train.bases import SmallLlama
from train.loop import LoopConfig
from train.nano import measuring
from train.parts import complete
from train.stages import nano_bases, nano_stage1, nano_stage2, nano_units, nano_vocoder

torch.set_num_threads(1)
MADE = [part for part in nano.NANO.parts if part != "evaluation"]


def short(loop: LoopConfig) -> LoopConfig:
    return replace(
        loop, max_steps=2, save_steps=2, eval_steps=2, batch_size=4, workers=0, bf16=False
    )


def shrink(patch: pytest.MonkeyPatch) -> None:
    """The recipe with other sizes and two steps a part."""
    bases, stage1, stage2 = nano_bases(), nano_stage1(), nano_stage2()
    made = {
        "nano_bases": replace(
            bases,
            encoder=replace(bases.encoder, width=32, layers=2, ffn=64),
            encoder_loop=short(bases.encoder_loop),
            encoder_again=short(bases.encoder_again),
            lm=SmallLlama(vocabulary=320, width=32, layers=2, heads=2, ffn=64),
            lm_loop=short(bases.lm_loop),
        ),
        "nano_units": replace(nano_units(), clusters=12),
        "nano_vocoder": replace(
            nano_vocoder(),
            architecture=NsfConfig(
                num_units=12, width=16, mid_width=8, fine_width=8, prosody_width=8,
                right_context_frames=nano_vocoder().architecture.right_context_frames,
            ),
            loop=short(nano_vocoder().loop),
        ),
        "nano_stage1": replace(stage1, loop=short(stage1.loop)),
        "nano_stage2": replace(
            stage2, hearing=stage1, loop=short(stage2.loop), units=12, width=32, ffn=64
        ),
    }  # fmt: skip
    for name, recipe in made.items():
        patch.setattr(nano, name, lambda recipe=recipe: recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("nano")
    few = {
        kind: [
            ask for split, count in (("train", 12), ("validation", 3), ("test", 3))
            for ask in [ask for ask in asks if ask.split == split][:count]
        ]
        for kind, asks in nano_asks(seed=0).items()
    }  # fmt: skip
    build_nano(folder / "data", few, questions=24, workers=1, make_tts=Tones)
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        for part in MADE:
            nano.NANO.build(folder, part, device="cpu", dtype="float32")
        yield folder


def test_every_part_is_made_and_the_whole_answers_in_text_and_speech(folder: Path) -> None:
    assert all(complete(folder, part) for part in MADE)
    model, processor = load(folder / "checkpoint")
    session = SpeechSession(model, processor, SessionConfig(max_new_tokens=4))
    question = load_audio(next((folder / "data/audio/questions/train").glob("*.wav")))
    *_, done = session.ask(question)
    assert isinstance(done, Done)


def test_its_ears_hear_live_what_they_hear_in_the_end(folder: Path) -> None:
    model, processor = load(folder / "checkpoint")
    question = load_audio(next((folder / "data/audio/questions/train").glob("*.wav")))
    mel = processor.features(question)
    with torch.no_grad():
        whole = model.speech_encoder(mel[None], torch.ones(1, mel.shape[1], dtype=torch.bool))
    live = LiveSpeech(model.speech_encoder)
    state, parts = live.initial_state(), []
    for start in range(0, len(question), 700):
        frames, state = live.step(question[start : start + 700], state)
        parts.append(frames)
    heard = torch.cat([*parts, live.finish(state)])
    torch.testing.assert_close(heard, whole.sequence(0), atol=1e-5, rtol=1e-5)


def test_its_voice_waits_for_no_more_than_80_ms(folder: Path) -> None:
    model, _ = load(folder / "checkpoint")
    assert model.vocoder is not None
    assert model.vocoder.recommended_right_context_frames <= 4


def test_the_recipes_own_sizes_stay_below_40_mb() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from omni.speech_adapter import SpeechAdapter
    from omni.speech_encoder import SpeechEncoder
    from omni.unit_decoder import UnitDecoder, UnitDecoderConfig
    from omni.vocoder import NsfVocoder

    bases, stage1, stage2 = nano_bases(), nano_stage1(), nano_stage2()
    size = bases.lm
    with torch.device("meta"):
        llama = LlamaConfig(
            vocab_size=size.vocabulary, hidden_size=size.width, num_hidden_layers=size.layers,
            num_attention_heads=size.heads, intermediate_size=size.ffn, tie_word_embeddings=True,
        )  # fmt: skip
        decoder = UnitDecoderConfig(
            input_width=size.width, width=stage2.width, layers=stage2.layers, heads=stage2.heads,
            ffn=stage2.ffn, num_units=stage2.units, upsample=stage2.upsample,
        )  # fmt: skip
        architecture = nano_vocoder().architecture
        assert isinstance(architecture, NsfConfig)
        parts = [
            SpeechEncoder(bases.encoder),
            SpeechAdapter(stage1.adapter, input_width=bases.encoder.width, output_width=size.width),
            LlamaForCausalLM(llama),
            UnitDecoder(decoder),
            NsfVocoder(architecture),
        ]
    megabytes = sum(2 * p.numel() for part in parts for p in part.parameters()) / 1e6
    centroids = 4 * nano_units().clusters * bases.encoder.width / 1e6
    assert megabytes + centroids < 39


def test_free_wordings_are_asked_by_every_voice_and_refusals_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    class Recorded:
        def __init__(self, checkpoint: Path, manifest: Manifest, config: Any, output: Path) -> None:
            known = {record.split for record in manifest.records}
            assert set(config.splits) <= known
            asked[output.name] = config.splits

        def run(self) -> dict[str, Any]:
            return {}

    monkeypatch.setattr(measuring, "Evaluation", Recorded)
    manifest = read_manifest(folder / "units" / "records.jsonl")
    measuring.measure(folder / "checkpoint", manifest, folder / "evaluation")
    assert asked == {
        "known": ("test_known", "test_known_rms"),
        "wide": ("test_wide", "test_wide_ked", "test_wide_midlands", "test_wide_rms"),
        "refuse": ("test_unknown", "test_refuse"),
    }
