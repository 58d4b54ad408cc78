"""The published weights themselves, where `omni fetch-bases` has put them: skipped elsewhere."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from omni.audio import load_audio, log_mel, pad_to_window
from omni.checkpoint.bases import load_language_model, load_speech_encoder, load_tokenizer
from omni.checkpoint.known import KNOWN
from omni.checkpoint.named import base_digest
from omni.files.hub import on_this_machine
from omni.processor import pad_features
from tests.against_ctranslate2 import compare
from tests.paths import ROOT

RECORDINGS = sorted((ROOT / "omni" / "nano" / "questions").glob("*.wav"))
LLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHISPERS = [name for name, known in KNOWN.items() if known.part == "speech_encoder"]
CT2 = [Path(name) for name in os.environ.get("OMNI_CTRANSLATE2", "").split(os.pathsep) if name]


def need_base(name: str) -> None:
    if on_this_machine(name) is None:
        pytest.skip(f"omni fetch-bases {name} has not been run here")


@pytest.mark.parametrize("name", WHISPERS)
def test_a_fetched_whisper_encodes_as_transformers_does(name: str) -> None:
    need_base(name)
    ours = load_speech_encoder(name)
    config = WhisperConfig(**ours.config.to_whisper(), attn_implementation="eager")
    theirs = WhisperEncoder(config).eval()
    theirs.load_state_dict(ours.state_dict())
    for path in RECORDINGS[:3]:
        mel = log_mel(pad_to_window(load_audio(path)), ours.config.n_mels)
        with torch.inference_mode():
            frames = ours(**pad_features([mel])).values
            wanted = theirs(mel[None]).last_hidden_state
        scale = float(wanted.square().mean().sqrt())
        torch.testing.assert_close(frames, wanted, atol=1e-3 * scale, rtol=0)


@pytest.mark.parametrize("name", KNOWN)
def test_a_base_of_the_packages_is_what_was_known(name: str) -> None:
    need_base(name)
    known = KNOWN[name]
    if known.exact:
        assert base_digest(known.part, name) == known.digests["packages"]


def test_the_fetched_llm_knows_a_capital() -> None:
    need_base(LLM)
    model, tokenizer = load_language_model(LLM, dtype=torch.float32), load_tokenizer(LLM)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0]
    answer = tokenizer.decode(ids[prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "The capital of France is Paris."


@pytest.mark.skipif(
    not CT2 or importlib.util.find_spec("faster_whisper") is None,
    reason="OMNI_CTRANSLATE2 names no folder of CTranslate2, or faster-whisper is not installed",
)
@pytest.mark.parametrize("folder", CT2, ids=str)
def test_our_encoder_and_log_mel_are_faster_whispers(folder: Path) -> None:
    for name, (mel, frames) in compare(folder, RECORDINGS).items():
        assert mel < 1e-3 and frames < 1e-3, (name, mel, frames)
