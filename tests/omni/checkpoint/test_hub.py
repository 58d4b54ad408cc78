"""push_to_hub uploads a checkpoint that whoever downloads it can use; nothing is sent here."""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError
from test_checkpoint_card import listening

from omni.files.folders import CheckpointError, read_json
from omni.language_model import add_lora
from omni.loading import load
from omni.model import OmniForConditionalGeneration
from tests.tiny import tiny_model, tiny_processor


class Hub:
    """A folder in place of the hub; `calls` has what each call was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: dict[str, dict] = {}

    def create_repo(self, api, repo_id: str, **given) -> SimpleNamespace:
        self.calls["create_repo"] = {"token": api.token, "repo_id": repo_id, **given}
        self.folder.mkdir(exist_ok=True)
        return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

    def create_branch(self, api, repo_id: str, **given) -> None:
        self.calls["create_branch"] = given

    def hf_hub_download(self, api, repo_id: str, filename: str, **given) -> str:
        if not (self.folder / filename).is_file():
            raise EntryNotFoundError(filename)
        return str(self.folder / filename)

    def upload_folder(self, api, *, folder_path: Path, **given) -> str:
        self.calls["upload_folder"] = given
        files = [file for file in folder_path.rglob("*") if file.is_file()]
        ignored = given.pop("ignore_patterns", None) or []
        for file in [file for file in self.folder.rglob("*") if file.is_file()]:
            name = file.relative_to(self.folder).as_posix()
            if any(fnmatch(name, pattern) for pattern in given["delete_patterns"]):
                file.unlink()
        for file in files:
            name = file.relative_to(folder_path).as_posix()
            if not any(fnmatch(name, pattern) for pattern in ignored):
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, self.folder / name)
        return "done"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    for name in ("create_repo", "create_branch", "hf_hub_download", "upload_folder"):
        method = getattr(hub, name)
        monkeypatch.setattr(
            HfApi, name, lambda api, *args, _method=method, **given: _method(api, *args, **given)
        )
    return hub


def assert_same(one, other) -> None:
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), atol=0, rtol=0)


def checkpoint(folder: Path) -> Path:
    model = listening(folder)
    model.save_pretrained(folder / "checkpoint", processor=tiny_processor(model.config))
    return folder / "checkpoint"


def test_what_was_pushed_can_be_used_where_the_bases_of_this_machine_are_not(
    hub: Hub, tmp_path: Path
) -> None:
    model = OmniForConditionalGeneration.from_pretrained(checkpoint(tmp_path))
    assert model.push_to_hub("me/omni") == "done"
    shutil.rmtree(tmp_path / "encoder")
    shutil.rmtree(tmp_path / "llm")
    again, processor = load(hub.folder)
    assert_same(again, model)
    assert processor.tokenizer.get_vocab() == tiny_processor().tokenizer.get_vocab()
    card = (hub.folder / "README.md").read_text()
    assert "# me/omni\n" in card and 'omni.load("me/omni")' in card
    for file in hub.folder.rglob("*"):
        if file.suffix in (".json", ".md"):
            assert str(tmp_path) not in file.read_text(), file


def test_lora_is_pushed_with_the_llm_below_it(hub: Hub, tmp_path: Path) -> None:
    model = OmniForConditionalGeneration.from_pretrained(checkpoint(tmp_path))
    model.language_model = add_lora(model.language_model, rank=2, alpha=4)
    model.push_to_hub("me/omni")
    shutil.rmtree(tmp_path / "llm")
    assert_same(load(hub.folder)[0], model)
    for file in hub.folder.rglob("*.json"):
        assert str(tmp_path) not in file.read_text(), file


def test_a_base_of_the_hub_stays_a_name(hub: Hub, tmp_path: Path, monkeypatch) -> None:
    model = OmniForConditionalGeneration.from_pretrained(checkpoint(tmp_path))
    llm = tmp_path / "llm"
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **_: {"somebody/llm": str(llm)}[name]
    )
    model.config.bases["language_model"] = "somebody/llm"
    model.push_to_hub("me/omni")
    assert read_json(hub.folder / "config.json")["bases"] == {"language_model": "somebody/llm"}
    assert not (hub.folder / "language_model").exists()
    assert "- somebody/llm" in (hub.folder / "README.md").read_text()


def test_the_keywords_of_transformers_arrive(hub: Hub) -> None:
    tiny_model().push_to_hub(
        "omni", commit_message="better", commit_description="why", private=True, token="secret",
        revision="next", create_pr=True, tags=["cooking"], max_shard_size="20KB",
        processor=tiny_processor(),
    )  # fmt: skip
    created, uploaded = hub.calls["create_repo"], hub.calls["upload_folder"]
    assert (created["private"], created["token"], created["exist_ok"]) == (True, "secret", True)
    assert uploaded["repo_id"] == "me/omni"
    assert (uploaded["commit_message"], uploaded["commit_description"]) == ("better", "why")
    assert (uploaded["revision"], uploaded["create_pr"]) == ("next", True)
    assert hub.calls["create_branch"]["branch"] == "next"
    assert "- cooking" in (hub.folder / "README.md").read_text()
    assert len(list((hub.folder / "language_model").glob("*.safetensors"))) > 1


def test_without_a_tokenizer_nothing_is_uploaded(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer is known.*give processor="):
        tiny_model().push_to_hub("me/omni")
    assert hub.calls == {}


def test_save_pretrained_pushes_what_it_saves(hub: Hub, tmp_path: Path) -> None:
    model = tiny_model()
    folder = tmp_path / "mine"
    model.save_pretrained(folder, processor=tiny_processor(), push_to_hub=True, token="secret")
    assert hub.calls["create_repo"] == {
        "token": "secret", "repo_id": "mine", "private": None, "exist_ok": True,
    }  # fmt: skip
    assert_same(load(folder)[0], model)
    assert_same(load(hub.folder)[0], model)

    model.save_pretrained(folder, push_to_hub=True, repo_id="me/other")  # tokenizer: the folder's
    assert hub.calls["create_repo"]["repo_id"] == "me/other"


def test_a_second_push_leaves_nothing_of_the_first_that_would_be_read(
    hub: Hub, tmp_path: Path
) -> None:
    tiny_model().push_to_hub("me/omni", processor=tiny_processor(), max_shard_size="20KB")
    silent = tiny_model(seed=1, vocoder=None)
    silent.push_to_hub("me/omni", processor=tiny_processor())
    shutil.rmtree(hub.folder / "vocoder")  # git keeps no empty folders
    assert_same(load(hub.folder)[0], silent)


def test_a_card_that_a_person_wrote_on_the_hub_stays(hub: Hub) -> None:
    tiny_model().push_to_hub("me/omni", processor=tiny_processor())
    first = (hub.folder / "README.md").read_text()
    tiny_model(vocoder=None).push_to_hub("me/omni", processor=tiny_processor())
    assert (hub.folder / "README.md").read_text() != first  # ours: written anew
    (hub.folder / "README.md").write_text("My own words.\n")
    tiny_model().push_to_hub("me/omni", processor=tiny_processor())
    assert (hub.folder / "README.md").read_text() == "My own words.\n"
