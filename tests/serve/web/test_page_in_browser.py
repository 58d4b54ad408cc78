"""The page in a real browser, talking to the nano: by voice, by key, on a phone."""

import json

import numpy as np
import pytest
import soundfile
import torch
from playwright.sync_api import expect

from omni.loading import NANO
from tests.browser import MOUTH, WRITTEN, Look, needs_chromium

pytestmark = needs_chromium
torch.set_num_threads(1)
JOKE = NANO.parent / "questions" / "6-joke-about-trees.wav"
ANSWER = "The capital of France is Paris."
FOCUSED = "document.activeElement.id || document.activeElement.dataset.action"
STAGES = ["VAD", "Queue", "Encode", "Prefill", "First unit", "Vocoder", "Network", "Playout"]


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
            order.append(visit.page.evaluate(FOCUSED))
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
