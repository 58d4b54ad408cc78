"""An engine with room for three conversations."""

from collections.abc import Iterator

import pytest

from omni.engine import Engine
from tests.talk import model, processor


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(model(), processor(), max_sessions=3) as engine:
        yield engine
