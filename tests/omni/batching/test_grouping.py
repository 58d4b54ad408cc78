"""Who is stepped with whom: padding costs no one more than what is there to be read."""

from hypothesis import given
from hypothesis import strategies as st

from omni.batching.grouping import alike

LENGTHS = st.lists(st.integers(0, 5000), max_size=40)


@given(LENGTHS)
def test_every_sequence_is_in_one_group(lengths: list[int]) -> None:
    assert sorted(place for group in alike(lengths) for place in group) == [*range(len(lengths))]


@given(LENGTHS)
def test_padding_takes_no_more_than_what_it_pads(lengths: list[int]) -> None:
    for group in alike(lengths):
        members = [lengths[place] for place in group]
        assert max(members) * len(members) <= 2 * sum(members)


def test_sequences_of_like_length_go_together() -> None:
    assert [sorted(group) for group in alike([200, 140, 300, 170])] == [[0, 1, 2, 3]]


def test_one_long_sequence_leaves_the_others_together() -> None:
    assert [sorted(group) for group in alike([100, 9000, 110, 120])] == [[0, 2, 3], [1]]
