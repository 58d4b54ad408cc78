"""A served nano for clients that others have made: they talk to it, interrupt it, and go on.

Run by `make test-clients`, apart from the other tests: the clients have an environment of their
own, and the server runs in the project's, as `omni-serve run`, which OMNI_SERVE names.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest
from microphones import KEY, ROOT


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    """Of a server that a user has started."""
    command = shlex.split(os.environ.get("OMNI_SERVE", "omni-serve"))
    server = subprocess.Popen(
        [*command, "run", "--port", "0", "--api-key", KEY, "--threads", "1"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        found = None
        for line in server.stdout:
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                break
        assert found is not None, server.stderr and server.stderr.read()
        yield int(found[1])
        assert server.poll() is None
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=30)
    assert "Traceback" not in errors, errors
