"""The page's files as they are served: what browsers need to know of them, and what they may do."""

import re
from collections.abc import Iterator

import pytest
import torch
from starlette.testclient import TestClient

from omni.engine import Engine
from serve.web.app import create_app
from serve.web.settings import ServeSettings
from serve.web.static import FOLDER
from tests.realtime import loud, model_info
from tests.talk import SHORT, model, processor

torch.set_num_threads(1)
FILES = sorted(FOLDER.iterdir())
LINE_LIMIT = 300


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(model(), processor(), max_sessions=1) as engine:
        yield engine


def client(engine: Engine, **settings: object) -> TestClient:
    app = create_app(
        ServeSettings(**settings),  # type: ignore[arg-type]
        engine, model_info(SHORT), make_voice=lambda: loud,
    )  # fmt: skip
    return TestClient(app, base_url="http://localhost:8000")


def test_the_page_is_there_without_a_key_and_says_whether_one_is_needed(engine: Engine) -> None:
    for keys in ((), ("correct-horse",)):
        web = client(engine, api_keys=keys)
        assert web.get("/").headers["content-type"] == "text/html; charset=utf-8"
        assert web.get("/page/about.json").json() == {"needs_key": bool(keys)}


@pytest.mark.parametrize("path", ["/", *(f"/page/{path.name}" for path in FILES)])
def test_each_file_has_its_type_and_is_guarded(engine: Engine, path: str) -> None:
    answer = client(engine).get(path)
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    kind = kinds.get(path.rpartition(".")[2], "text/html")
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy


def test_what_has_not_changed_is_not_sent_again(engine: Engine) -> None:
    web = client(engine)
    first = web.get("/page/main.js")
    assert first.headers["cache-control"] == "no-cache"
    again = web.get("/page/main.js", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content
    other = web.get("/page/talk.js", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200 and other.content


@pytest.mark.parametrize("name", ["nothing.js", "../app.py", "%2e%2e/app.py", "..%2fapp.py"])
def test_nothing_else_is_served(engine: Engine, name: str) -> None:
    assert client(engine).get(f"/page/{name}").status_code == 404


def test_a_file_is_asked_for_without_its_content(engine: Engine) -> None:
    answer = client(engine).head("/")
    assert answer.status_code == 200 and not answer.content


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_short_and_lead_nowhere_outside(path: object) -> None:
    text = (FOLDER / str(path)).read_text()
    assert len(text.splitlines()) < LINE_LIMIT
    names = ("http://www.w3.org/2000/svg", "http://localhost")  # a name, and advice to the user
    for address in re.findall(r"(?:https?:)?//[\w.-]+\.\w[\w./-]*|https?://\S+", text):
        assert address.startswith(names), address


def test_every_import_and_link_of_the_page_is_there() -> None:
    names = {path.name for path in FILES}
    for path in FILES:
        text = path.read_text()
        wanted = re.findall(r'from "\./([^"]+)"', text)
        wanted += re.findall(r'(?:href|src)="page/([^"]+)"', text)
        wanted += re.findall(r'"([\w-]+-worklet\.js)"', text)
        assert set(wanted) <= names, f"{path.name}: {set(wanted) - names}"
