"""Sessions without a network, over one engine for each file of tests."""

from collections.abc import Iterator

import pytest

from omni.engine import Engine
from tests.realtime import Desk
from tests.talk import SHORT, model, processor


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Of the tiny model; a file that needs another one has its own."""
    with Engine(model(), processor(), max_sessions=200) as engine:
        yield engine


@pytest.fixture
def desk(engine: Engine) -> Iterator[Desk]:
    """A session that answers shortly."""
    desk = Desk(engine, SHORT)
    yield desk
    desk.talk.close()
