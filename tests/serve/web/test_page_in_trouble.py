"""The page in trouble says what is wrong: no microphone, no key, no place, no server."""

import json
from contextlib import closing

import pytest
import torch
from playwright.sync_api import Browser, expect

from omni.engine import Engine, EngineFull
from serve.realtime import Model
from serve.web.app import create_app
from serve.web.settings import ServeSettings
from tests.browser import WRITTEN, Look, Visit, needs_chromium
from tests.realtime import served

pytestmark = needs_chromium
torch.set_num_threads(1)
KEY = "correct horse/battery="  # as no subprotocol may be spelt


@pytest.mark.parametrize(
    ("error", "told"),
    [("NotAllowedError", "Allow it"), ("NotFoundError", "No microphone was found")],
)
def test_without_a_microphone_one_is_told_why_and_can_write(
    look: Look, error: str, told: str
) -> None:
    visit = look()
    visit.page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => "
        f"Promise.reject(new DOMException('refused', '{error}'));"
    )
    with visit:
        visit.page.click("#talk")
        expect(visit.page.locator("#problem")).to_contain_text(told)
        visit.write(WRITTEN)
        visit.phase("answering")


def test_by_plain_http_from_elsewhere_one_can_still_write(
    browser: Browser, served_model: tuple[Engine, Model]
) -> None:
    app = create_app(ServeSettings(allowed_hosts=("omni.test",)), *served_model)
    with served(app) as port, Visit(browser, f"http://omni.test:{port}/") as visit:
        expect(visit.page.locator("#problem")).to_contain_text("https")
        assert visit.page.is_disabled("#talk")
        visit.write(WRITTEN)
        expect(visit.page.locator('[data-part="answer"]')).to_contain_text("light")
        assert visit.errors == []


def test_a_key_is_asked_for_and_a_wrong_one_is_told(
    browser: Browser, served_model: tuple[Engine, Model]
) -> None:
    app = create_app(ServeSettings(api_keys=(KEY,)), *served_model)
    with served(app) as port, Visit(browser, f"http://127.0.0.1:{port}/") as visit:
        expect(visit.page.locator("#problem")).to_contain_text("wants an API key")
        assert visit.errors == []
        for key, told in (("wrong", "does not know this key"), (KEY, "")):
            visit.page.fill("#key", key)
            visit.page.press("#key", "Enter")
            expect(visit.page.locator("#problem")).to_have_text(told and f"The server {told}.")
        expect(visit.page.locator("#key-form")).to_be_hidden()
        visit.write(WRITTEN)
        visit.phase("answering")
        assert not any(KEY in url for url in visit.requests)


def test_a_full_server_is_told_and_waited_for(
    browser: Browser, port: int, served_model: tuple[Engine, Model]
) -> None:
    engine, _ = served_model
    taken = []
    while True:
        try:
            taken.append(engine.open())
        except EngineFull:
            break
    with Visit(browser, f"http://127.0.0.1:{port}/") as visit:
        visit.write(WRITTEN)
        expect(visit.page.locator("#problem")).to_contain_text("are taken")
        for session in taken:
            session.close()
        expect(visit.page.locator("body")).to_have_attribute("data-connection", "open")
        expect(visit.page.locator("#problem")).to_be_empty()
        assert visit.page.input_value("#question") == WRITTEN  # nothing has to be typed again


def test_what_was_said_stays_and_is_told_again_when_the_server_comes_back(
    browser: Browser, served_model: tuple[Engine, Model]
) -> None:
    app = create_app(ServeSettings(), *served_model)
    with served(app) as port:
        visit = Visit(browser, f"http://127.0.0.1:{port}/")
        visit.open()
        visit.write(WRITTEN)
        visit.phase("answering")
        visit.phase("ready")
    expect(visit.page.locator("#problem")).to_contain_text("out of reach")
    (said,) = visit.answers()
    before = len(visit.sent)
    with served(create_app(ServeSettings(), *served_model), port=port), closing(visit):
        expect(visit.page.locator("body")).to_have_attribute("data-connection", "open")
        assert visit.answers() == [said]
        told = [json.loads(text) for text in visit.sent[before:]]
        items = [event["item"] for event in told if event["type"] == "conversation.item.create"]
        assert [item["content"][0]["text"] for item in items] == [WRITTEN, said]
