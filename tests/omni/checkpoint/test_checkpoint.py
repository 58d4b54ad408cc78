"""Folders appear whole or not at all, and errors fit on one line."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from omni.files import replace_folder
from omni.files.folders import (
    CheckpointError,
    build_config,
    load_weights,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from omni.speech_adapter import SpeechAdapterConfig


def test_a_folder_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    for text in ("old", "new"):
        with replace_folder(folder) as aside:
            (aside / "a.txt").write_text(text)
            if text == "new":
                assert (folder / "a.txt").read_text() == "old"
    assert (folder / "a.txt").read_text() == "new"
    assert list(tmp_path.iterdir()) == [folder]


def test_writing_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    with replace_folder(folder) as aside:
        (aside / "a.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), replace_folder(folder) as aside:
        (aside / "a.txt").write_text("half")
        raise KeyboardInterrupt
    assert (folder / "a.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_whoever_may_read_the_folder_may_read_its_weights(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with replace_folder(tmp_path / "checkpoint") as aside:
            write_tensors(aside / "a.safetensors", {"a": torch.ones(2)})
    finally:
        os.umask(before)
    assert (tmp_path / "checkpoint" / "a.safetensors").stat().st_mode & 0o777 == 0o644


def test_floating_point_weights_are_written_in_the_type_asked_for_and_others_as_they_are(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"w": torch.ones(2), "n": torch.arange(3)}, dtype=torch.float16)
    read = read_tensors(path)
    assert (read["w"].dtype, read["n"].dtype) == (torch.float16, torch.int64)


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.old").mkdir()  # as it stands when the kill comes
    (tmp_path / ".checkpoint.old" / "a.txt").write_text("old")
    folder = tmp_path / "checkpoint"
    with pytest.raises(RuntimeError), replace_folder(folder):
        raise RuntimeError
    assert (folder / "a.txt").read_text() == "old"


def test_json_survives_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"größe": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"größe": [1, 2.5, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("{", "not readable as JSON"), ("[1]", "holds list, not an object")],
)
def test_bad_json_is_named(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CheckpointError, match=rf"a\.json: {message}") as error:
        read_json(path)
    assert "\n" not in str(error.value)


def test_missing_and_damaged_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match=r"a\.safetensors: no such file"):
        read_tensors(path)
    save_file({"weight": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("bias"), "missing bias;"),
        (lambda state: state.update(extra=torch.ones(1)), "surplus extra;"),
        (lambda state: state.update(bias=torch.ones(5)), r"bias has shape \[5\].*says \[2\]"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(change, message: str) -> None:
    module, state = nn.Linear(3, 2), nn.Linear(3, 2).state_dict()
    before = module.weight.clone()
    change(state)
    with pytest.raises(CheckpointError, match=rf"here: .*{message}"):
        load_weights(module, state, where="here")
    torch.testing.assert_close(module.weight, before)


def test_many_missing_weights_are_counted() -> None:
    with pytest.raises(CheckpointError, match=r"missing 0.bias, 0.weight, 1.bias and 3 more"):
        load_weights(nn.Sequential(*(nn.Linear(1, 1) for _ in range(3))), {}, where="here")


def test_a_configuration_is_built_from_its_own_keys_alone() -> None:
    values = json.loads('{"stack": 3, "hidden": 7}')
    built = build_config(SpeechAdapterConfig, values, where="a")
    assert built == SpeechAdapterConfig(stack=3, hidden=7)
    with pytest.raises(CheckpointError, match=r"a: unknown key 'width'; known are hidden, stack"):
        build_config(SpeechAdapterConfig, {"width": 3}, where="a")
