"""The small published checkpoints of tests/data: original formats, and the original's outputs.

Weights are random; every number in published.npz and golden.npz came from the original code.
Kept of the large arrays: every 10th encoder frame, every 3rd LLM position, every 5th unit step.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from omni.files.folders import read_tensors
from tests.paths import DATA

LLAMA_OMNI = DATA / "llama_omni"
CHECKPOINT = LLAMA_OMNI / "ckpt"
ENCODER = LLAMA_OMNI / "encoder.pt"
QUESTIONS = {
    "question_slt": LLAMA_OMNI / "question_slt.flac",
    "question_rms": LLAMA_OMNI / "question.flac",
}
HUBERT = DATA / "hubert"
VOCODER = DATA / "vocoder"
KMEANS = HUBERT / "base_L3_km100.bin"


@cache
def arrays() -> dict[str, np.ndarray]:
    with np.load(LLAMA_OMNI / "published.npz") as archive:
        return dict(archive)


@cache
def facts() -> dict:
    return json.loads((LLAMA_OMNI / "published.json").read_text())


def checkpoint_copy(folder: Path, *, shards: int = 1, encoder_inside: bool = False) -> Path:
    """The published checkpoint once more, laid out otherwise; `folder` must be new."""
    folder.mkdir(parents=True)
    for file in CHECKPOINT.iterdir():
        if file.suffix == ".json":
            (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(CHECKPOINT / "model.safetensors")
    if encoder_inside:
        state = torch.load(ENCODER, weights_only=True)["model_state_dict"]
        tensors |= {
            f"model.speech_{name}": value
            for name, value in state.items()
            if name.startswith("encoder.")
        }
    write_shards(folder, tensors, shards)
    return folder


def write_shards(folder: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    homes = {}
    for place in range(shards):
        name = f"model-{place + 1:05}-of-{shards:05}.safetensors"
        part = {key: tensors[key] for key in sorted(tensors)[place::shards]}
        save_file(part, folder / name)
        homes |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 0}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def raw_bytes(file: Path) -> dict[str, tuple[torch.dtype, torch.Size, bytes]]:
    """Name -> type, shape and bytes of each tensor of a safetensors file."""
    return {
        name: (tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, tensor in read_tensors(file).items()
    }
