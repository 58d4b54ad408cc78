"""What a stage 1 begins with: bases that are joined for the first time, or a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from omni.checkpoint import load_language_model, load_speech_encoder, load_tokenizer
from omni.config import OmniConfig
from omni.files import UserError
from omni.frame_cache import weights_digest
from omni.language_model import add_lora, is_lora
from omni.loading import load
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import add_speech_token
from train.data import tokenizer_digest
from train.stages.aligned import load_adapter

if TYPE_CHECKING:
    from train.stages.stage1 import Stage1


@dataclass(frozen=True)
class Beginning:
    """A model that is ready to train, and what it was made of.

    recipe: with the sizes that the model has. made_of: digests, by what they are of; names: of
    the folders or hub ids, to be told.
    """

    model: OmniForConditionalGeneration
    processor: OmniProcessor
    recipe: Stage1
    made_of: Mapping[str, Mapping[str, str]]
    names: Mapping[str, str]


def begin_with(
    recipe: Stage1,
    *,
    speech_encoder: str | None,
    language_model: str | None,
    checkpoint: str | Path | None,
    adapter: Path | None,
) -> Beginning:
    """Two bases or a checkpoint, and the aligned adapter if there is one.

    In a checkpoint it takes the place of the adapter there. Raises UserError unless there are
    either two bases or a checkpoint, and if the recipe keeps an adapter that nobody has given.
    """
    check_beginning(speech_encoder, language_model, checkpoint)
    if recipe.keep_adapter and checkpoint is None and adapter is None:
        raise UserError(
            "keep_adapter=True, but no adapter is given: a random one would stay, and the LLM deaf;"
            " align one (omni-train align) and give it (--adapter), or train it (--train-adapter)"
        )
    if checkpoint is not None:
        return _go_on(recipe, checkpoint, adapter)
    assert speech_encoder is not None and language_model is not None
    model, processor = join_bases(speech_encoder, language_model, recipe, seed=recipe.loop.seed)
    aligned: dict[str, str] = {}
    if adapter is not None:
        load_adapter(adapter, model)
        aligned["speech_adapter"] = weights_digest(model.speech_adapter)
    bases = {
        "speech_encoder": weights_digest(model.speech_encoder),
        "language_model": weights_digest(model.language_model),
        "tokenizer": tokenizer_digest(processor.tokenizer),
        **aligned,
    }
    return Beginning(model, processor, recipe, {"bases": bases}, model.config.bases)


def check_beginning(
    speech_encoder: str | None,
    language_model: str | None,
    checkpoint: str | Path | None,
) -> None:
    """Raise UserError unless there are two bases, or a checkpoint alone."""
    bases = {"speech encoder": speech_encoder, "language model": language_model}
    if checkpoint is None:
        if missing := [name for name, value in bases.items() if value is None]:
            raise UserError(
                f"nothing to begin with: no {missing[0]}; give both bases, or a checkpoint to go "
                "on from"
            )
        return
    if surplus := [name for name, value in bases.items() if value]:
        raise UserError(
            f"checkpoint={str(checkpoint)!r}: brings its own {surplus[0]}; leave out one of the two"
        )


def _go_on(recipe: Stage1, checkpoint: str | Path, adapter: Path | None) -> Beginning:
    """Prompt, LoRA and, where none is given, adapter are the checkpoint's, whatever the recipe says
    of their sizes."""
    model, processor = load(checkpoint, dtype=_training_dtype())
    if adapter is not None:
        load_adapter(adapter, model)
    made_of = heard_by(model) | {"tokenizer": tokenizer_digest(processor.tokenizer)}
    config = model.config
    recipe = replace(recipe, adapter=config.adapter, prompt=config.prompt_config)
    llm: Any = model.language_model
    if recipe.language_model == "lora" and not is_lora(llm):
        torch.manual_seed(recipe.loop.seed)  # of LoRA's first weights
        model.language_model = add_lora(llm, rank=recipe.lora.rank, alpha=recipe.lora.alpha)
    if recipe.language_model == "full" and is_lora(llm):
        model.language_model = llm.merge_and_unload()
    before = config.trained.get("stage1", [])
    config.trained = config.trained | {
        "stage1": [*before, *(part for part in recipe.trained if part not in before)]
    }
    return Beginning(
        model, processor, recipe, {"checkpoint": made_of}, {"checkpoint": str(checkpoint)}
    )


def heard_by(model: OmniForConditionalGeneration) -> dict[str, str]:
    """What the response states depend on: digests of the parts' weights, and how they ask."""
    parts = ("speech_encoder", "speech_adapter", "language_model")
    return {part: weights_digest(getattr(model, part)) for part in parts} | {
        "prompt": repr(sorted(model.config.prompt.items())),
        "pad_to_window": str(model.config.pad_to_window),
    }


def join_bases(
    speech_encoder: str, language_model: str, recipe: Stage1, *, seed: int
) -> tuple[OmniForConditionalGeneration, OmniProcessor]:
    """An untrained model from a Whisper encoder and a causal LM (files, folders or hub ids)."""
    tokenizer = load_tokenizer(language_model)
    if tokenizer.pad_token_id is None:  # Llama's has none; what is padded is masked anyway
        tokenizer.pad_token = tokenizer.eos_token
    encoder = load_speech_encoder(speech_encoder)
    llm = load_language_model(language_model, dtype=_training_dtype())
    config = OmniConfig(
        # As dictionaries: a configuration that two models share is changed by either.
        audio_config=encoder.config.to_whisper(),
        text_config=llm.config.to_dict(),
        speech_adapter=asdict(recipe.adapter),
        prompt=asdict(recipe.prompt),
        speech_token_id=add_speech_token(tokenizer),
        bases={
            "speech_encoder": _name_of(speech_encoder),
            "language_model": _name_of(language_model),
        },
        trained={"stage1": recipe.trained},
    )
    torch.manual_seed(seed)  # of the adapter's and LoRA's first weights
    model = OmniForConditionalGeneration(config, language_model=llm, speech_encoder=encoder)
    if recipe.language_model == "lora":
        model.language_model = add_lora(llm, rank=recipe.lora.rank, alpha=recipe.lora.alpha)
    return model, OmniProcessor(tokenizer, config)


def _training_dtype() -> torch.dtype:
    # Weights that train in bfloat16 lose small updates: float32 with autocast on a GPU as well.
    return torch.float32


def _name_of(base: str) -> str:
    """A folder by its absolute path, so that the checkpoint can be read from anywhere."""
    path = Path(base).expanduser()
    return str(path.resolve()) if path.exists() else base
