"""Metrics: what counts as an error, and that a rate carries its normaliser's name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni.files.errors import UserError
from omni.metrics import (
    character_error_rate,
    normalise,
    seam_error,
    unit_error_rate,
    word_error_rate,
)

UNITS = st.lists(st.integers(0, 5), max_size=12)


def edit_distance(left: list[int], right: list[int]) -> int:
    """The textbook's table, as an oracle."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def test_the_normaliser_decides_what_is_an_error() -> None:
    said, true = ["It's twenty one, Mister Smith!"], ["it is 21 mister smith"]
    assert word_error_rate(true, said, normaliser="whisper-en").rate == 0
    basic = word_error_rate(true, said, normaliser="basic")
    assert (basic.errors, basic.length, basic.normaliser) == (3, 5, "basic")


def test_basic_keeps_apostrophes_inside_words_only() -> None:
    assert normalise("  'Don't!' she said - it's  FIVE_", "basic") == "don't she said it's five"


def test_none_changes_nothing_but_spaces() -> None:
    assert normalise(" A,  b ", "none") == "A, b"


def test_an_unknown_normaliser_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"normaliser='whisper'.*basic, whisper-en"):
        normalise("a", "whisper")


def test_a_rate_weighs_sentences_by_their_length() -> None:
    rate = word_error_rate(["a b c d", "e"], ["a b c d", "x"], normaliser="basic")
    assert rate.rate == pytest.approx(1 / 5)


def test_what_is_said_where_nothing_should_be_is_an_insertion() -> None:
    assert word_error_rate(["a", ""], ["a", "b c"], normaliser="basic").errors == 2


def test_a_lost_space_is_one_character_error() -> None:
    rate = character_error_rate(["ab cd"], ["abcd"], normaliser="basic")
    assert (rate.errors, rate.length) == (1, 5)


@given(st.lists(st.tuples(UNITS, UNITS), min_size=1, max_size=4))
def test_unit_errors_are_edit_distances(pairs: list[tuple[list[int], list[int]]]) -> None:
    true, said = [list(pair) for pair in zip(*pairs, strict=True)]
    if not any(true):
        with pytest.raises(UserError, match="all empty"):
            unit_error_rate(true, said)
        return
    expected = sum(edit_distance(*pair) for pair in pairs)
    assert unit_error_rate(true, said).errors == expected


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(UserError, match="2 references, 1 hypotheses"):
        unit_error_rate([[1], [2]], [[1]])


def test_the_same_sound_in_chunks_has_no_seams() -> None:
    whole = np.sin(np.arange(4000) / 7)
    error = seam_error(whole, [whole[:1000], whole[1000:]])
    assert (error.overall, error.at_borders) == (0.0, 0.0)


def test_damage_at_a_border_is_seen_there_more_than_overall() -> None:
    whole = np.ones(16_000)
    damaged = whole.copy()
    damaged[7_990:8_010] = 0.0
    error = seam_error(whole, [damaged[:8_000], damaged[8_000:]])
    assert error.overall == pytest.approx((20 / 16_000) ** 0.5)
    assert error.at_borders == pytest.approx((20 / 160) ** 0.5)  # 5 ms on each side


def test_damage_far_from_a_border_is_none_of_the_border() -> None:
    whole = np.ones(16_000)
    damaged = whole.copy()
    damaged[100:200] = 0.0
    error = seam_error(whole, [damaged[:8_000], damaged[8_000:]])
    assert error.overall > 0
    assert error.at_borders == 0


def test_lost_and_added_sound_count() -> None:
    whole = np.ones(1000)
    assert seam_error(whole, [whole[:750]]).overall == pytest.approx(0.5)
    assert seam_error(whole, [whole, whole[:250]]).overall == pytest.approx(
        (250 / 1000) ** 0.5, abs=0.07
    )
    assert seam_error(whole, []).overall == 1.0


def test_no_error_is_relative_to_silence() -> None:
    with pytest.raises(UserError, match="all zero"):
        seam_error(np.zeros(10), [np.ones(10)])
