"""Our encoder and log-mel beside those of CTranslate2 and faster-whisper, on real weights.

    python -m tests.against_ctranslate2 FOLDER RECORDING...

FOLDER: a Whisper that CTranslate2 has converted, whole. Needs `pip install faster-whisper`. Prints
for each recording the largest differences, relative to the scale (root mean square) of the values.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from omni.audio import WINDOW_SAMPLES, load_audio, log_mel, pad_to_window
from omni.checkpoint import load_speech_encoder
from omni.processor import pad_features


def compare(folder: Path, recordings: list[Path]) -> dict[str, tuple[float, float]]:
    """Recording -> the largest difference of the log-mel and of the encoder's frames."""
    import ctranslate2
    from faster_whisper.feature_extractor import FeatureExtractor

    encoder = load_speech_encoder(str(folder)).eval()
    n_mels = encoder.config.n_mels
    theirs = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
    extract = FeatureExtractor(feature_size=n_mels)
    found = {}
    for path in recordings:
        waveform = pad_to_window(load_audio(path))
        assert len(waveform) == WINDOW_SAMPLES  # they pad, or cut, to 30 s as well
        mel = log_mel(waveform, n_mels)
        their_mel = extract(waveform, padding=0)[:, : mel.shape[1]]
        with torch.inference_mode():
            frames = encoder(**pad_features([mel])).values[0].numpy()
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel.numpy()[None]))
        their_frames = np.array(theirs.encode(view, to_cpu=True))[0]
        found[path.name] = (_far(mel.numpy(), their_mel), _far(frames, their_frames))
    return found


def _far(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.sqrt(np.mean(theirs**2)))


def main() -> None:
    folder, *recordings = map(Path, sys.argv[1:])
    found = compare(folder, recordings)
    for name, (mel, frames) in found.items():
        sys.stdout.write(f"{name}: log-mel {mel:.1e}, encoder {frames:.1e}\n")
    mel, frames = np.array(list(found.values())).max(axis=0)
    sys.stdout.write(f"largest of {len(found)}: log-mel {mel:.1e}, encoder {frames:.1e}\n")


if __name__ == "__main__":
    main()
