"""The unit decoder: steps equal the whole, each row is as if alone, and what it reads."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.unit_decoder import CACHE_BLOCK, UnitDecoder, UnitDecoderConfig, UnitDecoderState
from omni.values import Frames
from tests.ragged import frames_of

TINY = UnitDecoderConfig(
    input_width=8, width=16, layers=2, heads=2, ffn=24, num_units=11, upsample=5
)  # fmt: skip


def tiny_decoder() -> UnitDecoder:
    torch.manual_seed(0)
    decoder = UnitDecoder(TINY).eval()
    for parameter in decoder.parameters():
        parameter.data.mul_(1.5)  # attention must matter
    return decoder


DECODER = tiny_decoder()


def random_states(lengths: list[int], seed: int = 0) -> Frames:
    values = torch.randn(
        len(lengths), max(lengths), TINY.input_width, generator=torch.Generator().manual_seed(seed)
    )
    return Frames(values, torch.tensor(lengths))


def assert_same(ours: torch.Tensor, reference: torch.Tensor) -> None:
    """[S, K + 1]: within 1e-4, and the same best label wherever that is not a tie."""
    torch.testing.assert_close(ours, reference, atol=1e-4, rtol=0)
    best = reference.topk(2).values
    clear = best[:, 0] - best[:, 1] > 1e-3
    assert torch.equal(ours.argmax(-1)[clear], reference.argmax(-1)[clear])


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    chunks=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), max_size=5),
)
def test_steps_over_any_chunking_of_each_row_equal_the_whole(lengths, chunks):
    states = random_states(lengths)
    whole = DECODER(states)
    taken, state = [0] * len(lengths), DECODER.initial_state(len(lengths))
    heard: list[list[torch.Tensor]] = [[] for _ in lengths]
    for sizes in [*chunks, lengths]:  # the last one brings what is left
        asked = sizes[: len(lengths)]
        ends = [min(t + n, total) for t, n, total in zip(taken, asked, lengths, strict=True)]
        new = frames_of([states.values[row, taken[row] : end] for row, end in enumerate(ends)])
        scores, state = DECODER.step(new, state)
        for row in range(len(lengths)):
            heard[row].append(scores.sequence(row))
        taken = ends
    assert state.lengths.tolist() == [length * TINY.upsample for length in lengths]
    for row in range(len(lengths)):
        assert_same(torch.cat(heard[row]), whole.sequence(row))


def test_with_a_step_embedding_the_first_state_says_different_things_and_steps_equal_the_whole():
    torch.manual_seed(3)
    states = random_states([4])
    whole = {}
    for embedded in (False, True):
        decoder = UnitDecoder(replace(TINY, step_embedding=embedded)).eval()
        whole[embedded] = decoder(states).values[0].detach()
    spread = {e: float(v[: TINY.upsample].std(dim=0).max()) for e, v in whole.items()}
    assert spread[False] < 1e-5 < 1e-2 < spread[True]
    state, stepped = decoder.initial_state(1), []
    for place in range(4):
        one = Frames(states.values[:, place : place + 1], torch.tensor([1]))
        out, state = decoder.step(one, state)
        stepped.append(out.values[0])
    assert_same(torch.cat(stepped), whole[True])


FUSED = replace(TINY, gate_fusion=True)
SPELLED = replace(FUSED, spelling=3, vocabulary=9)


def fused_inputs(decoder: UnitDecoder, lengths: list[int], seed: int = 0) -> Frames:
    """States with tokens of a made-up vocabulary of 9 beside them."""
    draw = torch.Generator().manual_seed(seed)
    table = torch.randn(9, TINY.input_width, generator=draw)
    ids = torch.randint(9, (len(lengths), max(lengths)), generator=draw)
    return decoder.inputs(random_states(lengths, seed), ids, lambda ids: table[ids])


def test_gate_fusion_mixes_state_and_token_channel_by_channel() -> None:
    torch.manual_seed(1)
    decoder = UnitDecoder(FUSED).eval()
    inputs = fused_inputs(decoder, [3])
    h, e = inputs.values.double().split(TINY.input_width, dim=-1)
    parts = decoder.double().gate_fusion
    e = e / (e.square().mean(-1, keepdim=True) + FUSED.rms_norm_eps).sqrt() * parts.norm.weight
    state = h @ decoder.input_proj.weight.T + decoder.input_proj.bias
    token = e @ parts.token_proj.weight.T + parts.token_proj.bias
    wide = torch.cat([state, token], -1) @ parts.gate.weight.T + parts.gate.bias
    g = 1 / (1 + torch.exp(-wide))
    torch.testing.assert_close(
        parts(decoder.input_proj(h), inputs.values.double()[..., TINY.input_width :]),
        g * state + (1 - g) * token,
    )


@pytest.mark.parametrize("config", [FUSED, SPELLED])
def test_with_its_token_a_state_is_heard_and_any_chunking_equals_the_whole(
    config: UnitDecoderConfig,
) -> None:
    torch.manual_seed(2)
    decoder = UnitDecoder(config).eval()
    if config.spelling:
        torch.nn.init.normal_(decoder.spelling.out_proj.weight)
        decoder.spelling.codes.copy_(torch.randint(1, 256, (9, 3)))
    inputs = fused_inputs(decoder, [6, 4])
    whole = decoder(inputs)
    state, heard = decoder.initial_state(2), [[], []]
    for first, second in ((2, 0), (1, 3), (0, 0), (3, 1)):
        done = [sum(map(len, row)) // TINY.upsample for row in heard]
        new = frames_of(
            [
                inputs.values[row, place : place + size]
                for row, (place, size) in enumerate(zip(done, (first, second), strict=True))
            ]
        )
        scores, state = decoder.step(new, state)
        for row in range(2):
            heard[row].append(scores.sequence(row))
    for row in range(2):
        assert_same(torch.cat(heard[row]), whole.sequence(row))
    other = inputs.values.clone()
    behind = TINY.input_width * (2 if config.spelling else 1)
    other[0, 3, behind:] = 1.0 + other[0, 3, behind:].flip(
        -1
    )  # another token in the place of the fourth
    changed = (decoder(Frames(other, inputs.lengths)).values - whole.values).abs().amax(-1)
    assert changed[0, : 3 * TINY.upsample].max() < 1e-5 < changed[0, 3 * TINY.upsample :].min()


def test_without_gate_fusion_the_decoder_has_the_published_weights_and_reads_states_alone() -> None:
    states = random_states([3])
    ids = torch.zeros(1, 3, dtype=torch.int64)
    assert DECODER.inputs(states, ids, lambda ids: pytest.fail("embeds")) is states
    assert not [name for name in DECODER.state_dict() if "fusion" in name]


def test_states_without_their_tokens_are_refused_under_gate_fusion() -> None:
    with pytest.raises(ValueError, match="states are 8 wide, this unit decoder reads 16"):
        UnitDecoder(FUSED)(random_states([2]))


def test_each_row_comes_out_as_if_alone_whatever_its_padding_holds():
    sequences = [random_states([length], seed=length).values[0] for length in (7, 2, 4)]
    together = DECODER(frames_of(sequences))
    for row, sequence in enumerate(sequences):
        alone = DECODER(Frames(sequence[None], torch.tensor([len(sequence)])))
        assert_same(together.sequence(row), alone.values[0])
    assert together.lengths.tolist() == [35, 10, 20]


def test_a_prefix_never_changes_with_what_follows():
    states = random_states([6])
    prefix = DECODER(Frames(states.values[:, :3], torch.tensor([3])))
    assert_same(DECODER(states).values[0, : 3 * TINY.upsample], prefix.values[0])


def test_the_repeats_of_one_state_differ_by_their_place():
    scores = DECODER(random_states([2])).values[0]
    repeats = scores.reshape(2, TINY.upsample, -1)
    assert (repeats[1, 1:] - repeats[1, :1]).abs().amax(-1).min() > 1e-4


def test_log_probabilities_are_float32_and_sum_to_one_in_bfloat16_too():
    decoder = tiny_decoder().to(torch.bfloat16)
    scores = decoder(random_states([3]))
    assert scores.values.dtype == torch.float32
    torch.testing.assert_close(scores.values.exp().sum(-1), torch.ones(1, 15))
    assert decoder.initial_state(1).keys.dtype == torch.bfloat16


def test_rows_can_be_left_out_reordered_and_joined_between_steps():
    states = random_states([6, 6, 6])
    whole = DECODER(states)
    first = Frames(states.values[:, :2], torch.tensor([2, 2, 2]))
    _, state = DECODER.step(first, DECODER.initial_state(3))
    late = DECODER.initial_state(1)
    joined = UnitDecoderState.join([state.select([2, 0]), late])
    rows = [states.values[2, 2:], states.values[0, 2:], states.values[1]]
    scores, after = DECODER.step(frames_of(rows), joined)
    assert after.lengths.tolist() == [30, 30, 30]
    assert_same(scores.sequence(0), whole.values[2, 10:])
    assert_same(scores.sequence(1), whole.values[0, 10:])
    assert_same(scores.sequence(2), whole.values[1])


def test_two_continuations_of_selected_copies_do_not_disturb_each_other():
    states = random_states([5])
    _, state = DECODER.step(
        Frames(states.values[:, :2], torch.tensor([2])), DECODER.initial_state(1)
    )
    other, rest = random_states([3], seed=9), Frames(states.values[:, 2:], torch.tensor([3]))
    DECODER.step(other, state.select([0]))
    scores, _ = DECODER.step(rest, state)
    assert_same(scores.values[0], DECODER(states).values[0, 10:])


def test_a_row_without_new_states_keeps_its_place():
    states = random_states([4])
    nothing = Frames(states.values[:, :0], torch.tensor([0]))
    first = Frames(states.values[:, :2], torch.tensor([2]))
    _, state = DECODER.step(first, DECODER.initial_state(1))
    silent, state = DECODER.step(nothing, state)
    assert silent.values.shape == (1, 0, 12) and silent.lengths.tolist() == [0]
    scores, _ = DECODER.step(Frames(states.values[:, 2:], torch.tensor([2])), state)
    assert_same(scores.values[0], DECODER(states).values[0, 10:])


def test_replies_without_any_state_have_no_units():
    whole = tiny_decoder()(random_states([0, 0]))
    assert whole.values.shape[:2] == (2, 0) and whole.lengths.tolist() == [0, 0]


def test_the_cache_grows_in_blocks_and_not_with_every_token():
    state = DECODER.initial_state(1)
    capacities, token = [], random_states([1])
    for _ in range(2 * CACHE_BLOCK // TINY.upsample):
        _, state = DECODER.step(token, state)
        capacities.append(state.keys.shape[3])
    assert [size for size, _ in itertools.groupby(capacities)] == [CACHE_BLOCK, 2 * CACHE_BLOCK]


def test_a_step_with_another_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="2 rows of states, 1 in"):
        DECODER.step(random_states([1, 1]), DECODER.initial_state(1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": 0}, "layers=0"),
        ({"width": 18, "heads": 4}, "width=18"),
        ({"num_units": -1}, "=-1"),
    ],
)
def test_sizes_that_make_no_decoder_are_refused(change, says):
    sizes = dict(input_width=8, width=16, layers=1, heads=2, ffn=8, num_units=4)
    with pytest.raises(ValueError, match=says):
        UnitDecoderConfig(**(sizes | change))
