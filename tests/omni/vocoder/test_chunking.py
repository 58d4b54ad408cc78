from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni.vocoder.chunking import (
    AUTO,
    ChunkSchedule,
    Fixed,
    Growing,
    Paced,
    Whole,
    parse_schedule,
)
from omni.vocoder.pace import Pace, Progress


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
    assert parse_schedule("auto") == AUTO == Paced()
    assert AUTO.size(0) == 10


def progress(waiting: int, buffered_seconds: float, seconds_per_unit: float | None) -> Progress:
    return Progress(
        waiting_units=waiting,
        buffered_seconds=buffered_seconds,
        seconds_per_unit=seconds_per_unit,
    )


def test_later_chunks_of_auto_grow_as_long_as_what_was_sent_covers_their_making():
    schedule = parse_schedule("auto:10,80")
    # 0.34 s are left to play, a unit takes 6 ms: in half of that time 28 are made.
    assert schedule.size(1, progress(0, 0.34, 0.006)) == 28
    # The same chunk, asked again when some of its units are there and some of the time is over.
    assert schedule.size(1, progress(10, 0.34 - 10 * 0.006, 0.006)) == 28
    assert schedule.size(2, progress(0, 5.0, 0.006)) == 80
    assert schedule.size(1, progress(0, 0.34, 0.1)) == 10
    # Nothing is left to play: what waits is said now, if it is as much as a first chunk.
    assert schedule.size(3, progress(15, 0.0, 0.006)) == 15
    assert schedule.size(3, progress(4, 0.0, 0.006)) == 10
    assert schedule.size(1, progress(7, 0.2, None)) == 80


def test_a_listener_who_waits_longer_to_play_lets_chunks_grow():
    schedule = parse_schedule("auto")
    pace = Pace().came(10, now=0.0).came(10, now=0.1).sent(10, 0.3, now=0.1, began=0.1)
    assert schedule.size(1, pace.progress(0, now=0.1, unit_seconds=0.03)) == 15
    told = replace(pace, ends=0.9)
    assert schedule.size(1, told.progress(0, now=0.1, unit_seconds=0.03)) == 40


def test_the_first_chunk_of_auto_grows_where_the_engine_is_busy():
    schedule = parse_schedule("auto:10,80")

    def first(factor: float | None) -> int | None:
        return schedule.size(0, Progress(waiting_units=4, real_time_factor=factor))

    assert first(None) == first(0.05) == first(0.5) == 10
    assert first(0.75) == 25
    assert first(1.0) == first(9.0) == 40
    assert parse_schedule("auto:60,80").size(0, Progress(real_time_factor=9.0)) == 60


def test_how_busy_the_engine_is_shows_before_the_first_chunk():
    pace = Pace().came(4, now=1.0)
    assert pace.progress(0, now=1.1, unit_seconds=0.04).real_time_factor is None
    pace = pace.came(4, now=1.1)
    assert pace.progress(0, now=1.1, unit_seconds=0.04).real_time_factor == pytest.approx(0.625)


def test_what_is_left_to_play_runs_by_the_clock_and_stops_at_nothing():
    pace = Pace().came(4, now=1.0)
    assert pace.progress(0, now=1.0, unit_seconds=0.05) == Progress()
    pace = pace.came(6, now=1.3).sent(10, 0.5, now=1.3, began=1.3)
    assert pace.progress(2, now=1.3, unit_seconds=0.05) == Progress(
        waiting_units=2,
        sent_seconds=0.5,
        last_units=10,
        buffered_seconds=0.5,
        seconds_per_unit=pytest.approx(0.05),
        real_time_factor=pytest.approx(1.0),
        chunk_seconds=0.0,
    )

    def left(pace: Pace, now: float) -> float:
        return pace.progress(0, now=now, unit_seconds=0.05).buffered_seconds

    assert left(pace, 1.7) == pytest.approx(0.1)
    assert left(pace, 3.0) == 0.0
    # The player ran dry: the next chunk is played from when it comes.
    assert left(pace.sent(4, 0.2, now=3.0, began=3.0), 3.0) == pytest.approx(0.2)


sizes = st.integers(1, 500)
schedules = st.one_of(
    st.builds(Whole),
    st.builds(Fixed, sizes),
    st.builds(Growing, st.lists(sizes, min_size=2, max_size=6).map(tuple)),
    st.builds(lambda first, more: Paced(first, first + more), sizes, sizes),
)


@given(schedules)
def test_a_schedule_reads_back_as_it_was_written(schedule: ChunkSchedule):
    assert parse_schedule(str(schedule)) == schedule


@pytest.mark.parametrize("text", ["0", "-3", "10,0", "10,-1,5", "auto:0,9"])
def test_a_size_below_one_is_refused_with_the_remedy(text):
    with pytest.raises(ValueError, match=r"must be at least 1 unit.*'all'"):
        parse_schedule(text)


@pytest.mark.parametrize(
    "text", ["", "ten", "10;20", "10,,20", "1.5", "10,all", "auto:", "auto:5", "auto:1,2,3"]
)
def test_junk_is_refused_by_name(text):
    with pytest.raises(ValueError, match="chunk schedule"):
        parse_schedule(text)


def test_a_growing_schedule_needs_two_sizes():
    with pytest.raises(ValueError, match="at least two"):
        Growing((10,))


def test_a_paced_schedule_never_shrinks_below_its_first_chunk():
    with pytest.raises(ValueError, match="most_units=5: must be at least first_units=10"):
        parse_schedule("auto:10,5")
