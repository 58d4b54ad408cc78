"""The benchmark of true lengths: what it compares, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from omni.audio import SAMPLE_RATE, log_mel, pad_to_window, save_wav
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig, save_speech_encoder
from serve.bench.lengths import true_length
from serve.cli import app
from tests.tiny import question

torch.set_num_threads(1)


def small_encoder() -> SpeechEncoder:
    """With Whisper's window of 30 s, and weights that tell inputs apart."""
    torch.manual_seed(0)
    config = SpeechEncoderConfig(n_mels=8, width=16, layers=1, heads=2, ffn=16)
    encoder = SpeechEncoder(config).eval()
    for parameter in encoder.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.25)
    return encoder


def test_frames_are_held_against_those_of_the_padded_window() -> None:
    encoder = small_encoder()
    waveform = question(1.0, seed=1)
    (found,) = true_length(encoder, [waveform], tails_s=(0.0,))

    def frames(samples: np.ndarray) -> torch.Tensor:
        mel = log_mel(samples, encoder.config.n_mels)
        with torch.no_grad():
            mask = torch.ones(1, mel.shape[1], dtype=torch.bool)
            return encoder(mel[None], mask).sequence(0)[:50]

    short, whole = frames(waveform), frames(pad_to_window(waveform))
    expected = (short - whole).square().sum() / whole.square().sum()
    assert found.relative_rms == pytest.approx(float(expected.sqrt()), rel=1e-4)
    assert found.cosine_mean == pytest.approx(
        float(torch.cosine_similarity(short, whole, dim=-1).mean()), rel=1e-4
    )
    assert found.relative_rms > 0 and found.speed > 1


def test_a_tail_that_fills_the_window_changes_nothing() -> None:
    encoder = small_encoder()
    waveform = question(1.0, seed=1)
    rest = 30.0 - len(waveform) / SAMPLE_RATE
    (found,) = true_length(encoder, [waveform], tails_s=(rest,))
    assert found.relative_rms < 1e-5 and found.cosine_least > 1 - 1e-5


def test_the_command_refuses_what_leaves_no_room_for_silence(tmp_path: Path) -> None:
    save_speech_encoder(small_encoder(), tmp_path / "encoder")
    save_wav(tmp_path / "long.wav", question(29.0, seed=1))
    command = ["bench", "true-length", str(tmp_path / "long.wav")]
    command += ["--speech-encoder", str(tmp_path / "encoder")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "29.0 s; at most 28 s" in result.stderr and result.stderr.count("\n") == 1
    save_wav(tmp_path / "long.wav", question(2.0, seed=1))
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "1 recordings, 2 s" in result.stdout
