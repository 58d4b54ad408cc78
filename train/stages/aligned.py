"""An aligned adapter on disk: its weights, and the bases between which it was aligned."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from omni.files import (
    UserError,
    build_config,
    load_weights,
    read_json,
    read_tensors,
    replace_folder,
    write_json,
    write_tensors,
)
from omni.frame_cache import weights_digest
from omni.model import OmniForConditionalGeneration
from omni.speech_adapter import SpeechAdapter, SpeechAdapterConfig

WEIGHTS = "speech_adapter.safetensors"
CONFIG = "config.json"


def token_embeddings(model: OmniForConditionalGeneration, tokens: Tensor) -> Tensor:
    """[V] ids -> [V, H]: as the LLM reads them, without a gradient. Some scale their table."""
    with torch.no_grad():
        return model.get_input_embeddings()(tokens)


def bases_of(model: OmniForConditionalGeneration) -> dict[str, str]:
    """Digests of what an adapter lies between: the encoder, and the LLM's embeddings."""
    return {
        "speech_encoder": weights_digest(model.speech_encoder),
        "embeddings": weights_digest(model.get_input_embeddings()),
    }


def adapter_for(
    model: OmniForConditionalGeneration, said: Set[int], *, goes_on: bool
) -> SpeechAdapter:
    """An adapter to align, of the model's size, as a mixture of these tokens of the LLM's.

    goes_on: from the model's own. Tokens that one knows stay, whether or not they are said.
    """
    own = model.speech_adapter
    known = own.mixture.token_ids.tolist() if goes_on and own.mixture is not None else []
    tokens = torch.tensor([*known, *sorted(said - set(known))])
    adapter = SpeechAdapter(
        replace(model.config.adapter, vocabulary=len(tokens)),
        input_width=model.speech_encoder.width,
        output_width=model.config.hidden_size,
    )
    assert adapter.mixture is not None
    adapter.mixture.begin(tokens, token_embeddings(model, tokens))
    if goes_on:
        adapter.linear1.load_state_dict(own.linear1.state_dict())
        adapter.linear2.load_state_dict(own.linear2.state_dict())
    if known and own.mixture is not None:
        adapter.mixture.go_on(own.mixture)
    return adapter


def write_adapter(folder: Path, adapter: SpeechAdapter, bases: Mapping[str, str]) -> None:
    """The adapter and what it was aligned to; aside first, then renamed."""
    with replace_folder(folder) as aside:
        write_json(aside / CONFIG, {"adapter": asdict(adapter.config), "bases": dict(bases)})
        write_tensors(aside / WEIGHTS, adapter.state_dict())


def load_adapter(folder: Path, model: OmniForConditionalGeneration) -> None:
    """Put an aligned adapter, with its mixture of tokens if it has one, into a model of the same
    bases.

    Raises UserError if it is of another size, or was aligned to another encoder or LLM.
    """
    record = read_json(folder / CONFIG)
    config = build_config(
        SpeechAdapterConfig, record.get("adapter"), where=f"{folder}/{CONFIG}: adapter"
    )
    # Of how many tokens it is a mixture follows from the data that it was aligned on.
    wanted = replace(model.config.adapter, vocabulary=config.vocabulary)
    if config != wanted:
        raise UserError(
            f"{folder}: an adapter of {config}, the model has {wanted}; align with the same recipe"
        )
    for name, digest in bases_of(model).items():
        if record["bases"].get(name) != digest:
            raise UserError(
                f"{folder}: aligned to another {name.replace('_', ' ')} than the given one; align "
                "with the same bases"
            )
    if config != model.config.adapter:
        width = model.speech_encoder.width
        model.speech_adapter = SpeechAdapter(
            config, input_width=width, output_width=model.config.hidden_size
        )
        model.config.speech_adapter = asdict(config)
    load_weights(model.speech_adapter, read_tensors(folder / WEIGHTS), where=str(folder / WEIGHTS))
