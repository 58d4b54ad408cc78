"""What holds for every test."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def subnormal_numbers() -> Iterator[None]:
    """Training commands flush them to zero, for good and for the whole process; the next test in
    it may count on them."""
    yield
    torch.set_flush_denormal(False)
