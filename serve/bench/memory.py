"""`omni-serve bench memory`: what one session keeps, part by part, from the sizes alone."""

# Heavy imports stand inside the functions: `omni-serve --help` must not wait for torch.
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from serve.bench.table import print_table

if TYPE_CHECKING:
    from omni.about import StateSize
    from omni.config import OmniConfig
    from omni.vocoder import Vocoder

MB = 1e6
MAX_NEW_TOKENS = 256


def memory_command(
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="NAME_OR_DIR_OR_HUB_ID", help="Default: --size."),
    ] = None,
    size: Annotated[
        Literal["tiny", "mid", "8b"], typer.Option(help="As in the other benches; no weights made.")
    ] = "8b",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Of the model.")
    ] = "bfloat16",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Of an answer, at most.")
    ] = MAX_NEW_TOKENS,
    tokens_per_second: Annotated[
        float | None,
        typer.Option(min=0.1, help="Of text, in a second of an answer. Default: 2.9."),
    ] = None,
) -> None:
    """How much memory one session takes, and how it grows with each minute of talk.

    Reckoned from the configuration; the vocoder's state, which depends on every layer's reach, is
    counted on one with random weights.
    """
    import torch

    from omni.about import TOKENS_PER_S, state_sizes

    config, vocoder = _sized(size) if checkpoint is None else _stored(checkpoint)
    rate = tokens_per_second or TOKENS_PER_S
    value_bytes = getattr(torch, dtype).itemsize
    found = state_sizes(
        config, vocoder, value_bytes=value_bytes, max_new_tokens=max_new_tokens, tokens_per_s=rate
    )
    print_table(f"one session of {checkpoint or size}, {dtype}; MB", cells(found))
    typer.echo(
        f"{rate:g} tokens of text a second of answer, answers of {max_new_tokens} tokens at most"
    )


def cells(found: Sequence[StateSize]) -> list[list[str]]:
    """The heading, a line per part, and what all come to."""
    lines = [
        [one.part, one.holds, f"{one.each:,} bytes a {one.per}", _shown(one.question_minute),
         _shown(one.answer_minute), _shown(one.most), one.until]
        for one in found
    ]  # fmt: skip
    most = _shown(sum(one.most for one in found))
    heading = ["part", "holds", "each", "a minute of question", "of answer", "at most", "until"]
    return [heading, *lines, ["all", "", "", "", "", most, ""]]


def _shown(count: float) -> str:
    return f"{count / MB:.1f}" if count else "-"


def _sized(size: str) -> tuple[OmniConfig, Vocoder]:
    from omni.vocoder import UnitHifiGan
    from serve.bench.latency import SIZES, omni_config, word_tokenizer

    chosen = SIZES[size]
    tokenizer = word_tokenizer(chosen.language_model["vocab_size"])
    return omni_config(chosen, tokenizer), UnitHifiGan(chosen.vocoder).eval()


def _stored(checkpoint: str) -> tuple[OmniConfig, Vocoder | None]:
    from omni.config import OmniConfig
    from omni.files import fetch, read_json
    from omni.vocoder import load_vocoder

    folder = fetch(checkpoint)
    read_json(folder / "config.json")  # says what is wrong where it is none
    own = folder / "vocoder"
    return OmniConfig.from_pretrained(folder), load_vocoder(own) if own.is_dir() else None
