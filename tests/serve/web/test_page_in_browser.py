"""The page in a real browser, talking to the nano: by voice, by key, on a phone, in trouble."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import pytest
import soundfile
import torch
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

from omni.engine import Engine, EngineFull
from omni.loading import NANO, load
from serve.realtime import Model
from serve.web.app import create_app
from serve.web.running import model_of
from serve.web.settings import ServeSettings
from tests.browser import MOUTH, Visit, chromium, microphone_file, needs_chromium
from tests.realtime import served

pytestmark = needs_chromium
torch.set_num_threads(1)
QUESTION = NANO.parent / "questions" / "1-capital-of-france.wav"
JOKE = NANO.parent / "questions" / "6-joke-about-trees.wav"
ANSWER = "The capital of France is Paris."
WRITTEN = "What is the opposite of heavy?"
KEY = "correct horse/battery="  # as no subprotocol may be spelt
FOCUSED = "document.activeElement.id || document.activeElement.dataset.action"
STAGES = ["VAD", "Queue", "Encode", "Prefill", "First unit", "Vocoder", "Network", "Playout"]


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


Look = Callable[..., Visit]


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


def test_a_spoken_question_is_answered_in_words_and_in_sound(look: Look) -> None:
    with look() as visit:
        visit.page.click("#talk")
        visit.phase("hearing")
        visit.phase("answering")
        visit.sounds()
        visit.phase("listening")
        assert visit.answers() == [ANSWER]
        question = visit.page.inner_text('[data-part="question"]')
        assert question.startswith("Spoken question, ")
        with visit.page.expect_download() as download:
            visit.page.click('[data-action="download"]')
        samples, rate = soundfile.read(download.value.path())
        assert rate == 24_000 and abs(samples).max() > 0.05
        assert visit.played_ms(0) == pytest.approx(1e3 * len(samples) / rate, abs=10)
        rows = visit.page.locator("#figures tr").all_inner_texts()
        figures = dict(row.split("\t") for row in rows)
        *stages, total = (int(text.removesuffix(" ms")) for text in figures.values())
        assert [*figures][:-1] == STAGES
        assert sum(stages) == pytest.approx(total, abs=len(STAGES))
        assert 500 <= stages[0] < 600 and stages[2] > 0 and stages[7] > 0
        assert visit.page.locator("#latency rect").count() > 4


def test_speaking_into_an_answer_stops_it(look: Look) -> None:
    question, rate = soundfile.read(JOKE)  # whose answer is the longest
    question = question[np.argmax(np.abs(question) > 0.02) :]  # a voice from its first sample on
    visit = look()
    visit.page.add_init_script(MOUTH)
    with visit:
        visit.page.click("#talk")
        visit.phase("listening")
        visit.page.evaluate("([samples, rate]) => speak(samples, rate)", [question.tolist(), rate])
        visit.sounds()
        visit.page.evaluate("([samples, rate]) => speak(samples, rate)", [question.tolist(), rate])
        turn = visit.page.locator(".turn").first
        expect(turn.locator("del")).not_to_be_empty()
        expect(turn.locator("[data-part=note]")).to_contain_text("Interrupted")
        cut = [json.loads(text) for text in visit.sent if "conversation.item.truncate" in text]
        assert cut[0]["audio_end_ms"] == pytest.approx(visit.played_ms(0), abs=1) != 0
        # The second question is answered as well.
        expect(visit.page.locator(".turn").nth(1).locator("progress")).to_be_visible()


def test_escape_stops_an_answer_and_the_model_remembers_what_was_heard(look: Look) -> None:
    with look() as visit:
        visit.write(WRITTEN)
        visit.sounds()
        visit.page.keyboard.press("Escape")
        assert visit.falls_silent(within_ms=200)
        expect(visit.page.locator(".answer del")).not_to_be_empty()
        assert visit.page.inner_text("#status") == "Interrupted"
        played = visit.played_ms(0)
        assert visit.falls_silent(within_ms=500) and visit.played_ms(0) == played


def test_the_keyboard_alone_suffices(look: Look) -> None:
    with look() as visit:
        keyboard = visit.page.keyboard
        keyboard.down("Space")
        visit.phase("held")
        visit.page.wait_for_timeout(3_300)
        keyboard.up("Space")
        visit.phase("answering")
        visit.phase("ready")
        assert visit.answers() == [ANSWER]
        order = []
        for _ in range(20):
            keyboard.press("Tab")
            order.append(
                visit.page.evaluate(
                    "document.activeElement.id || document.activeElement.dataset.action"
                )
            )
            if order[-1] == "replay":
                keyboard.press("Enter")
                visit.sounds()
                keyboard.press("Escape")
                assert visit.falls_silent(within_ms=200)
        wanted = ["theme", "panel-button", "conversation", "replay", "download", "talk", "question"]
        wanted += ["chunk-size", "microphone", "speaker", "read-aloud"]
        assert [name for name in order if name in wanted][: len(wanted)] == wanted


def test_a_tap_of_the_space_bar_listens_until_the_next(look: Look) -> None:
    with look() as visit:
        visit.page.keyboard.press("Space")
        visit.phase("listening")
        expect(visit.page.locator("#talk")).to_have_attribute("aria-pressed", "true")
        visit.page.keyboard.press("Space")
        visit.phase("ready")
        expect(visit.page.locator("#talk")).to_have_attribute("aria-pressed", "false")


def test_it_fits_a_narrow_phone(look: Look) -> None:
    with look(viewport={"width": 360, "height": 640}, has_touch=True) as visit:
        visit.write(WRITTEN)
        visit.phase("answering")
        visit.phase("ready")
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
        for name in ("talk", "question", "stop", "panel-button"):
            box = visit.page.locator(f"#{name}").bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 360
            assert box["y"] + box["height"] <= 640 and box["height"] >= 40
        visit.page.tap("#panel-button")
        assert visit.page.is_visible("#latency")
        visit.page.keyboard.press("Escape")
        assert visit.page.is_hidden("#panel")


CONTRASTS = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((one) => one / 255).map((one) =>
    one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (element) => {
  const colour = getComputedStyle(element).backgroundColor;
  const clear = parse(colour)[3] === 0;
  return clear && element.parentElement ? behind(element.parentElement) : parse(colour);
};
[...document.querySelectorAll("h1, h1 span, h2, p, label, button, input, select, td, th")]
  .filter((element) => element.checkVisibility() && !element.disabled)
  .map((element) => {
    const two = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort();
    return [element.id || element.className || element.tagName, (two[1] + 0.05) / (two[0] + 0.05)];
  });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_by_day_and_by_night(look: Look, scheme: str) -> None:
    with look(color_scheme=scheme) as visit:
        found = visit.page.evaluate(CONTRASTS)
        assert len(found) > 10
        assert [one for one in found if one[1] < 4.5] == []
        visit.page.click("#theme")
        other = {"light": "dark", "dark": "light"}[scheme]
        expect(visit.page.locator("html")).to_have_attribute("data-theme", other)
        visit.page.reload()
        expect(visit.page.locator("html")).to_have_attribute("data-theme", other)


def test_the_chunk_size_goes_with_the_session(look: Look) -> None:
    with look() as visit:
        visit.page.select_option("#chunk-size", "all")
        visit.write(WRITTEN)
        visit.phase("answering")
        (update, *_) = [json.loads(text) for text in visit.sent if "session.update" in text]
        assert update["session"]["omni"] == {"chunk_size": "all", "timings": True}


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


# The parts of the page that count samples

RESAMPLED = """
async ([from, to, pieces]) => {
  const { Resampler } = await import("/page/resampler.js");
  const tone = (rate, count) =>
    Float32Array.from({ length: count }, (_, n) => Math.sin((2 * Math.PI * 440 * n) / rate));
  const resampler = new Resampler(from, to);
  const whole = tone(from, from); // one second
  const made = [];
  for (let start = 0, place = 0; start < whole.length; place += 1) {
    const end = start + pieces[place % pieces.length];
    made.push(...resampler.push(whole.slice(start, end)));
    start = end;
  }
  made.push(...resampler.flush());
  const wanted = tone(to, to);
  let worst = 0;
  for (let n = 100; n < to - 100; n += 1) worst = Math.max(worst, Math.abs(made[n] - wanted[n]));
  return [made.length, worst];
}
"""


def test_a_tone_is_the_same_at_another_rate_however_it_is_cut(look: Look) -> None:
    with look() as visit:
        for rates in ((48_000, 24_000), (44_100, 24_000), (24_000, 48_000)):
            for pieces in ([128], [1, 333, 17, 0]):
                count, worst = visit.page.evaluate(RESAMPLED, [*rates, pieces])
                assert count == pytest.approx(rates[1], abs=2) and worst < 2e-3, (rates, pieces)


BUFFERED = """
async () => {
  const { JitterBuffer } = await import("/page/jitter-buffer.js");
  const rate = 1000;
  const buffer = new JitterBuffer(rate); // waits for 60 samples
  const heard = [];
  const read = (times) => {
    for (let i = 0; i < times; i += 1) {
      const block = new Float32Array(10);
      const count = buffer.read(block);
      heard.push(...block.slice(0, count));
    }
  };
  buffer.push(new Float32Array(50).fill(1));
  read(3);
  const early = heard.length;
  buffer.push(new Float32Array(50).fill(1));
  read(12);
  const { gaps, target } = buffer;
  buffer.push(new Float32Array(200).fill(1));
  buffer.end();
  read(30);
  return { early, gaps, target, heard, done: buffer.done };
}
"""


def test_sound_that_comes_too_late_is_waited_for_and_none_is_lost(look: Look) -> None:
    with look() as visit:
        found = visit.page.evaluate(BUFFERED)
        assert found["early"] == 0 and found["gaps"] == 1 and found["done"]
        assert found["target"] == pytest.approx(0.06 * 1.6)
        assert len(found["heard"]) == 300
        assert found["heard"][99] == 0 and found["heard"][100] == 0  # faded out, faded in
        assert found["heard"][50] == found["heard"][200] == 1
