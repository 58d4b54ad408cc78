"""Pickles that run code are refused by name; foreign classes in them are read as stubs."""

import argparse
import contextlib
import io
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.files.folders import CheckpointError
from omni.foreign.hubert import read_hubert
from omni.foreign.kmeans import read_kmeans
from omni.foreign.pickles import SafeUnpickler, Stub, unwrap
from omni.foreign.torch_files import read_torch_file
from omni.foreign.vocoder import read_vocoder
from omni.foreign.whisper import read_whisper
from tests.published import KMEANS, VOCODER


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


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 1000), byte=st.integers(0, 255))
def test_a_changed_byte_in_a_pickle_raises_nothing_but_checkpoint_errors(place, byte):
    data = bytearray(KMEANS.read_bytes()[:1200])
    data[place] = byte
    with contextlib.suppress(CheckpointError):
        safe_load(bytes(data))
