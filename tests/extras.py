"""What pyproject.toml says of core and extras, and how their packages are imported."""

import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import ROOT

PACKAGES = ("omni", "train", "data_tools", "serve")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


CORE = names(PROJECT["dependencies"])
FOR_DEVELOPERS = {"test", "docs"}  # what `make` uses
EXTRAS = {
    extra: names(lines)
    for extra, lines in PROJECT["optional-dependencies"].items()
    if extra not in FOR_DEVELOPERS
}
# Rooms that are there for an extra as a whole: their modules import it at the top.
ROOMS_OF_EXTRAS = (
    "serve.realtime.", "serve.chat.", "serve.web.", "serve.router.", "serve.bench.protocol.",
)  # fmt: skip
# As they are imported, of every extra.
OPTIONAL = {
    "tensorboard", "sklearn", "jiwer", "matplotlib", "pocketsphinx", "deepspeed", "ray", "av",
    "fairseq", "speechmos", "onnxruntime", "librosa", "gguf", "faster_whisper", "whisper",
    "fastapi", "uvicorn", "websockets", "prometheus_client", "silero_vad", "sounddevice",
}  # fmt: skip
CALLED_OTHERWISE = {"whisper": "openai-whisper"}  # module -> package, where it is not installed


def distribution(module: str) -> str:
    """Of what is not installed here the two names are the same, with few exceptions."""
    name = CALLED_OTHERWISE.get(module, module)
    return canonicalize_name(metadata.packages_distributions().get(module, [name])[0])
