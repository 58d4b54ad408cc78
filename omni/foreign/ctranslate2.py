"""CTranslate2's Whisper folders (faster-whisper): the encoder's weights, where they lie on disk.

`model.bin`, format 6: version, name and revision of the model's kind, number of variables; then of
each its name, rank, sizes, type, length in bytes, and the data; then other names for some of them.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from omni.files import CheckpointError, check_weights
from omni.foreign.stream import Storage, StoredTensor, contiguous_strides
from omni.foreign.whisper import EncoderWeights, expected_encoder
from omni.speech_encoder import SpeechEncoderConfig

FILE = "model.bin"
VERSION = 6
KIND = "WhisperSpec"
MAX_RANK = 8
TYPES = {0: "F32", 1: "I8", 2: "I16", 3: "I32", 4: "F16", 5: "BF16"}
FLOATS = ("F32", "F16", "BF16")

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
    biases = [_keys_bias(found, layer, config, path) for layer in range(config.layers)]
    if any(bool(bias.read().any()) for bias in biases):
        raise CheckpointError(
            f"{path}: its keys have a bias, and Whisper's have none; another kind"
        )
    tensors = {
        name: _part(found[foreign], name, config) if _STACKED.match(name) else found[foreign]
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


def _read_variables(path: Path) -> dict[str, StoredTensor]:
    """Every variable with numbers in it, unread; nothing is allocated by what the file says."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; copy the folder again")
    size = path.stat().st_size
    variables: dict[str, StoredTensor] = {}
    try:
        with path.open("rb") as file:
            version, kind, _ = _number(file, "I"), _text(file), _number(file, "I")
            if version != VERSION or kind != KIND:
                raise CheckpointError(
                    f"{path}: format {version}, {kind[:40]!r}; format {VERSION}, {KIND!r} is "
                    "needed, so convert the original again with a newer ctranslate2"
                )
            for _ in range(_number(file, "I")):  # a count that is too high meets the file's end
                variable = _variable(file, path, size)
                if variable.name in variables:
                    raise ValueError(f"{variable.name} is there twice")
                variables[variable.name] = variable.tensor
                file.seek(variable.tensor.storage.start + variable.nbytes)
    except (struct.error, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path}: no whole file of ctranslate2 ({error}); download or copy it again"
        ) from None
    return variables


@dataclass(frozen=True)
class _Variable:
    name: str
    tensor: StoredTensor
    nbytes: int


def _variable(file: BinaryIO, path: Path, size: int) -> _Variable:
    name, rank = _text(file), _number(file, "B")
    if rank > MAX_RANK:
        raise ValueError(f"{name} has {rank} dimensions")
    shape = tuple(_number(file, "I") for _ in range(rank))
    kind, nbytes = _number(file, "B"), _number(file, "I")
    if kind not in TYPES:
        raise ValueError(f"{name} is of type {kind}, known are 0 to {max(TYPES)}")
    storage = Storage(path, TYPES[kind], prod(shape), file.tell())
    if storage.elements * storage.itemsize != nbytes:
        raise ValueError(f"{name} of shape {list(shape)} in {nbytes} bytes")
    if storage.start + nbytes > size:
        raise ValueError(f"cut short in {name}, {size} of at least {storage.start + nbytes} bytes")
    return _Variable(name, StoredTensor(storage, 0, shape, contiguous_strides(shape)), nbytes)


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


def _config(found: dict[str, StoredTensor], path: Path) -> SpeechEncoderConfig:
    """All sizes but the number of heads are those of the weights."""
    try:
        width, n_mels, _ = found["conv1/weight"].shape
        positions, _ = found["position_encodings/encodings"].shape
        ffn, _ = found["layer_0/ffn/linear_0/weight"].shape
        heads = int(found["num_heads"].read())
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: no encoder of a Whisper in it ({error}); a folder of faster-whisper is needed"
        ) from None
    layers = {name.split("/")[0] for name in found if name.startswith("layer_")} - {"layer_norm"}
    return SpeechEncoderConfig(
        n_mels=n_mels, width=width, layers=len(layers), heads=heads, ffn=ffn, max_frames=positions
    )


def _check_types(found: dict[str, StoredTensor], names: set[str], path: Path) -> None:
    for name in sorted(names & found.keys()):
        if (kind := found[name].dtype) not in FLOATS:
            raise CheckpointError(
                f"{path}: {name} is stored as {kind}, which has lost what the encoder heard; get "
                "the float16 folder, or convert with `--quantization float16`"
            )


def _keys_bias(
    found: dict[str, StoredTensor], layer: int, config: SpeechEncoderConfig, path: Path
) -> StoredTensor:
    name = f"layer_{layer}/self_attention/linear_0/bias"
    if name not in found:
        raise CheckpointError(f"{path}: missing encoder/{name}; download or copy it again")
    return _part(found[name], f"layers.{layer}.self_attn.k_proj.bias", config)


def _part(stacked: StoredTensor, name: str, config: SpeechEncoderConfig) -> StoredTensor:
    """Queries, keys or values out of the three in a row."""
    match = _STACKED.match(name)
    assert match is not None  # such names alone come here
    shape = (config.width, *stacked.shape[1:])
    if stacked.shape != (3 * config.width, *([config.width] * (len(shape) - 1))):
        raise CheckpointError(
            f"{stacked.storage.path}: {ct2_name(name)} has shape {list(stacked.shape)}, three "
            f"times {config.width} rows are needed; download or copy it again"
        )
    place = "qkv".index(match[2]) * prod(shape)
    return StoredTensor(stacked.storage, place, shape, contiguous_strides(shape))
