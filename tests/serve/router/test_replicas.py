"""Two replicas behind one address, each with place for one session: killed, and told to end."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from serve.router.replica import device_of
from tests.processes import PARENT
from tests.processes import running as processes
from tests.realtime import Client, of, silence
from tests.serving import BEARER, Served, running
from tests.talking import ask, end_of, until, write

SESSION = {"additional_headers": BEARER}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ("--replicas", "2", "--max-sessions", "1", "--drain-seconds", "8")
    with running(tmp_path_factory.mktemp("served"), *options) as served:
        yield served


def session(served: Served, **options: object) -> Client:
    client = Client(served.port, **SESSION | options)
    assert client.next()["type"] == "session.created"
    return client


def say_on(client: Client) -> None:
    """Silence, 20 ms at a time, for as long as the connection lasts, or two seconds."""
    ends = time.monotonic() + 2
    with suppress(ConnectionClosed):
        while time.monotonic() < ends:
            client.say(silence(0.02))
            time.sleep(0.02)


def until_ready(served: Served) -> None:
    until(lambda: served.get("/ready").status_code == 200, 120)


def replicas(served: Served) -> set[int]:
    """Processes that hold a model; multiprocessing's own helper is started by another call."""
    children = processes(PARENT, served.process.pid)
    return {pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_sessions_go_where_there_is_place_and_the_address_tells_of_all(served: Served) -> None:
    assert "max_sessions=1 in each of 2 replicas" in served.told
    assert len(replicas(served)) == 2
    with session(served), session(served):
        assert served.metric("omni_sessions") == served.metric("omni_sessions_limit") == 2
        assert served.get("/ready").status_code == 503
        with Client(served.port, **SESSION) as third:
            assert third.next()["error"]["code"] == "server_full"
            assert end_of(third)[1] == 1013
    until_ready(served)


def test_a_short_lived_key_opens_every_replica(served: Served) -> None:
    address = f"http://127.0.0.1:{served.port}/v1/realtime/client_secrets"
    made = httpx.post(address, headers=BEARER).json()
    short = {"additional_headers": {"authorization": f"Bearer {made['value']}"}}
    with session(served, **short), session(served, **short):
        pass
    until_ready(served)


def test_one_that_is_killed_ends_its_own_sessions_alone_and_comes_back(served: Served) -> None:
    starts = served.metric("omni_starts_total")
    with ExitStack() as stack:
        first, second = (stack.enter_context(session(served)) for _ in range(2))
        answer = ask(first, "What is the capital of France?")
        assert "Paris" in answer
        before = replicas(served)
        for client in (first, second):  # who speak on while it happens
            speaking = Thread(target=say_on, args=(client,))
            speaking.start()
            stack.callback(speaking.join)
        os.kill(min(before), signal.SIGKILL)
        while first.socket.close_code == second.socket.close_code:  # both None: open
            time.sleep(0.05)
        lost, kept = (first, second) if first.socket.close_code else (second, first)
        assert end_of(lost)[1] == 1012
        assert "capital" in ask(kept, "What is the capital of Italy?")
        until_ready(served)
        with session(served) as again:
            write(again, "user", "What is the capital of France?")
            write(again, "assistant", answer)
            assert "Jakarta" in ask(again, "What about Indonesia?")
        assert replicas(served) - before
    assert served.metric("omni_starts_total") == starts + 1
    assert served.metric("omni_sessions_limit") == 2  # the dead one's place is not counted


def test_told_to_restart_they_do_so_in_turn_and_one_always_takes_sessions(served: Served) -> None:
    before = replicas(served)
    served.process.send_signal(signal.SIGHUP)
    ends = time.monotonic() + 120
    while replicas(served) & before or len(replicas(served)) < 2:
        assert served.get("/ready").status_code == 200
        assert time.monotonic() < ends
        time.sleep(0.2)
    until_ready(served)


def test_told_to_end_they_let_sessions_finish_for_a_while_and_take_no_new_ones(
    served: Served,
) -> None:
    with session(served) as client:
        served.process.send_signal(signal.SIGTERM)
        while served.get("/ready").status_code == 200:
            time.sleep(0.1)
        assert served.get("/health").json() == {"status": "draining"}
        with Client(served.port, **SESSION) as late:
            assert late.next()["error"]["code"] == "server_draining"
            assert end_of(late)[1] == 1012
        assert "Rome" in ask(client, "What is the capital of Italy?")
        events, code = end_of(client)
        assert of(events, "error")[0]["error"]["code"] == "server_draining" and code == 1012
    code, printed = served.end()
    assert code == 0 and "Traceback" not in printed
    assert "correct-horse" not in printed


def test_several_gpus_are_dealt_out_in_turn() -> None:
    assert [device_of("auto", number, 2) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert device_of("cuda:1", 0, 2) == "cuda:1" and device_of("cpu", 1, 2) == "cpu"
    assert device_of("auto", 1, 1) == "auto"
