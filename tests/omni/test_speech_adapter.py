"""Stacks of k frames become LLM positions, and stand where the prompt has its slots."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from omni.speech_adapter import SpeechAdapter, SpeechAdapterConfig, splice
from omni.values import Frames


def adapter(stack: int = 5) -> SpeechAdapter:
    torch.manual_seed(0)
    config = SpeechAdapterConfig(stack=stack, hidden=16)
    return SpeechAdapter(config, input_width=4, output_width=8)


def frames(*lengths: int) -> Frames:
    torch.manual_seed(1)
    return Frames(torch.randn(len(lengths), max(lengths), 4), torch.tensor(lengths))


@torch.no_grad()
def test_a_position_is_an_mlp_of_k_frames_side_by_side() -> None:
    speech = frames(12)
    weights = {name: value.numpy() for name, value in adapter().state_dict().items()}
    stacked = speech.values[0, :10].numpy().reshape(2, 20)
    hidden = np.maximum(stacked @ weights["linear1.weight"].T + weights["linear1.bias"], 0)
    expected = hidden @ weights["linear2.weight"].T + weights["linear2.bias"]
    np.testing.assert_allclose(adapter()(speech).values[0].numpy(), expected, atol=1e-5)


def test_the_published_size_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        published = SpeechAdapter(SpeechAdapterConfig(), input_width=1280, output_width=4096)
    assert sum(p.numel() for p in published.parameters()) == 21_501_952


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 23), min_size=1, max_size=4), stack=st.integers(1, 6))
def test_rows_of_a_batch_come_out_as_if_alone(lengths: list[int], stack: int) -> None:
    with torch.no_grad():
        batch = adapter(stack)(frames(*lengths))
        for row, length in enumerate(lengths):
            lone = frames(*lengths).sequence(row)[None]
            alone = adapter(stack)(Frames(lone, torch.tensor([length])))
            assert int(batch.lengths[row]) == adapter(stack).config.positions(length)
            torch.testing.assert_close(batch.sequence(row), alone.sequence(0), atol=1e-5, rtol=0)


def mixing(vocabulary: int = 3) -> tuple[SpeechAdapter, nn.Embedding]:
    """An adapter over tokens 2, 5 and 7 of an LLM that knows ten."""
    torch.manual_seed(0)
    config = SpeechAdapterConfig(stack=5, hidden=16, vocabulary=vocabulary)
    mixed = SpeechAdapter(config, input_width=4, output_width=8)
    embed = nn.Embedding(10, 8)
    ids = torch.tensor([2, 5, 7])
    assert mixed.mixture is not None
    mixed.mixture.begin(ids, embed(ids))
    return mixed, embed


@torch.no_grad()
def test_what_was_heard_clearly_is_the_llms_own_embedding() -> None:
    mixed, embed = mixing()
    assert mixed.mixture is not None
    mixed.mixture.bias.copy_(torch.tensor([0.0, 1000.0, 0.0, 0.0]))
    heard = mixed(frames(12), embed).values
    torch.testing.assert_close(heard[0], embed.weight[[5, 5]])
    mixed.mixture.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1000.0]))  # the blank
    heard = mixed(frames(12), embed).values
    torch.testing.assert_close(heard[0, 0], embed.weight[[2, 5, 7]].mean(0))


@torch.no_grad()
def test_what_was_heard_unclearly_lies_among_the_embeddings_by_its_scores() -> None:
    mixed, embed = mixing()
    assert mixed.mixture is not None
    rows = torch.cat([embed.weight[[2, 5, 7]], mixed.mixture.silence[None]])
    stacked = mixed.stacked(frames(12)).values[0]
    shares = mixed.mixture.scores(stacked, embed.weight[[2, 5, 7]]).softmax(-1)
    torch.testing.assert_close(mixed(frames(12), embed).values[0], shares @ rows)
    assert float(shares.min()) > 0.0 and float(shares.max()) < 1.0


def test_a_mixture_asks_for_the_embeddings_that_it_mixes() -> None:
    with pytest.raises(ValueError, match=r"embed=None: a mixture of tokens needs the LLM's"):
        mixing()[0](frames(12))


def test_recordings_fill_the_slots_in_order_and_nothing_else_changes() -> None:
    embeddings = torch.randn(2, 5, 3)
    slots = torch.tensor([[False, True, True, False, True], [True, False, False, False, False]])
    speech = Frames(torch.randn(3, 2, 3), torch.tensor([2, 1, 1]))
    spliced = splice(embeddings, slots, speech)
    torch.testing.assert_close(spliced[0, 1:3], speech.values[0])
    torch.testing.assert_close(spliced[0, 4], speech.values[1, 0])
    torch.testing.assert_close(spliced[1, 0], speech.values[2, 0])
    torch.testing.assert_close(spliced[~slots], embeddings[~slots])


@pytest.mark.parametrize("positions", [1, 3])
def test_slots_and_positions_must_be_equally_many(positions: int) -> None:
    slots = torch.tensor([[True, True, False]])
    speech = Frames(torch.randn(1, positions, 3), torch.tensor([positions]))
    with pytest.raises(ValueError, match=f"2 speech slots.*{positions} speech positions"):
        splice(torch.randn(1, 3, 3), slots, speech)


@pytest.mark.parametrize("name", ["stack", "hidden"])
def test_sizes_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"speech_adapter.{name}=0: must be at least 1"):
        SpeechAdapterConfig(**{name: 0})
