import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni.vocoder.chunking import AUTO, ChunkSchedule, Fixed, Growing, Whole, parse_schedule


def test_a_number_gives_chunks_of_that_size():
    assert parse_schedule("10") == Fixed(10)
    assert [Fixed(10).size(index) for index in (0, 1, 99)] == [10, 10, 10]


def test_all_waits_for_the_whole_reply():
    assert parse_schedule("all") == Whole()
    assert Whole().size(0) is None


def test_the_last_size_of_a_growing_schedule_repeats():
    schedule = parse_schedule("10, 40,100")
    assert schedule == Growing((10, 40, 100))
    assert [schedule.size(index) for index in range(5)] == [10, 40, 100, 100, 100]


def test_auto_starts_small():
    assert parse_schedule("auto") == AUTO == Growing((10, 20, 40, 80))


sizes = st.integers(1, 500)
schedules = st.one_of(
    st.builds(Whole),
    st.builds(Fixed, sizes),
    st.builds(Growing, st.lists(sizes, min_size=2, max_size=6).map(tuple)),
)


@given(schedules)
def test_a_schedule_reads_back_as_it_was_written(schedule: ChunkSchedule):
    assert parse_schedule(str(schedule)) == schedule


@pytest.mark.parametrize("text", ["0", "-3", "10,0", "10,-1,5"])
def test_a_size_below_one_is_refused_with_the_remedy(text):
    with pytest.raises(ValueError, match=r"must be at least 1 unit.*'all'"):
        parse_schedule(text)


@pytest.mark.parametrize("text", ["", "ten", "10;20", "10,,20", "1.5", "10,all"])
def test_junk_is_refused_by_name(text):
    with pytest.raises(ValueError, match="chunk schedule"):
        parse_schedule(text)


def test_a_growing_schedule_needs_two_sizes():
    with pytest.raises(ValueError, match="at least two"):
        Growing((10,))
