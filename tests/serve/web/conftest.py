"""The nano behind the page, and a browser that looks at it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from omni.engine import Engine
from omni.loading import NANO, load
from serve.realtime import Model
from serve.web.app import create_app
from serve.web.running import model_of
from serve.web.settings import ServeSettings
from tests.browser import Look, Visit, chromium, microphone_file
from tests.realtime import served

QUESTION = NANO.parent / "questions" / "1-capital-of-france.wav"


@pytest.fixture(scope="module")
def served_model() -> Iterator[tuple[Engine, Model]]:
    model, processor = load()
    with Engine(model, processor, max_sessions=3) as engine:
        yield engine, model_of(ServeSettings(), model, processor)


@pytest.fixture(scope="module")
def port(served_model: tuple[Engine, Model]) -> Iterator[int]:
    with served(create_app(ServeSettings(), *served_model)) as port:
        yield port


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    heard = tmp_path_factory.mktemp("heard") / "question.wav"
    with chromium(playwright, microphone_file(heard, QUESTION, before_s=0.8, after_s=3)) as browser:
        yield browser


@pytest.fixture
def look(browser: Browser, port: int) -> Iterator[Look]:
    """Visits that went without an error and without a request to elsewhere."""
    visits: list[Visit] = []

    def look(**context: object) -> Visit:
        visits.append(Visit(browser, f"http://127.0.0.1:{port}/", **context))
        return visits[-1]

    yield look
    for visit in visits:
        assert visit.errors == []
        assert all(url.startswith((visit.address, "blob:")) for url in visit.requests)
