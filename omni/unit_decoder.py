"""Part 4 of 5, the speech decoder: LLM states -> unit log-probabilities, without autoregression.

Each state is repeated `upsample` times, causal Llama layers turn the repeats into different
steps, and a linear layer scores K units and the blank. Parameter names are those of LLaMA-Omni's
`speech_generator`: its weights load unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.llama_layers import LlamaLayer, RotaryPositions, rotary_frequencies
from omni.spelling import Spelling
from omni.values import Frames

CACHE_BLOCK = 512  # steps; a cache grows by at least this much, and at least doubles


@dataclass(frozen=True, kw_only=True)
class UnitDecoderConfig:
    """Sizes of the unit decoder."""

    input_width: int  # H, the LLM's width
    width: int
    layers: int
    heads: int
    ffn: int
    num_units: int  # K, without the blank
    upsample: int = 25  # steps per LLM state
    rope_theta: float = 10_000.0
    # Llama's `rope_scaling`, e.g. {"rope_type": "llama3", "factor": 8.0, ...}; empty: plain RoPE.
    rope_scaling: dict[str, Any] = field(default_factory=dict)
    rms_norm_eps: float = 1e-5
    # A learned vector per step within a state. Without it, as published, the repeats of the first
    # state are all alike and can say one unit between them; later ones differ by attention alone.
    step_embedding: bool = False
    # Reads, beside each state, the LLM's embedding of the token that the state predicts.
    gate_fusion: bool = False
    # Letters of that token that are read as well, and the ids of the LLM. See `omni.spelling`.
    spelling: int = 0
    vocabulary: int = 0

    def __post_init__(self) -> None:
        for name in ("input_width", "width", "layers", "heads", "ffn", "num_units", "upsample"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"unit_decoder.{name}={value}: must be at least 1")
        if min(self.spelling, self.vocabulary) < 0 or bool(self.spelling) != bool(self.vocabulary):
            raise ValueError(
                f"unit_decoder.spelling={self.spelling}, vocabulary={self.vocabulary}: "
                "both must be at least 1, or 0"
            )
        if self.width % (2 * self.heads):
            raise ValueError(
                f"unit_decoder.width={self.width}: must be a multiple of 2 * heads="
                f"{2 * self.heads}, for rotary positions turn pairs; change width or heads"
            )
        rotary_frequencies(self.head_dim, self.rope_theta, self.rope_scaling)  # a kind we know?

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def reads_width(self) -> int:
        """Width of what `forward` and `step` take: H, under gate fusion 2 H, then the letters."""
        return self.input_width * (2 if self.gate_fusion else 1) + self.spelling


@dataclass(frozen=True)
class UnitDecoderState:
    """Keys and values of the steps so far; slot i of a row holds the step at position i.

    keys, values: [layers, B, heads, capacity, head_dim]; lengths: [B] int64, steps of each row;
    longest: no row has more steps. It says so without a question to a GPU.
    `step` writes into the free slots in place. So an older state stays as it was, but only one
    step may continue from it: to try two continuations, continue from a `select` of it.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor
    longest: int

    def select(self, rows: Sequence[int]) -> UnitDecoderState:
        """A copy with these rows in this order; rows may be left out or taken twice."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.lengths.device)
        return UnitDecoderState(
            self.keys[:, index], self.values[:, index], self.lengths[index], self.longest
        )

    @staticmethod
    def join(states: Sequence[UnitDecoderState]) -> UnitDecoderState:
        """One batch of all the rows, in order."""
        capacity = max(state.keys.shape[3] for state in states)
        return UnitDecoderState(
            torch.cat([_enlarged(state.keys, capacity) for state in states], dim=1),
            torch.cat([_enlarged(state.values, capacity) for state in states], dim=1),
            torch.cat([state.lengths for state in states]),
            max(state.longest for state in states),
        )


class GateFusion(nn.Module):
    """State and token into one (LLaMA-Omni 2, Fang et al. 2025, arXiv 2505.02625, section 2.3.2).

    A state knows the context and only guesses the token that was then chosen; the token is sure
    and knows no context. g = sigmoid(W [h; e] + b), and what is read on is g h + (1 - g) e.
    """

    def __init__(self, input_width: int, width: int, eps: float) -> None:
        super().__init__()
        # Embedding tables are of very different scales, 0.02 to 1, and Llama's first layer norms
        # them likewise.
        self.norm = nn.RMSNorm(input_width, eps=eps)
        self.token_proj = nn.Linear(input_width, width)
        self.gate = nn.Linear(2 * width, width)

    def forward(self, states: Tensor, tokens: Tensor) -> Tensor:
        """states: [B, N, width], projected; tokens: [B, N, H] -> [B, N, width]."""
        e = self.token_proj(self.norm(tokens))
        g = torch.sigmoid(self.gate(torch.cat([states, e], dim=-1)))
        return g * states + (1 - g) * e


class UnitDecoder(nn.Module):
    """The figure's speech decoder (Fang et al. 2024, section 2.4), whole and step by step."""

    def __init__(self, config: UnitDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.upsample = config.upsample
        self.blank = config.num_units  # the last class
        self.input_proj = nn.Linear(config.input_width, config.width)
        self.layers = nn.ModuleList(
            LlamaLayer(
                width=config.width,
                heads=config.heads,
                ffn=config.ffn,
                rms_norm_eps=config.rms_norm_eps,
            )
            for _ in range(config.layers)
        )
        self.output_proj = nn.Linear(config.width, config.num_units + 1)
        if config.step_embedding:
            self.step_embedding = nn.Embedding(config.upsample, config.width)
        if config.gate_fusion:
            self.gate_fusion = GateFusion(config.input_width, config.width, config.rms_norm_eps)
        if config.spelling:
            self.spelling = Spelling(config.vocabulary, config.spelling, config.width)
        self._rotary = RotaryPositions(config.head_dim, config.rope_theta, config.rope_scaling)

    def inputs(self, states: Frames, ids: Tensor, embed: Callable[[Tensor], Tensor]) -> Frames:
        """What this decoder reads of the LLM: its states, and as configured, their tokens.

        states: [B, N, H]; ids: [B, N], the token that each state predicts (y_k for state k);
        embed: the LLM's own embedding of ids, [B, N, H]. Returns [B, N, H], under gate fusion with
        the embeddings behind, [B, N, 2 H], and behind these the letters.
        """
        letters = self.spelling.letters if self.config.spelling else None
        return with_tokens(states, ids, embed if self.config.gate_fusion else None, letters)

    def forward(self, states: Frames) -> Frames:
        """What `inputs` gives -> float32 log-probabilities [B, N * upsample, K + 1].

        Padding follows the states, and nothing looks ahead: each row comes out as if alone.
        """
        x = self._steps_of(states)  # [B, S, width]
        if x.shape[1] == 0:  # attention refuses what is empty
            return self._scores(x, states.lengths)
        positions = torch.arange(x.shape[1], device=x.device)[None, :]
        rotation = self._rotary(positions, x.dtype)
        for layer in self.layers:
            x = layer(x, rotation)
        return self._scores(x, states.lengths)

    def initial_state(self, batch: int) -> UnitDecoderState:
        """The state before the first LLM state of `batch` replies."""
        weight, config = self.output_proj.weight, self.config
        empty = weight.new_zeros(config.layers, batch, config.heads, 0, config.head_dim)
        lengths = torch.zeros(batch, dtype=torch.int64, device=weight.device)
        return UnitDecoderState(empty, empty.clone(), lengths, 0)

    @torch.no_grad()
    def step(self, states: Frames, state: UnitDecoderState) -> tuple[Frames, UnitDecoderState]:
        """The next `inputs` of each row, [B, n, H] -> [B, n * upsample, K + 1] and the new state.

        Rows may bring different numbers of states, also none. What was computed before is read
        from the cache. Any chunking gives what `forward` gives.
        Raises ValueError if the number of rows differs from the state's.
        """
        if states.values.shape[0] != state.lengths.shape[0]:
            raise ValueError(
                f"{states.values.shape[0]} rows of states, {state.lengths.shape[0]} in the "
                "unit decoder's state: give each row of the state its own (0 states is allowed)"
            )
        x = self._steps_of(states)  # [B, s, width]
        if x.shape[1] == 0:
            return self._scores(x, states.lengths), state
        positions = state.lengths[:, None] + torch.arange(x.shape[1], device=x.device)  # [B, s]
        longest = state.longest + x.shape[1]
        capacity = grown_capacity(state.keys.shape[3], longest)
        keys, values = _enlarged(state.keys, capacity), _enlarged(state.values, capacity)
        x = self._through(x, positions, _Cache(keys, values, positions, longest))
        lengths = state.lengths + states.lengths * self.upsample
        return self._scores(x, states.lengths), UnitDecoderState(keys, values, lengths, longest)

    @torch.no_grad()
    def step_within(
        self, states: Frames, lengths: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]
    ) -> Frames:
        """`step` in a buffer that has room for it.

        lengths: [B], steps of each row before these; keys, values: of each layer, [B, heads,
        capacity, head_dim], written in place. The work depends on shapes alone, and nothing is
        read back from a GPU; so it can be compiled. It goes over all of the capacity.
        """
        x = self._steps_of(states)  # [B, s, width]
        positions = lengths[:, None] + torch.arange(x.shape[1], device=x.device)  # [B, s]
        cache = _Cache(keys, values, positions, keys[0].shape[2])
        return self._scores(self._through(x, positions, cache), states.lengths)

    def _through(self, x: Tensor, positions: Tensor, cache: _Cache) -> Tensor:
        """All layers, over the steps at these positions [B, s]."""
        rotation = self._rotary(positions, x.dtype)
        for index, layer in enumerate(self.layers):
            x = layer(x, rotation, cache, index)
        return x

    def _steps_of(self, states: Frames) -> Tensor:
        """[B, N, H] -> [B, N * upsample, width]; projected first, as repeats project alike."""
        config = self.config
        if (width := states.values.shape[-1]) != config.reads_width:
            raise ValueError(
                f"states are {width} wide, this unit decoder reads {config.reads_width}; take them "
                "from the LLM that it was trained on, through `inputs`"
            )
        # Zeroed: attention multiplies padding by 0, and 0 * NaN would be NaN.
        real = states.values.masked_fill(~states.mask[:, :, None], 0.0)
        real = real.to(self.input_proj.weight.dtype)
        x = self.input_proj(real[..., : config.input_width])
        if config.gate_fusion:
            x = self.gate_fusion(x, real[..., config.input_width : 2 * config.input_width])
        x = x.repeat_interleave(self.upsample, dim=1)
        if config.step_embedding:
            x = x + self.step_embedding.weight.repeat(states.values.shape[1], 1)
        if config.spelling:
            x = x + self.spelling(real[..., -config.spelling :].long(), self.upsample)
        return x

    def _scores(self, x: Tensor, state_lengths: Tensor) -> Frames:
        """[B, S, width] -> [B, S, K + 1] float32; there is no norm before the projection."""
        # float32: CTC sums over many paths, and bfloat16 loses the small ones.
        log_probs = F.log_softmax(self.output_proj(x).float(), dim=-1)
        return Frames(log_probs, state_lengths * self.upsample)


