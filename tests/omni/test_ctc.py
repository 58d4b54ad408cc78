"""CTC: the loss against brute force, and a collapse that does not notice chunk borders."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni.ctc import (
    CollapseState,
    best_labels,
    best_units,
    collapse,
    ctc_loss,
    infeasible,
    initial_collapse_state,
    required_frames,
)
from omni.values import Frames

BLANK = 3


def log_probs(batch: int, steps: int, classes: int, lengths: list[int], seed: int = 0) -> Frames:
    values = torch.randn(batch, steps, classes, generator=torch.Generator().manual_seed(seed))
    return Frames(values.log_softmax(-1), torch.tensor(lengths))


def brute_force(scores: torch.Tensor, units: list[int]) -> float:
    """-log of the summed probability of every path [S, K + 1] that collapses to `units`."""
    steps, classes = scores.shape
    blank, total = classes - 1, 0.0
    for path in itertools.product(range(classes), repeat=steps):
        if collapse(path, initial_collapse_state(blank), blank)[0] == units:
            total += float(scores.double()[range(steps), list(path)].sum().exp())
    return -torch.tensor(total, dtype=torch.float64).log().item()


@pytest.mark.parametrize(
    ("units", "needed"), [([], 0), ([4], 1), ([4, 5], 2), ([4, 4], 3), ([4, 4, 4, 5], 6)]
)
def test_equal_neighbours_need_a_blank_between_them(units, needed):
    assert required_frames(units) == needed


def test_infeasible_pairs_are_named_with_what_they_need_and_have():
    found = infeasible([("fits", [1, 1, 2], 4), ("reply-7", [1, 1, 2], 3), (12, [5], 0)])
    assert [(pair.key, pair.needed, pair.available) for pair in found] == [
        ("reply-7", 4, 3),
        (12, 1, 0),
    ]
    assert "reply-7" in str(found[0]) and "upsample" in str(found[0])


@given(st.lists(st.integers(0, 2), max_size=4))
def test_torch_finds_a_path_exactly_where_we_say_there_is_one(units):
    steps = 4
    loss = torch.nn.functional.ctc_loss(
        log_probs(1, steps, 4, [steps]).values.transpose(0, 1), torch.tensor([units]).long(),
        torch.tensor([steps]), torch.tensor([len(units)]), blank=BLANK, reduction="sum",
    )  # fmt: skip
    assert bool(loss.isinf()) == bool(infeasible([("x", units, steps)]))


@pytest.mark.parametrize("units", [[0], [0, 1], [1, 1], [2, 0, 2]])
def test_the_loss_sums_over_every_path_that_collapses_to_the_units(units):
    scores = log_probs(1, 5, 4, [5])
    loss = ctc_loss(scores, torch.tensor([units]), torch.tensor([len(units)]))
    assert loss.item() == pytest.approx(brute_force(scores.values[0], units) / len(units), rel=1e-5)


def test_the_loss_is_per_unit_and_an_infeasible_pair_counts_only_its_units():
    scores = log_probs(3, 5, 4, [5, 4, 2])
    targets = torch.tensor([[0, 1, 9], [2, 9, 9], [1, 1, 1]])  # the third cannot fit in 2 steps
    expected = brute_force(scores.values[0], [0, 1]) + brute_force(scores.values[1, :4], [2])
    loss = ctc_loss(scores, targets, torch.tensor([2, 1, 3]))
    assert loss.item() == pytest.approx(expected / 6, rel=1e-5)


def test_padding_of_steps_and_targets_changes_nothing():
    scores = log_probs(1, 5, 4, [5])
    noise = torch.full((1, 3, 4), float("nan"))
    padded = Frames(torch.cat([scores.values, noise], dim=1), scores.lengths)
    alone = ctc_loss(scores, torch.tensor([[0, 1]]), torch.tensor([2]))
    assert torch.equal(ctc_loss(padded, torch.tensor([[0, 1, -100]]), torch.tensor([2])), alone)


def test_an_infeasible_pair_leaves_no_gradient():
    raw = torch.randn(1, 2, 4, requires_grad=True)
    frames = Frames(raw.log_softmax(-1), torch.tensor([2]))
    ctc_loss(frames, torch.tensor([[1, 1]]), torch.tensor([2])).backward()
    assert raw.grad is not None and torch.equal(raw.grad, torch.zeros_like(raw))


@pytest.mark.parametrize(
    ("targets", "lengths", "says"),
    [([[0, 3]], [2], "from 0 to 3"), ([[-1]], [1], "0 to 2"), ([[0]], [0], "no units")],
)
def test_targets_that_cannot_be_learnt_are_refused(targets, lengths, says):
    with pytest.raises(ValueError, match=says):
        ctc_loss(log_probs(1, 4, 4, [4]), torch.tensor(targets), torch.tensor(lengths))


labels_strategy = st.lists(st.integers(0, BLANK), max_size=30)


@given(labels_strategy, st.lists(st.integers(0, 30), max_size=6))
def test_collapse_over_any_chunking_equals_the_whole(labels, cuts):
    borders = [0, *sorted(min(cut, len(labels)) for cut in cuts), len(labels)]
    state, units = initial_collapse_state(BLANK), []
    for start, end in itertools.pairwise(borders):
        new, state = collapse(torch.tensor(labels[start:end], dtype=torch.int64), state, BLANK)
        units += new
    expected = [label for label, _ in itertools.groupby(labels) if label != BLANK]
    assert units == expected


def test_a_unit_repeated_across_a_chunk_border_is_spoken_once():
    first, state = collapse([1, 2, 2], initial_collapse_state(BLANK), BLANK)
    second, state = collapse([2, 2, 1], state, BLANK)
    assert (first, second, state) == ([1, 2], [1], CollapseState(previous=1))


def test_a_blank_between_equal_units_keeps_both():
    first, state = collapse([2, BLANK], initial_collapse_state(BLANK), BLANK)
    second, _ = collapse([2], state, BLANK)
    assert first + second == [2, 2]


def test_a_label_above_the_blank_is_refused():
    with pytest.raises(ValueError, match="label 4"):
        collapse([0, 4], initial_collapse_state(BLANK), BLANK)


def test_padding_steps_say_nothing():
    labels = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    frames = Frames(torch.nn.functional.one_hot(labels, 4).float(), torch.tensor([4, 0]))
    assert best_labels(frames).tolist() == [[0, 0, 1, 1], [BLANK] * 4]
    assert best_units(frames) == [[0, 1], []]
