"""faster-whisper's folders hold the encoder that transformers' and openai's files hold."""

import struct
from pathlib import Path

import pytest
import torch

from omni.checkpoint.bases import load_speech_encoder
from omni.files.folders import CheckpointError
from omni.foreign.ctranslate2 import read_ctranslate2
from omni.foreign.encoder import read_encoder
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig, save_speech_encoder
from tests.foreign_bases import ct2_variables, write_ctranslate2

LINEAR = "encoder/layer_0/self_attention/linear_0"


def small_encoder(layers: int = 12) -> SpeechEncoder:
    """Of more than ten layers, which their names do not order by number."""
    torch.manual_seed(0)
    config = SpeechEncoderConfig(n_mels=8, width=16, layers=layers, heads=4, ffn=24, max_frames=20)
    encoder = SpeechEncoder(config)
    for name, value in encoder.named_parameters():
        torch.nn.init.normal_(value, std=0.3 if name.endswith("weight") else 0.1)
    return encoder.eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_a_ctranslate2_folder_gives_the_encoder_that_was_converted(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    encoder = small_encoder()
    folder = write_ctranslate2(tmp_path / "ct2", ct2_variables(encoder, dtype))
    read = load_speech_encoder(str(folder))
    assert read.config == encoder.config
    for name, value in encoder.state_dict().items():
        assert torch.equal(read.state_dict()[name], value.to(dtype).float()), name


def test_the_three_formats_give_the_same_weights(tmp_path: Path) -> None:
    encoder = small_encoder(layers=2).half().float()
    save_speech_encoder(encoder, tmp_path / "transformers")
    variables = ct2_variables(encoder, torch.float16)
    write_ctranslate2(tmp_path / "ct2", variables)
    read_encoder(tmp_path / "ct2").write(tmp_path / "converted")
    for other in ("ct2", "converted"):
        read = load_speech_encoder(str(tmp_path / other)).state_dict()
        wanted = load_speech_encoder(str(tmp_path / "transformers")).state_dict()
        assert all(torch.equal(read[name], wanted[name]) for name in wanted)


def test_what_the_weights_say_of_sizes_is_taken(tmp_path: Path) -> None:
    variables = ct2_variables(small_encoder(layers=1), torch.float16)
    variables["encoder/conv1/weight"] = torch.zeros(16, 128, 3, dtype=torch.float16)
    assert read_ctranslate2(write_ctranslate2(tmp_path, variables)).config.n_mels == 128


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda v: v.pop("encoder/conv1/weight"), "no encoder of a Whisper"),
        (lambda v: v.pop("encoder/num_heads"), "no encoder of a Whisper"),
        (lambda v: v.pop("encoder/layer_0/ffn/linear_1/bias"), r"missing layers\.0\.fc2\.bias"),
        (lambda v: v.pop(f"{LINEAR}/bias"), "missing encoder/layer_0/self_attention/linear_0/bias"),
        (lambda v: v[f"{LINEAR}/bias"].fill_(1), "keys have a bias"),
        (lambda v: v.update({f"{LINEAR}/weight": torch.zeros(48, 8)}), r"has shape \[48, 8\]"),
        (
            lambda v: v.update({f"{LINEAR}/weight": v[f"{LINEAR}/weight"].to(torch.int8)}),
            "stored as int8, .*float16",
        ),
    ],
)
def test_a_wrong_folder_is_told(change, told: str, tmp_path: Path) -> None:
    variables = ct2_variables(small_encoder(layers=1), torch.float16)
    change(variables)
    with pytest.raises(CheckpointError, match=told):
        load_speech_encoder(str(write_ctranslate2(tmp_path, variables)))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"version": 5}, "format 5"),
        ({"kind": "TransformerSpec"}, "'TransformerSpec'; format 6, 'WhisperSpec' is needed"),
        ({"count": 2**32 - 1}, "no whole file"),
    ],
)
def test_another_kind_of_file_is_told(settings: dict, told: str, tmp_path: Path) -> None:
    variables = ct2_variables(small_encoder(layers=1), torch.float16)
    with pytest.raises(CheckpointError, match=told):
        load_speech_encoder(str(write_ctranslate2(tmp_path, variables, **settings)))


def header(name: bytes, shape: tuple[int, ...], kind: int, nbytes: int) -> bytes:
    begin = (
        struct.pack("<I", 6) + struct.pack("<H", 12) + b"WhisperSpec\0" + struct.pack("<II", 3, 1)
    )
    dims = struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return begin + struct.pack("<H", len(name)) + name + dims + struct.pack("<BI", kind, nbytes)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no whole file"),
        (b"\6\0\0\0\xff\xff", "cut short in a name"),
        (header(b"encoder/a\0", (2**32 - 1,) * 8, 4, 8), "in 8 bytes"),
        (header(b"encoder/a\0", (2**31 - 1,), 4, 2**32 - 2), "cut short in encoder/a"),
        (header(b"encoder/a\0", (1,) * 200, 4, 2), "200 dimensions"),
        (header(b"encoder/a\0", (1,), 77, 2), "type 77"),
        (header(b"\xff\xfe\0", (1,), 4, 2), "no whole file"),
    ],
)
def test_a_hostile_file_is_refused_before_anything_is_allocated(
    content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"model\.bin: .*{told}"):
        load_speech_encoder(str(tmp_path))


def test_a_file_that_is_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    folder = write_ctranslate2(tmp_path, ct2_variables(small_encoder(layers=1), torch.float16))
    whole = (folder / "model.bin").read_bytes()
    for length in range(0, len(whole) - 40, 997):
        (folder / "model.bin").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_ctranslate2(folder)
