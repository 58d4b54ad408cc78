"""Files that run code are refused by name; damaged ones are told; plain ones are read."""

import argparse
import contextlib
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from omni.files.folders import CheckpointError, read_tensors, write_tensors
from omni.foreign.hubert import read_hubert
from omni.foreign.kmeans import read_kmeans
from omni.foreign.pickles import SafeUnpickler, Stub, unwrap
from omni.foreign.stream import read_folder, write_folder
from omni.foreign.torch_files import read_torch_file
from omni.foreign.vocoder import read_vocoder
from omni.foreign.whisper import read_whisper
from tests.published import DATA, ENCODER, HUBERT, VOCODER

KMEANS = HUBERT / "base_L3_km100.bin"
DECODER = DATA / "unit_decoder" / "decoder.safetensors"


class Attack:
    """Pickles to a call of `function` with `arguments`."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(victim: Path) -> list[Attack]:
    return [
        Attack(os.system, f"touch {victim}"),
        Attack(eval, f"open({str(victim)!r}, 'w')"),
        Attack(open, str(victim), "w"),
        Attack(getattr, Attack(__import__, "os"), "system"),
        Attack(os.mkdir, str(victim)),
    ]


def safe_load(data: bytes):
    return SafeUnpickler(io.BytesIO(data), where="test").load()


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_create_a_file_is_refused_by_name(tmp_path, kind, protocol):
    victim = tmp_path / "victim"
    data = pickle.dumps({"model": attacks(victim)[kind]}, protocol)
    with pytest.raises(CheckpointError, match=r"refused, for it asks for \w+\.\w+"):
        safe_load(data)
    assert not victim.exists()
    if kind in (0, 2):  # the attack is real
        pickle.loads(data)
        assert victim.exists()


def write_pt(file: Path, pickled: bytes, *, legacy: bool) -> Path:
    """A file of torch.save around any pickle, storages left out."""
    if legacy:
        parts = io.BytesIO()
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, parts, 2)
        file.write_bytes(parts.getvalue() + pickled + pickle.dumps([], 2))
        return file
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
    return file


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pt_file_runs_no_code_whatever_its_protocol(tmp_path, legacy, kind, protocol):
    victim = tmp_path / "victim"
    evil = pickle.dumps({"model": attacks(victim)[kind]}, protocol)
    with pytest.raises(CheckpointError, match=r"evil\.pt") as told:
        read_torch_file(write_pt(tmp_path / "evil.pt", evil, legacy=legacy))
    assert not victim.exists()
    if protocol == 2:  # torch.save's own; torch reads no other opcodes
        assert "refused, for it asks for" in str(told.value)
        plain = pickle.dumps({"model": 1}, protocol)
        assert read_torch_file(write_pt(tmp_path / "good.pt", plain, legacy=legacy)) == {"model": 1}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", [b"torch.hub load", b"torch.serialization load", b"torch load"])
def test_torchs_own_functions_are_not_called_by_a_file(tmp_path, legacy, name):
    module, function = name.split()
    evil = b"\x80\x02c" + module + b"\n" + function + b"\nX\x01\x00\x00\x00a\x85R."
    asked = b".".join((module, function)).decode()
    with pytest.raises(CheckpointError, match=rf"asks for {asked}|GLOBAL {asked} ") as told:
        read_torch_file(write_pt(tmp_path / "evil.pt", evil, legacy=legacy))
    assert "weights_only" not in str(told.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_foreign_classes_in_a_pt_file_become_stubs_and_are_never_imported(tmp_path, legacy):
    data = b"\x80\x02cfairseq.tasks.audio\nTask\n)\x81}X\x01\x00\x00\x00aK\x07sb."
    thing = read_torch_file(write_pt(tmp_path / "f.pt", data, legacy=legacy))
    assert isinstance(thing, Stub) and thing.state == {"a": 7}
    assert "fairseq.tasks.audio" not in sys.modules
    evil = data.replace(b"fairseq.tasks", b"fairseq_tasks")
    with pytest.raises(CheckpointError, match=r"asks for fairseq_tasks\.audio\.Task"):
        read_torch_file(write_pt(tmp_path / "e.pt", evil, legacy=legacy))


def test_what_one_file_names_is_not_allowed_to_the_next(tmp_path):
    data = b"\x80\x02cfairseq.tasks.audio\nTask\n)\x81."
    read_torch_file(write_pt(tmp_path / "f.pt", data, legacy=False))
    with pytest.raises(pickle.UnpicklingError, match="fairseq"):
        torch.load(tmp_path / "f.pt", weights_only=True)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("read", [read_hubert, read_whisper, read_torch_file])
def test_a_pt_file_that_would_create_a_file_is_refused(tmp_path, read, legacy):
    victim, file = tmp_path / "victim", tmp_path / "evil.pt"
    content = {"model": {}, "dims": {}, "model_state_dict": attacks(victim)[0]}
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"refused, for it asks for posix\.system"):
        read(file)
    assert not victim.exists()


def test_a_vocoder_and_a_kmeans_that_would_create_a_file_are_refused(tmp_path):
    victim = tmp_path / "victim"
    torch.save({"generator": attacks(victim)[0]}, tmp_path / "g_00000001")
    (tmp_path / "config.json").write_bytes((VOCODER / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="refused"):
        read_vocoder(tmp_path)
    (tmp_path / "km.bin").write_bytes(pickle.dumps(attacks(victim)[0]))
    with pytest.raises(CheckpointError, match="refused"):
        read_kmeans(tmp_path / "km.bin")
    assert not victim.exists()


def test_state_is_never_set_on_our_own_functions_and_classes(tmp_path):
    for name in (b"scalar", b"_reconstruct"):
        setting = b"N}X\x08\x00\x00\x00__name__X\x01\x00\x00\x00xs\x86b."
        changed = b"\x80\x02cnumpy.core.multiarray\n" + name + b"\n" + setting
        with pytest.raises(CheckpointError, match=r"sets the state of a (function|type)"):
            safe_load(changed)
        for legacy in (False, True):
            with pytest.raises(CheckpointError, match="Can only build"):
                read_torch_file(write_pt(tmp_path / "evil.pt", changed, legacy=legacy))


@pytest.mark.parametrize("package", ["fairseq.tasks", "omegaconf.base", "sklearn.cluster._kmeans"])
def test_known_foreign_classes_become_stubs_and_are_never_imported(package):
    data = b"\x80\x02c" + package.encode() + b"\nThing\n)\x81}X\x01\x00\x00\x00aK\x07sb."
    thing = safe_load(data)
    assert isinstance(thing, Stub)
    assert thing.state == {"a": 7}
    assert package not in sys.modules or package.startswith("sklearn")


def test_a_name_that_only_begins_like_a_known_package_is_refused():
    with pytest.raises(CheckpointError, match=r"asks for fairseq_evil\.Thing"):
        safe_load(b"\x80\x02cfairseq_evil\nThing\n)\x81.")


def test_older_fairseq_settings_are_read_from_a_namespace():
    namespace = argparse.Namespace(encoder_layers=12, task=argparse.Namespace(normalize=True))
    assert unwrap(safe_load(pickle.dumps(namespace))) == {
        "encoder_layers": 12, "task": {"normalize": True},
    }  # fmt: skip


def test_omegaconf_settings_are_read_without_omegaconf(monkeypatch):
    module = types.ModuleType("omegaconf.dictconfig")
    for name in ("DictConfig", "ListConfig", "AnyNode"):
        kind = type(name, (), {"__module__": module.__name__})
        setattr(module, name, kind)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def node(value, parent=None):
        made = module.AnyNode()
        made.__dict__ |= {"_val": value, "_parent": parent, "_metadata": None}
        return made

    inner, outer, listed = module.DictConfig(), module.DictConfig(), module.ListConfig()
    listed.__dict__ |= {"_content": [node(1), node(2)], "_parent": outer}
    inner.__dict__ |= {"_content": {"layers": node(4), "list": listed}, "_parent": outer}
    outer.__dict__ |= {"_content": {"model": inner, "_name": node(None)}, "_parent": None}
    data = pickle.dumps(outer)
    for name in (module.__name__, "omegaconf"):
        monkeypatch.delitem(sys.modules, name)
    expected = {"model": {"layers": 4, "list": [1, 2]}, "_name": None}
    assert unwrap(safe_load(data)) == expected


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


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 1000), byte=st.integers(0, 255))
def test_a_changed_byte_in_a_pickle_raises_nothing_but_checkpoint_errors(place, byte):
    data = bytearray(KMEANS.read_bytes()[:1200])
    data[place] = byte
    with contextlib.suppress(CheckpointError):
        safe_load(bytes(data))


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


def test_kmeans_is_read_as_joblib_reads_it():
    joblib = pytest.importorskip("joblib")
    expected = joblib.load(KMEANS).cluster_centers_
    assert np.array_equal(read_kmeans(KMEANS).values.numpy(), expected)


def test_a_fresh_kmeans_of_scikit_learn_is_read(tmp_path):
    joblib = pytest.importorskip("joblib")
    cluster = pytest.importorskip("sklearn.cluster")
    points = np.random.default_rng(0).normal(size=(40, 3))
    for place, fitted in enumerate(
        [
            cluster.KMeans(4, n_init=1, random_state=np.random.RandomState(0)).fit(points),
            cluster.MiniBatchKMeans(4, n_init=1).fit(np.asfortranarray(points)),
        ]
    ):
        file = tmp_path / f"{place}.bin"
        joblib.dump(fitted, file)
        expected = fitted.cluster_centers_.astype(np.float32)
        assert np.array_equal(read_kmeans(file).values.numpy(), expected)
        file.write_bytes(pickle.dumps(fitted))
        assert np.array_equal(read_kmeans(file).values.numpy(), expected)


def test_a_compressed_kmeans_is_told_how_to_help_itself(tmp_path):
    joblib = pytest.importorskip("joblib")
    joblib.dump({"a": np.zeros(3)}, tmp_path / "km.bin", compress=3)
    with pytest.raises(CheckpointError, match="compress=0"):
        read_kmeans(tmp_path / "km.bin")


def test_arrays_of_objects_are_refused(tmp_path):
    array = np.array([{}, 1], dtype=object)
    with pytest.raises(CheckpointError, match="no fitted k-means"):
        (tmp_path / "km.bin").write_bytes(pickle.dumps(array))
        read_kmeans(tmp_path / "km.bin")
    joblib = pytest.importorskip("joblib")
    joblib.dump({"cluster_centers_": array}, tmp_path / "km.bin")
    with pytest.raises(CheckpointError, match="only numbers"):
        read_kmeans(tmp_path / "km.bin")
