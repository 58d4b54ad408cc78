"""The buffer of a batch: what joins is there, what leaves takes it along, and no room is lost."""

import gc

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Cache, DynamicCache

from omni.batching import CacheRow
from omni.batching.rows import Rows

torch.set_num_threads(1)
LAYERS, HEADS, HEAD_DIM = 2, 3, 4
BYTES_PER_POSITION = 2 * LAYERS * HEADS * HEAD_DIM * 4  # keys and values, float32


def cache_of(length: int, seed: int) -> Cache:
    generator = torch.Generator().manual_seed(seed)
    cache = DynamicCache()
    for layer in range(LAYERS):
        keys, values = torch.randn(2, 1, HEADS, length, HEAD_DIM, generator=generator)
        cache.update(keys, values, layer)
    return cache


def row_of(length: int, seed: int = 0) -> CacheRow:
    return CacheRow(cache_of(length, seed), length)


def content(cache: Cache) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def same(cache: Cache, length: int, seed: int) -> bool:
    pairs = zip(content(cache), content(cache_of(length, seed)), strict=True)
    return all(torch.equal(found, expected) for found, expected in pairs)


# Which rows are held at each step: any of eight, in any order.
STEPS = st.lists(st.lists(st.integers(0, 7), unique=True), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(STEPS, st.lists(st.integers(1, 300), min_size=8, max_size=8))
def test_rows_keep_their_content_through_any_joins_and_leaves(
    steps: list[list[int]], lengths: list[int]
) -> None:
    rows, buffer = [row_of(length, seed) for seed, length in enumerate(lengths)], Rows()
    for held in steps:
        order = buffer.hold([rows[number] for number in held], 1)
        assert sorted(order) == [*range(len(held))]
        keys, values = buffer.filled()
        assert keys.shape[1] == len(held)
        for place, index in enumerate(order):
            number = held[index]
            expected = content(cache_of(lengths[number], number))
            for layer in range(LAYERS):
                for stored, own in zip(
                    (keys, values), expected[2 * layer : 2 * layer + 2], strict=True
                ):
                    row = stored[layer, place]
                    assert torch.equal(row[:, : lengths[number]], own[0])
                    assert not row[:, lengths[number] :].any()
    for seed, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        assert same(row.own(), length, seed)


@settings(max_examples=30, deadline=None)
@given(STEPS, st.lists(st.integers(1, 2000), min_size=8, max_size=8))
def test_a_buffer_is_never_much_larger_than_what_it_has_to_hold(
    steps: list[list[int]], lengths: list[int]
) -> None:
    rows, buffer = [row_of(length) for length in lengths], Rows()
    for held in steps:
        buffer.hold([rows[number] for number in held], 1)
        longest = max((lengths[number] for number in held), default=0)
        slots, positions = 4 * max(len(held), 4), 4 * max(longest + 1, 64)
        assert buffer.nbytes <= (slots * positions * BYTES_PER_POSITION if held else 0)


def test_a_row_that_nobody_has_any_more_gives_its_place_to_the_next() -> None:
    buffer, first, second = Rows(), row_of(30, seed=1), row_of(20, seed=2)
    buffer.hold([first, second], 1)
    before = buffer.nbytes
    del first
    gc.collect()
    newer = row_of(10, seed=3)
    order = buffer.hold([second, newer], 1)
    assert len(order) == 2 and buffer.nbytes == before
    assert same(second.own(), 20, 2) and same(newer.own(), 10, 3)


def test_a_row_goes_from_one_buffer_to_another() -> None:
    one, other, row, mate = Rows(), Rows(), row_of(5, seed=4), row_of(6)
    one.hold([row, mate], 1)
    other.hold([row], 1)
    assert row.within(other) and one.filled()[0].shape[1] == 1
    assert same(row.own(), 5, 4)


def test_what_is_broken_in_a_row_is_not_left_to_its_successor() -> None:
    buffer, broken, mate = Rows(), row_of(40), row_of(3, seed=1)
    buffer.hold([broken, mate], 1)
    with torch.inference_mode():
        for tensor in (buffer.keys, buffer.values):
            tensor[:, :, :, :40] = float("nan")
    healthy = row_of(3, seed=2)
    buffer.hold([healthy], 1)
    keys, values = buffer.filled()
    assert keys.isfinite().all() and values.isfinite().all()
    assert same(healthy.own(), 3, 2)
