"""What one session keeps in memory, part by part, reckoned from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

import torch
from torch import Tensor

from omni.audio import FRAME_RATE, SAMPLE_RATE
from omni.config import OmniConfig
from omni.speech_encoder import SpeechEncoderConfig
from omni.unit_decoder import UnitDecoderConfig, grown_capacity
from omni.vocoder import Vocoder

MINUTE = 60  # seconds
FLOAT32 = 4  # bytes
# Tokens of text in a second of speech: the published voice says 29 merged units a second, and in
# the paper's data a token has about ten.
TOKENS_PER_S = 2.9
STEADY_FRAMES = 100  # after which a vocoder's state keeps its size
CONVERSATION = "the conversation's beginning is dropped"
QUESTION = "the question has been answered"
REPLY = "the reply ends"


@dataclass(frozen=True, kw_only=True)
class StateSize:
    """What a session keeps of one part; all numbers are bytes.

    each: of what `per` names. question_minute, answer_minute: by which it grows while a minute of
    question is heard, or of an answer spoken. most: that it never exceeds. until: when it goes.
    """

    part: str
    holds: str
    per: str
    each: int
    question_minute: float
    answer_minute: float
    most: int
    until: str


def state_sizes(
    config: OmniConfig,
    vocoder: Vocoder | None,
    *,
    value_bytes: int,
    max_new_tokens: int,
    tokens_per_s: float = TOKENS_PER_S,
) -> list[StateSize]:
    """In the order of the figure.

    value_bytes: of one number of the model, 2 for half types; a vocoder is float32. tokens_per_s:
    of an answer, which how its voice speaks decides.
    """
    units = config.units
    return [
        _recording(config.encoder),
        *([] if config.encoder.block_frames is None else [_encoder(config.encoder, value_bytes)]),
        *_positions(config, value_bytes, tokens_per_s),
        *([] if units is None else [_decoder(units, value_bytes, max_new_tokens, tokens_per_s)]),
        *([] if vocoder is None else [_vocoder(vocoder)]),
    ]


def position_bytes(text_config: Any, value_bytes: int) -> int:
    """Keys and values of one position, in an LLM whose layers attend to all positions."""
    heads = text_config.num_attention_heads
    kept = getattr(text_config, "num_key_value_heads", None) or heads
    width = getattr(text_config, "head_dim", None) or text_config.hidden_size // heads
    return 2 * text_config.num_hidden_layers * kept * width * value_bytes


def encoder_frame_bytes(config: SpeechEncoderConfig, value_bytes: int) -> int:
    """Keys and values of one frame of an encoder in blocks."""
    return 2 * config.layers * config.width * value_bytes


def token_bytes(config: UnitDecoderConfig, value_bytes: int) -> int:
    """Keys and values of all steps of the unit decoder that one token of text has."""
    return 2 * config.layers * config.width * config.upsample * value_bytes


def decoder_bytes(config: UnitDecoderConfig, value_bytes: int, tokens: int) -> int:
    """What a reply of so many tokens takes: its cache grows in leaps."""
    capacity = 0
    for token in range(1, tokens + 1):
        capacity = grown_capacity(capacity, token * config.upsample)
    return token_bytes(config, value_bytes) * capacity // config.upsample


def bytes_of(state: Any) -> int:
    """Of all tensors in a state, however deep they lie."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if is_dataclass(state):
        return sum(bytes_of(getattr(state, field.name)) for field in fields(state))
    if isinstance(state, (tuple, list)):
        return sum(map(bytes_of, cast("list[Any]", state)))
    return 0


def _recording(encoder: SpeechEncoderConfig) -> StateSize:
    a_second = SAMPLE_RATE * FLOAT32
    return StateSize(
        part="recording", holds="samples of the question", per="second", each=a_second,
        question_minute=MINUTE * a_second, answer_minute=0.0,
        most=encoder.max_frames * a_second // FRAME_RATE, until=QUESTION,
    )  # fmt: skip


def _encoder(encoder: SpeechEncoderConfig, value_bytes: int) -> StateSize:
    assert encoder.block_frames is not None
    each = encoder_frame_bytes(encoder, value_bytes)
    kept = encoder.max_frames
    if encoder.left_blocks is not None:
        kept = min(kept, encoder.left_blocks * encoder.block_frames)
    # Log-mel of a block that is not complete: two for each frame, and those that a convolution
    # hears beyond.
    waiting = encoder.n_mels * (2 * encoder.block_frames + 4) * value_bytes
    bounded = encoder.left_blocks is not None
    return StateSize(
        part="speech_encoder", holds="keys and values that a block still sees", per="frame",
        each=each, question_minute=0.0 if bounded else MINUTE * FRAME_RATE * each,
        answer_minute=0.0, most=kept * each + waiting, until=QUESTION,
    )  # fmt: skip


def _positions(config: OmniConfig, value_bytes: int, tokens_per_s: float) -> list[StateSize]:
    text: Any = config.text_config
    heard = MINUTE * FRAME_RATE / config.adapter.stack  # positions in a minute of question
    speech, each = text.hidden_size * value_bytes, position_bytes(text, value_bytes)
    return [
        StateSize(
            part="speech_adapter", holds="what was heard, as the LLM reads it", per="position",
            each=speech, question_minute=heard * speech, answer_minute=0.0,
            most=text.max_position_embeddings * speech, until=CONVERSATION,
        ),
        StateSize(
            part="language_model", holds="keys and values", per="position", each=each,
            question_minute=heard * each, answer_minute=MINUTE * tokens_per_s * each,
            most=text.max_position_embeddings * each, until=CONVERSATION,
        ),
    ]  # fmt: skip


def _decoder(
    units: UnitDecoderConfig, value_bytes: int, max_new_tokens: int, tokens_per_s: float
) -> StateSize:
    each = token_bytes(units, value_bytes)
    return StateSize(
        part="unit_decoder", holds="keys and values", per="token of the answer", each=each,
        question_minute=0.0, answer_minute=MINUTE * tokens_per_s * each,
        most=decoder_bytes(units, value_bytes, max_new_tokens), until=REPLY,
    )  # fmt: skip


def _vocoder(vocoder: Vocoder) -> StateSize:
    # Counted, not reckoned: it depends on every layer's reach, and is the same whatever is said.
    nothing = torch.zeros(1, STEADY_FRAMES, dtype=torch.int64, device=vocoder.device)
    with torch.inference_mode():
        _, state = vocoder.step(nothing, vocoder.initial_state())
    size = bytes_of(state)
    return StateSize(
        part="vocoder", holds="inputs that layers need again", per="session", each=size,
        question_minute=0.0, answer_minute=0.0, most=size, until=REPLY,
    )  # fmt: skip
