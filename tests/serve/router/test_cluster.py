"""Two replicas that Ray Serve has placed, each with room for one session: killed, and drained.

Ray Serve is no dependency of the tests: `make test-cluster` installs it.
"""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.realtime import Client
from tests.serving import BEARER, Served, running
from tests.talking import ask, end_of, until, write

pytest.importorskip("ray.serve", reason="ray[serve] is not installed", exc_type=ImportError)
pytestmark = pytest.mark.timeout(600)  # on a busy machine; two minutes on an idle one
WAIT_S = 240


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "150")  # on a busy machine
    options = ("--engine", "ray", "--replicas", "2", "--max-sessions", "1", "--drain-seconds", "8")
    with running(tmp_path_factory.mktemp("served"), *options) as served:
        yield served


def session(served: Served) -> Client:
    """A session at whatever replica the address names."""
    address = f"http://127.0.0.1:{served.port}/v1/realtime/client_secrets"
    secret = httpx.post(address, headers=BEARER, timeout=60).raise_for_status().json()
    port = httpx.URL(secret["url"]).port
    assert port is not None and port != served.port
    short = {"authorization": f"Bearer {secret['value']}"}
    client = Client(port, additional_headers=short)
    assert client.next()["type"] == "session.created"
    return client


def names(served: Served) -> set[str]:
    """Replicas that serve."""
    return {one["labels"]["replica"] for one in served.get("/replicas").json()}


def actors(served: Served) -> dict[int, str]:
    """Ray's processes that stand for the replicas of this address: id -> name."""
    return of_processes(rf"ray::ServeReplica:omni-{served.port}:replica")


def models(served: Served) -> dict[int, int]:
    """The processes that hold a model -> those that have started them."""
    parents = {}
    for pid in of_processes("(spawn_main)"):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        parents[pid] = int(fields[1])
    return {pid: parent for pid, parent in parents.items() if parent in actors(served)}


def of_processes(pattern: str) -> dict[int, str]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if match := re.search(pattern, line):
            found[int(folder.name)] = match[0]
    return found


def both_serve_again(served: Served, before: set[str]) -> Callable[[], bool]:
    def they_do() -> bool:
        now = names(served)
        return len(now) == 2 and now != before and served.get("/ready").status_code == 200

    return they_do


def test_sessions_go_straight_to_replicas_with_room(served: Served) -> None:
    assert "max_sessions=1 in each of 2 replicas" in served.told
    assert len(names(served)) == len(models(served)) == 2
    with session(served) as first, session(served) as second:
        assert "Paris" in ask(first, "What is the capital of France?")
        assert "Rome" in ask(second, "What is the capital of Italy?")
        with Client(served.port, additional_headers=BEARER) as third:
            assert third.next()["error"]["code"] == "server_full"
            assert end_of(third)[1] == 1013
    until(lambda: served.get("/ready").status_code == 200, WAIT_S)
    assert served.get("/v1/models").json()["data"][0]["id"] == "nano"


def test_sessions_of_one_that_is_killed_come_back_with_their_history(served: Served) -> None:
    before = names(served)
    with ExitStack() as stack:
        first, second = (stack.enter_context(session(served)) for _ in range(2))
        answer = ask(first, "What is the capital of France?")
        os.kill(min(models(served)), signal.SIGKILL)
        until(lambda: first.socket.close_code != second.socket.close_code, WAIT_S)
        lost, kept = (first, second) if first.socket.close_code else (second, first)
        assert end_of(lost)[1] == 1012
        assert "capital" in ask(kept, "What is the capital of Italy?")
        kept.socket.close()
        with session(served) as again:
            write(again, "user", "What is the capital of France?")
            write(again, "assistant", answer)
            assert "Jakarta" in ask(again, "What about Indonesia?")
    until(both_serve_again(served, before), WAIT_S)
    assert len(names(served) & before) == 1  # Ray Serve has placed another one


def test_where_ray_loses_one_its_sessions_may_finish(served: Served) -> None:
    before = names(served)
    with ExitStack() as stack:
        clients = [stack.enter_context(session(served)) for _ in range(2)]
        os.kill(min(actors(served)), signal.SIGKILL)
        for client in clients:
            assert "Rome" in ask(client, "What is the capital of Italy?")
        until(lambda: any(client.socket.close_code for client in clients), WAIT_S)
        assert {client.socket.close_code for client in clients} == {None, 1012}
    until(both_serve_again(served, before), WAIT_S)


def test_told_to_end_they_let_sessions_finish_for_a_while(served: Served) -> None:
    with session(served) as client:
        served.process.send_signal(signal.SIGTERM)
        until(lambda: served.get("/ready").status_code == 503, WAIT_S)
        with Client(served.port, additional_headers=BEARER) as late:
            assert late.next()["error"]["code"] == "server_draining"
            assert end_of(late)[1] == 1012
        assert "Rome" in ask(client, "What is the capital of Italy?")
        with pytest.raises(ConnectionClosed):
            while True:
                client.next()
        assert client.socket.close_code == 1012
    code, printed = served.end()
    assert code == 0 and "Traceback" not in printed
    assert "correct-horse" not in printed
