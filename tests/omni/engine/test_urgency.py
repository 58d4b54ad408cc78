"""Who goes on first where many replies share a thread: those whose listeners run dry."""

from hypothesis import given
from hypothesis import strategies as st

from omni.engine.runs import Run
from omni.engine.urgency import SOON, STEP_SECONDS, Standing, StepCosts, most_urgent
from omni.session import Turn
from tests.talk import session

PLAYING, DRY, AHEAD = (Standing(0.0, 9, left) for left in (SOON / 2, -0.1, 5.0))


def answered_turn() -> Turn:
    talk = session()
    talk.push_text("What is two and two?")
    return talk.begin()


def new(begun: float, tokens: int = 0) -> Standing:
    return Standing(begun, tokens, None)


def test_those_whose_listeners_run_dry_come_before_newcomers_and_these_before_the_rest():
    waiting = [AHEAD, new(3.0, 1), PLAYING, new(2.0, 1), DRY]
    assert most_urgent(waiting, 1) == [4]
    assert most_urgent(waiting, 2) == [2, 4]
    assert most_urgent(waiting, 3) == [2, 3, 4]
    assert most_urgent(waiting, 4) == [1, 2, 3, 4]
    assert most_urgent(waiting, 9) == [0, 1, 2, 3, 4]


def test_a_cancelled_reply_goes_first_that_its_place_be_free() -> None:
    run = Run(print, turn=answered_turn())
    assert not run.standing().runs_dry
    run.cancel()
    assert run.standing().urgency < DRY.urgency


def test_a_long_reply_without_sound_lets_those_that_come_later_pass():
    assert most_urgent([new(1.0, 100), new(1.5, 2), AHEAD], 1) == [1]
    assert most_urgent([new(1.0, 100), new(9.0, 2), AHEAD], 1) == [0]


def test_a_step_beside_others_holds_one_prompt():
    assert most_urgent([new(1.0), new(0.5), PLAYING], 3) == [1, 2]


def test_all_step_together_while_nobody_listens_or_the_costs_are_unknown():
    assert most_urgent([new(1.0), new(0.5), new(0.7)], 1) == [0, 1, 2]
    assert most_urgent([DRY, new(0.5), AHEAD], None) == [0, 1, 2]


def costs(seconds_of: dict[int, float]) -> StepCosts:
    found = StepCosts()
    for replies, seconds in seconds_of.items():
        found.took(replies, seconds)
    return found


def test_where_each_reply_takes_its_time_a_step_is_short():
    assert costs({n: 0.002 + 0.005 * n for n in range(1, 30)}).most() == 9
    assert costs({n: 0.001 + 0.5 * n for n in range(1, 30)}).most() == 1


def test_where_what_all_share_takes_longest_a_step_is_for_many():
    assert costs({n: 0.3 + 0.001 * n for n in range(1, 30)}).most() == 300
    free = costs({n: 0.3 - 0.001 * n for n in range(1, 30)})  # larger steps happened to be quicker
    assert free.most() is None


def test_costs_are_unknown_until_steps_of_two_sizes_were_seen():
    assert StepCosts().most() is None
    assert costs({4: 0.1}).most() is None


@given(st.floats(1e-4, 1), st.floats(1e-4, 1), st.lists(st.integers(1, 40), min_size=2))
def test_the_bound_keeps_its_promise(fixed: float, each: float, sizes: list[int]):
    found = StepCosts()
    for size in sizes:
        found.took(size, fixed + each * size)
    most = found.most()
    if most is not None and most > 1:
        assert each * most <= max(STEP_SECONDS - fixed, fixed) * 1.05


def test_old_costs_are_forgotten():
    found = costs({n: 0.002 + 0.005 * n for n in range(1, 30)})
    for n in [*range(1, 30)] * 12:
        found.took(n, 0.002 + 0.001 * n)
    most = found.most()
    assert most is not None and 40 < most < 50
