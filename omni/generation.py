"""`generate(..., return_audio=True)`: transformers' generation, and its replies said aloud.

Whole replies, after the text; omni.session.session speaks while it thinks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig

# Documented under this name, if not marked as exported.
from transformers.utils import ModelOutput  # pyright: ignore[reportPrivateImportUsage]

from omni.ctc import best_units
from omni.language_model import response_states
from omni.unit_decoder import UnitDecoder
from omni.values import Frames, lengths_to_mask
from omni.vocoder import vocode

if TYPE_CHECKING:
    from omni.model import OmniForConditionalGeneration


@dataclass
class OmniGenerateOutput(ModelOutput):
    """What `generate` gives with return_audio=True and return_dict_in_generate=True.

    sequences: [B, T] ids, prompt included; audio: [W] float32 at 16 kHz per row; units: merged
    units per row; text: all that transformers' own generation gave (scores, hidden states ...).
    """

    sequences: Tensor | None = None
    audio: list[Tensor] | None = None
    units: list[list[int]] | None = None
    text: ModelOutput | None = None


def speaks(return_audio: bool | None, generation_mode: str | None) -> bool:
    """Whether sound is asked for, by our own word or by that of transformers' pipelines."""
    if generation_mode not in (None, "text", "audio"):
        raise ValueError(f"generation_mode={generation_mode!r}: must be 'text' or 'audio'")
    return generation_mode == "audio" if return_audio is None else return_audio


def repeated(slots: Tensor, positions: Tensor, times: int) -> Tensor:
    """The places [times * R] of recordings for rows that stand `times` times, one copy after the
    other: all recordings of a row belong together.

    slots: [B], how many each row has for speech; positions: [R], how many each recording fills.
    """
    row = torch.searchsorted(slots.cumsum(0), positions.cumsum(0))  # of each recording
    return torch.cat([(row == number).nonzero()[:, 0].repeat(times) for number in row.unique()])


@torch.no_grad()
def generate_speech(
    model: OmniForConditionalGeneration,
    generate: Callable[..., Any],
    *args: Any,
    return_dict_in_generate: bool | None = None,
    **kwargs: Any,
) -> OmniGenerateOutput | tuple[Tensor, Tensor | list[Tensor]]:
    """`generate`, transformers' own on this model with its arguments, and what the reply sounds
    like: (ids, waveform), as Qwen-Omni gives them, a list of waveforms for several rows.

    Raises ValueError before anything is computed if the checkpoint cannot speak.
    """
    if model.unit_decoder is None or model.vocoder is None:
        lacks = "unit decoder" if model.unit_decoder is None else "vocoder"
        raise ValueError(
            f"return_audio=True: this checkpoint has no {lacks}; use one that has been through "
            "stage 2 and brings a vocoder, or leave return_audio out"
        )
    settings: GenerationConfig = kwargs.get("generation_config") or model.generation_config
    if return_dict_in_generate is None:
        return_dict_in_generate = bool(settings.return_dict_in_generate)
    output = generate(*args, **kwargs, return_dict_in_generate=True, output_hidden_states=True)
    replies = _decoder_inputs(model.unit_decoder, model, output, args, kwargs)
    device = model.unit_decoder.output_proj.weight.device
    units = best_units(
        model.unit_decoder(Frames(replies.values.to(device), replies.lengths.to(device)))
    )
    # Copies: what inference mode made could take no part in later computing.
    audio = [vocode(model.vocoder, torch.tensor(row, dtype=torch.int64)).clone() for row in units]
    if return_dict_in_generate:
        return OmniGenerateOutput(output.sequences, audio, units, output)
    return output.sequences, audio[0] if len(audio) == 1 else audio


def _decoder_inputs(
    decoder: UnitDecoder,
    model: OmniForConditionalGeneration,
    output: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Frames:
    """What the unit decoder reads of each reply's tokens, its end token's included."""
    prompt = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs"))
    tokens = output.sequences[:, prompt.shape[1] if prompt is not None else 0 :]  # [B, N]
    # Of each step's forward the last position chose the token, whether or not keys were kept.
    steps = [step[-1][:, -1] for step in output.hidden_states[: tokens.shape[1]]]
    hidden = torch.stack(steps, dim=1)  # [B, N, H]
    if (beams := getattr(output, "beam_indices", None)) is not None:
        # A reply of beam search went from row to row: its states are those of the rows it was in.
        rows = beams[:, : tokens.shape[1]].clamp(min=0)
        hidden = hidden[rows, torch.arange(tokens.shape[1], device=rows.device)]
    lengths = _reply_lengths(tokens, model, kwargs)
    states = response_states(hidden, lengths_to_mask(lengths, tokens.shape[1]))
    said = tokens[:, : states.values.shape[1]]
    return decoder.inputs(states, said, model.embed_tokens)


def _reply_lengths(
    tokens: Tensor, model: OmniForConditionalGeneration, kwargs: dict[str, Any]
) -> Tensor:
    """[B, N] new tokens -> [B]: up to the end token, or as many as are no padding."""

    def setting(name: str) -> Any:
        places = (kwargs.get("generation_config"), model.generation_config)
        values = (kwargs.get(name), *(getattr(place, name, None) for place in places))
        return next((value for value in values if value is not None), None)

    size = tokens.shape[1]
    places = torch.arange(1, size + 1, device=tokens.device)
    lengths = torch.full_like(tokens[:, 0], size)
    if (pad := setting("pad_token_id")) is not None:  # after a reply that a stop string ended
        lengths = ((tokens != pad) * places).amax(-1)
    if (ends := setting("eos_token_id")) is not None:
        ended = torch.isin(tokens, torch.as_tensor(ends, device=tokens.device))
        first = torch.where(ended, places, size).amin(-1)
        lengths = torch.where(ended.any(-1), first, lengths)
    return lengths
