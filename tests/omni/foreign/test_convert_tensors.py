"""Tensors of .pt and safetensors files are read as they were written, or told to be damaged."""

import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from omni.files.folders import CheckpointError, read_tensors, write_tensors
from omni.foreign.hubert import read_hubert
from omni.foreign.kmeans import read_kmeans
from omni.foreign.stream import read_folder, write_folder
from omni.foreign.torch_files import read_torch_file
from omni.foreign.whisper import read_whisper
from tests.published import DATA, ENCODER, HUBERT, KMEANS

DECODER = DATA / "unit_decoder" / "decoder.safetensors"


@pytest.mark.parametrize("legacy", [False, True])
def test_every_kind_of_tensor_is_read_as_torch_reads_it(tmp_path, legacy):
    shared = torch.arange(24.0).reshape(4, 6)
    content = {
        "whole": shared,
        "slice": shared[1:3, 2:5],
        "transposed": shared.T,
        "repeated": shared[:1].expand(3, 6),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 5),
        "nested": [{"half": torch.randn(3).half(), "bf16": torch.randn(3).bfloat16()}],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "bool": torch.tensor([True, False]),
        "numpy": np.float64(0.5),
    }
    file = tmp_path / "file.pt"
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    found = read_torch_file(file)
    for name in ("whole", "slice", "transposed", "repeated", "scalar", "empty", "bool"):
        assert torch.equal(found[name], content[name])
        assert found[name].dtype == content[name].dtype
    for name in ("half", "bf16"):
        assert torch.equal(found["nested"][0][name], content["nested"][0][name])
    assert torch.equal(found["parameter"], torch.ones(2))
    assert found["numpy"] == 0.5
    stored = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    write_tensors(tmp_path / "out.safetensors", stored)
    for name, tensor in load_file(tmp_path / "out.safetensors").items():
        assert torch.equal(tensor, content[name].detach())


def test_a_tensor_outside_its_storage_is_refused(tmp_path):
    file = tmp_path / "file.pt"
    torch.save(torch.zeros(4), file)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in entries if name.endswith("data.pkl"))
    # The shape (4,) becomes (200,): BININT1 4, TUPLE1.
    entries[pickled] = entries[pickled].replace(b"K\x04\x85", b"K\xc8\x85", 1)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match=r"file\.pt: damaged"):
        read_torch_file(file)


def test_a_tensor_outside_its_storage_is_refused_in_a_legacy_file(tmp_path):
    file = tmp_path / "file.pt"
    torch.save(torch.zeros(4), file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes().replace(b"K\x04\x85", b"K\xc8\x85", 1))
    with pytest.raises(CheckpointError, match=r"file\.pt: damaged"):
        read_torch_file(file)


@pytest.mark.parametrize("shard_bytes", [100, 10_000])
def test_a_folder_in_shards_is_read_as_it_was_written(tmp_path, shard_bytes):
    tensors = {f"w{place}": torch.randn(5, 4) for place in range(5)}
    tensors |= {"tied": tensors["w0"], "half": torch.ones(3).half()}
    counts: list[int] = []
    write_folder(tmp_path, tensors, counts.append, shard_bytes=shard_bytes)
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == len(counts) == (5 if shard_bytes == 100 else 1)  # tied ones share
    assert sum(counts) == sum(tensor.nbytes for tensor in tensors.values())
    found = read_folder(tmp_path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_cut_file_is_told_to_be_damaged(tmp_path_factory, data):
    read, file = data.draw(
        st.sampled_from(
            [
                (read_hubert, HUBERT / "hubert_base.pt"), (read_whisper, ENCODER),
                (read_kmeans, KMEANS), (read_tensors, DECODER),
            ]
        )
    )  # fmt: skip
    whole = file.read_bytes()
    cut = tmp_path_factory.mktemp("cut") / file.name
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError) as told:
        read(cut)
    assert str(cut) in str(told.value)


def test_a_cut_legacy_file_is_told_to_be_damaged(tmp_path):
    file = tmp_path / "file.pt"
    torch.save({"a": torch.zeros(50)}, file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=str(file)):
            read_torch_file(file)


def header(entries: str) -> bytes:
    return struct.pack("<Q", len(entries)) + entries.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x01", struct.pack("<Q", 1 << 60) + b"{}", header("[]"), header('{"a": 1}'),
        header('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}') + b"\0" * 8,
        header('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}') + b"\0" * 8,
        header('{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}') + b"\0" * 8,
        header('{"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 8]}}') + b"\0" * 8,
    ],
)  # fmt: skip
def test_a_safetensors_header_that_lies_is_refused(tmp_path, data):
    (tmp_path / "file.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"file\.safetensors"):
        read_tensors(tmp_path / "file.safetensors")


def test_what_we_write_tensors_itself_reads(tmp_path):
    tensors = {
        "odd": torch.arange(3, dtype=torch.uint8), "wide": torch.randn(2, 3, dtype=torch.float64),
        "empty": torch.zeros(0, 2), "half": torch.randn(5).half(), "scalar": torch.tensor(1.5),
    }  # fmt: skip
    write_tensors(tmp_path / "file.safetensors", tensors)
    found = load_file(tmp_path / "file.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    save_file(tensors, tmp_path / "theirs.safetensors")
    for name, tensor in read_tensors(tmp_path / "theirs.safetensors").items():
        assert torch.equal(tensor, tensors[name])
