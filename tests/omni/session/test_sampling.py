"""The next token: the best one, or one drawn repeatably from the nucleus."""

from collections import Counter

import pytest
import torch

from omni.session.sampling import Sampling, best_tokens, choose

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
(BEST,) = best_tokens([LOGITS])


def drawn(sampling: Sampling, times: int = 400) -> Counter[int]:
    generator = sampling.generator()
    return Counter(choose(LOGITS, BEST, sampling, generator) for _ in range(times))


def test_temperature_zero_takes_the_best_token() -> None:
    assert drawn(Sampling(), 20) == {0: 20}


def test_temperature_one_draws_by_probability() -> None:
    counts = drawn(Sampling(temperature=1.0), 2000)
    assert [counts[token] / 2000 for token in range(4)] == pytest.approx(
        [0.5, 0.3, 0.15, 0.05], abs=0.05
    )


def test_a_low_temperature_prefers_the_best_and_a_high_one_evens_out() -> None:
    assert drawn(Sampling(temperature=0.2))[0] > 350
    assert drawn(Sampling(temperature=50.0))[3] > 60


def test_tokens_outside_the_nucleus_are_never_drawn() -> None:
    assert set(drawn(Sampling(temperature=1.0, top_p=0.7))) == {0, 1}


def test_tokens_that_are_not_among_the_best_k_are_never_drawn() -> None:
    assert set(drawn(Sampling(temperature=5.0, top_k=3))) == {0, 1, 2}
    assert set(drawn(Sampling(temperature=1.0, top_k=3, top_p=0.7))) == {0, 1}


def test_a_seed_repeats_its_draws_and_another_does_not() -> None:
    def draws(seed: int) -> list[int]:
        sampling = Sampling(temperature=1.0, seed=seed)
        generator = sampling.generator()
        return [choose(LOGITS, BEST, sampling, generator) for _ in range(50)]

    assert draws(1) == draws(1) != draws(2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}: must be"):
        Sampling(**{name: value})  # type: ignore[arg-type]


def test_the_best_tokens_of_all_replies_are_found_and_what_is_nan_has_none() -> None:
    broken = torch.tensor([1.0, float("nan"), 2.0])
    assert best_tokens([LOGITS, LOGITS.flip(0), broken, -LOGITS]) == [0, 3, None, 3]
    assert best_tokens([]) == []


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_nan_is_no_token(temperature: float) -> None:
    sampling = Sampling(temperature=temperature)
    with pytest.raises(ArithmeticError, match="logits are NaN"):
        choose(LOGITS, None, sampling, sampling.generator())
