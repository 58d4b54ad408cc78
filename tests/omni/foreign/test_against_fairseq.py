"""The real fairseq, where it can be imported, against our reading of its files.

fairseq 0.12.2 does not import on Python 3.11 as it is; see docs/published-weights.md. Give real
files by FAIRSEQ_HUBERT=mhubert.pt and FAIRSEQ_VOCODER=FOLDER; without, the small ones are compared.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from omni.audio import load_audio
from omni.checkpoint.bases import load_hubert
from omni.foreign.vocoder import read_vocoder
from omni.units.config import UnitsConfig
from omni.units.features import HubertFeatures
from omni.vocoder import vocode
from tests.published import HUBERT, QUESTIONS, VOCODER

try:
    from fairseq import checkpoint_utils
    from fairseq.models.text_to_speech.vocoder import CodeHiFiGANVocoder
except Exception as error:  # on Python 3.11 it raises ValueError, not ImportError
    pytest.skip(f"fairseq is not to be had: {error}", allow_module_level=True)


def test_hubert_features_are_those_of_fairseq():
    file = os.environ.get("FAIRSEQ_HUBERT", str(HUBERT / "hubert_base.pt"))
    (theirs,), settings, _ = checkpoint_utils.load_model_ensemble_and_task([file])
    ours = load_hubert(file)
    waveform = load_audio(QUESTIONS["question_slt"])
    for layer in range(1, ours.config.num_hidden_layers + 1):
        config = UnitsConfig(
            kind="hubert", name=file, layer=layer, normalize_waveform=settings.task.normalize
        )
        source = torch.from_numpy(waveform)[None]
        if settings.task.normalize:
            source = torch.nn.functional.layer_norm(source, source.shape)
        with torch.inference_mode():
            expected, _ = theirs.eval().extract_features(source, mask=False, output_layer=layer)
        torch.testing.assert_close(
            HubertFeatures(ours, config)([waveform])[0], expected[0], atol=1e-4, rtol=0
        )


def test_the_vocoder_is_that_of_fairseq():
    folder = Path(os.environ.get("FAIRSEQ_VOCODER", VOCODER))
    config = json.loads((folder / "config.json").read_text())
    theirs = CodeHiFiGANVocoder(str(max(folder.glob("g_*"))), config)
    ours = read_vocoder(folder).vocoder
    units = torch.arange(0, ours.num_units, 7)
    for durations in (True, False):
        expected = theirs({"code": units[None]}, durations)
        waveform = vocode(ours, units, use_durations=durations)
        torch.testing.assert_close(waveform, expected.reshape(-1), atol=1e-4, rtol=0)