class _Cache:
    """Keys and values, open for one step: a `KeyValueCache` of the layers."""

    def __init__(
        self,
        keys: Tensor | Sequence[Tensor],
        values: Tensor | Sequence[Tensor],
        positions: Tensor,
        longest: int,
    ) -> None:
        """keys, values: of each layer, [B, heads, capacity, head_dim]; positions: [B, s] of the
        steps, with padding; longest: of the rows, after the step.

        Padding is stored like a real step, into slots that are free: no real step looks that far,
        and the row's next one overwrites it. Which steps are real need not be known here.
        """
        slots = torch.arange(longest, device=positions.device)
        ahead = (slots > positions[:, :, None])[:, None]
        self.mask = keys[0].new_zeros(ahead.shape).masked_fill_(ahead, -math.inf)
        self._keys, self._values = keys, values
        self._rows = torch.arange(len(positions), device=positions.device)[:, None]
        self._slots = positions
        self._longest = longest

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Store each row's [heads, s, head_dim] behind its own past; give back all of it."""
        stored = self._keys[layer], self._values[layer]
        for whole, fresh in zip(stored, (keys, values), strict=True):
            whole[self._rows, :, self._slots] = fresh.transpose(1, 2)
        return stored[0][:, :, : self._longest], stored[1][:, :, : self._longest]


def with_tokens(
    states: Frames,
    ids: Tensor,
    embed: Callable[[Tensor], Tensor] | None,
    letters: Callable[[Tensor], Tensor] | None,
) -> Frames:
    """States with what is read of their tokens behind them; see `UnitDecoder.inputs`."""
    # The letters are bytes, which every type of weights holds exactly.
    read = [about(ids).to(states.values) for about in (embed, letters) if about is not None]
    return Frames(torch.cat([states.values, *read], -1), states.lengths) if read else states


def grown_capacity(capacity: int, steps: int) -> int:
    """The slots of a cache that held `capacity` and has to hold so many steps."""
    return capacity if steps <= capacity else max(steps, 2 * capacity, CACHE_BLOCK)


def _enlarged(cache: Tensor, capacity: int) -> Tensor:
    """[layers, B, heads, c, head_dim] with zeroed slots up to `capacity`; itself if it fits."""
    missing = capacity - cache.shape[3]
    return F.pad(cache, (0, 0, 0, missing)) if missing else cache
