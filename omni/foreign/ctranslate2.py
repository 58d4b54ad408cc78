"""CTranslate2's Whisper folders (faster-whisper): the encoder's weights, where they lie on disk.

`model.bin`, format 6: version, name and revision of the model's kind, number of variables; then of
each its name, rank, sizes, type, length in bytes, and the data; then other names for some of them.
"""

from __future__ import annotations

import mmap
import re
import struct
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from omni.files import CheckpointError, check_weights
from omni.foreign.whisper import EncoderWeights, expected_encoder
from omni.speech_encoder import SpeechEncoderConfig

FILE = "model.bin"
VERSION = 6
KIND = "WhisperSpec"
MAX_RANK = 8
TYPES = {
    0: torch.float32, 1: torch.int8, 2: torch.int16, 3: torch.int32, 4: torch.float16,
    5: torch.bfloat16,
}  # fmt: skip

# transformers' names -> CTranslate2's.
_RENAMED = (
    (r"^layers\.(\d+)\.", r"layer_\1."),
    (r"\.self_attn_layer_norm\.", ".self_attention.layer_norm."),
    (r"\.self_attn\.out_proj\.", ".self_attention.linear_1."),
    (r"\.final_layer_norm\.", ".ffn.layer_norm."),
    (r"\.fc1\.", ".ffn.linear_0."),
    (r"\.fc2\.", ".ffn.linear_1."),
    (r"^embed_positions\.weight$", "position_encodings.encodings"),
    (r"layer_norm\.weight$", "layer_norm.gamma"),
    (r"layer_norm\.bias$", "layer_norm.beta"),
)
_STACKED = re.compile(r"^layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)$")


def read_ctranslate2(folder: str | Path) -> EncoderWeights:
    """The encoder of a Whisper that CTranslate2 has converted, checked but unread.

    Raises CheckpointError, naming what is wrong with the file, also for weights in 8 bits.
    """
    path = Path(folder) / FILE
    stored = _read_variables(path)
    found = {name[len("encoder/") :]: t for name, t in stored.items() if name.startswith("encoder")}
    config = _config(found, path)
    names = {name: ct2_name(name) for name in expected_encoder(config)}
    _check_types(found, set(names.values()), path)
    for layer in range(config.layers):
        _check_keys_bias(found, layer, config, path)
    tensors = {
        name: _part(found[foreign], name, config, path) if _STACKED.match(name) else found[foreign]
        for name, foreign in names.items()
        if foreign in found
    }
    check_weights(expected_encoder(config), tensors, where=str(path))
    return EncoderWeights(config, tensors)


def ct2_name(name: str) -> str:
    """transformers' name of an encoder's weight -> CTranslate2's, without "encoder/"."""
    if stacked := _STACKED.match(name):
        return f"layer_{stacked[1]}/self_attention/linear_0/{stacked[3]}"
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name.replace(".", "/")


def _read_variables(path: Path) -> dict[str, Tensor]:
    """Every variable, mapped; nothing is allocated by what the file says."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; copy the folder again")
    variables: dict[str, Tensor] = {}
    try:
        with path.open("rb") as file:
            version, kind, _ = _number(file, "I"), _text(file), _number(file, "I")
            if version != VERSION or kind != KIND:
                raise CheckpointError(
                    f"{path}: format {version}, {kind[:40]!r}; format {VERSION}, {KIND!r} is "
                    "needed, so convert the original again with a newer ctranslate2"
                )
            # A copy that is written to would not reach the file; nobody writes, but torch asks.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            for _ in range(_number(file, "I")):  # a count that is too high meets the file's end
                name, tensor = _variable(file, content)
                if name in variables:
                    raise ValueError(f"{name} is there twice")
                variables[name] = tensor
    except CheckpointError:
        raise
    except (struct.error, ValueError) as error:
        raise CheckpointError(
            f"{path}: no whole file of ctranslate2 ({error}); download or copy it again"
        ) from None
    return variables


def _variable(file: BinaryIO, content: mmap.mmap) -> tuple[str, Tensor]:
    name, rank = _text(file), _number(file, "B")
    if rank > MAX_RANK:
        raise ValueError(f"{name} has {rank} dimensions")
    shape = tuple(_number(file, "I") for _ in range(rank))
    kind, nbytes = _number(file, "B"), _number(file, "I")
    if kind not in TYPES:
        raise ValueError(f"{name} is of type {kind}, known are 0 to {max(TYPES)}")
    start, count = file.tell(), prod(shape)
    if count * TYPES[kind].itemsize != nbytes:
        raise ValueError(f"{name} of shape {list(shape)} in {nbytes} bytes")
    if start + nbytes > len(content):
        raise ValueError(f"cut short in {name}, {len(content)} of at least {start + nbytes} bytes")
    file.seek(start + nbytes)
    if not count:
        return name, torch.empty(shape, dtype=TYPES[kind])
    flat = torch.frombuffer(content, dtype=TYPES[kind], count=count, offset=start)
    return name, flat.reshape(shape)


def _number(file: BinaryIO, kind: str) -> int:
    layout = struct.Struct(f"<{kind}")
    return layout.unpack(file.read(layout.size))[0]


def _text(file: BinaryIO) -> str:
    """Length with the final NUL, and the bytes."""
    length = _number(file, "H")
    content = file.read(length)
    if len(content) < length:
        raise ValueError("cut short in a name")
    return content.rstrip(b"\0").decode()


def _config(found: dict[str, Tensor], path: Path) -> SpeechEncoderConfig:
    """All sizes but the number of heads are those of the weights."""
    try:
        width, n_mels, _ = found["conv1/weight"].shape
        positions, _ = found["position_encodings/encodings"].shape
        ffn, _ = found["layer_0/ffn/linear_0/weight"].shape
        heads = int(found["num_heads"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: no encoder of a Whisper in it ({error}); a folder of faster-whisper is needed"
        ) from None
    layers = {name.split("/")[0] for name in found if name.startswith("layer_")} - {"layer_norm"}
    return SpeechEncoderConfig(
        n_mels=n_mels, width=width, layers=len(layers), heads=heads, ffn=ffn, max_frames=positions
    )


def _check_types(found: dict[str, Tensor], names: set[str], path: Path) -> None:
    for name in sorted(names & found.keys()):
        if not found[name].is_floating_point():
            kind = str(found[name].dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{path}: {name} is stored as {kind}, which has lost what the encoder heard; get "
                "the float16 folder, or convert with `--quantization float16`"
            )


def _check_keys_bias(
    found: dict[str, Tensor], layer: int, config: SpeechEncoderConfig, path: Path
) -> None:
    name = f"layer_{layer}/self_attention/linear_0/bias"
    if name not in found:
        raise CheckpointError(f"{path}: missing encoder/{name}; download or copy it again")
    if bool(_part(found[name], f"layers.{layer}.self_attn.k_proj.bias", config, path).any()):
        raise CheckpointError(f"{path}: keys have a bias, Whisper's have none; give a Whisper")


def _part(stacked: Tensor, name: str, config: SpeechEncoderConfig, path: Path) -> Tensor:
    """Queries, keys or values out of the three in a row."""
    match = _STACKED.match(name)
    assert match is not None  # such names alone come here
    width = config.width
    if stacked.shape != (3 * width, *([width] * (stacked.dim() - 1))) or stacked.dim() > 2:
        raise CheckpointError(
            f"{path}: {ct2_name(name)} has shape {list(stacked.shape)}, three times {width} rows "
            "are needed; download or copy it again"
        )
    return stacked.unflatten(0, (3, width))["qkv".index(match[2])]
