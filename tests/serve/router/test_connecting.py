"""A cluster that can't be reached, or a machine on which none starts: told in one line."""

from collections.abc import Callable

import pytest

from omni.files import UserError
from serve.router.cluster import connect

ray = pytest.importorskip("ray", reason="ray is not installed")


def failing(error: Exception) -> Callable[..., None]:
    def init(**options: object) -> None:
        raise error

    return init


def test_an_address_without_a_cluster_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", failing(ConnectionError("nobody there")))
    with pytest.raises(UserError, match=r"ray_address=10\.0\.0\.9:6379.*nobody there.*ray start"):
        connect("10.0.0.9:6379")


def test_a_node_that_does_not_start_in_time_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Ray has no type of its own for it.
    monkeypatch.setattr(ray, "init", failing(Exception("timed out during startup")))
    with pytest.raises(UserError, match=r"can't start on this machine \(timed out.*--ray-address"):
        connect(None)
