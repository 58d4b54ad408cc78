"""The page opens microphone and loudspeaker once, however asked, and after trouble anew."""

import time
from contextlib import closing

import torch
from playwright.sync_api import Browser, expect

from omni.engine import Engine
from serve.realtime import Model
from serve.web.app import create_app
from serve.web.settings import ServeSettings
from tests.browser import WRITTEN, Look, Visit, needs_chromium
from tests.realtime import served

pytestmark = needs_chromium
torch.set_num_threads(1)
FRAMES_PER_S = 50
# As while the browser asks whether the page may listen.
ASKED_FIRST = """
const { mediaDevices } = navigator;
const open = mediaDevices.getUserMedia.bind(mediaDevices);
mediaDevices.getUserMedia = async (wanted) => {
  await new Promise((done) => setTimeout(done, 1_000));
  return open(wanted);
};
"""
# As Firefox does where the microphone has another rate.
NO_SOURCE_AT_FIRST = """
const { createMediaStreamSource } = AudioContext.prototype;
let refused = false;
AudioContext.prototype.createMediaStreamSource = function (stream) {
  window.firstStream ??= stream;
  if (refused) return createMediaStreamSource.call(this, stream);
  refused = true;
  throw new DOMException("different sample-rate", "NotSupportedError");
};
"""
# As Safari says after a telephone call; the context is Chromium's own otherwise.
TELEPHONE = """
const { get } = Object.getOwnPropertyDescriptor(BaseAudioContext.prototype, "state");
const { resume } = AudioContext.prototype;
let called = false;
window.callUp = () => (called = true);
window.resumed = 0;
Object.defineProperty(BaseAudioContext.prototype, "state", {
  get() { return called ? "interrupted" : get.call(this); },
});
AudioContext.prototype.resume = function () {
  called = false;
  window.resumed += 1;
  return resume.call(this);
};
"""
# As browsers on a phone do; the tests' Chromium lets every page sound at once.
GESTURE_FIRST = """
let gestured = false;
addEventListener("pointerup", () => (gestured = true), true);
const waiting = [];
window.AudioContext = class extends AudioContext {
  get state() {
    return this.allowed ? super.state : "suspended";
  }
  async resume() {
    if (!gestured) {
      await new Promise((done) => waiting.push(done));
      return;
    }
    this.allowed = true;
    await super.resume();
    for (const done of waiting.splice(0)) done();
  }
};
"""
TALK = "document.getElementById('talk').getBoundingClientRect().toJSON()"


def frames_sent(visit: Visit) -> int:
    return sum("input_audio_buffer.append" in text for text in visit.sent)


def test_pressing_twice_while_the_microphone_opens_sends_each_frame_once(look: Look) -> None:
    visit = look()
    visit.page.add_init_script(ASKED_FIRST)
    with visit:
        visit.page.dblclick("#talk")
        visit.phase("listening")
        visit.page.wait_for_timeout(500)
        before, began = frames_sent(visit), time.monotonic()
        visit.page.wait_for_timeout(2_000)
        count = frames_sent(visit) - before
        assert 0 < count < 1.4 * FRAMES_PER_S * (time.monotonic() - began)
        visit.page.click("#talk")
        visit.phase("ready")
        visit.page.wait_for_timeout(200)
        before = frames_sent(visit)
        visit.page.wait_for_timeout(500)
        assert frames_sent(visit) == before


def test_a_question_that_is_held_while_the_tap_before_opens_the_microphone_is_asked(
    look: Look,
) -> None:
    visit = look()
    visit.page.add_init_script(ASKED_FIRST.replace("1_000", "3_000"))
    with visit:
        visit.page.click("#talk")
        visit.page.mouse.down()
        visit.phase("held")
        visit.page.wait_for_timeout(3_000)
        visit.page.mouse.up()
        visit.phase("answering")
        assert any("input_audio_buffer.commit" in text for text in visit.sent)


def test_a_microphone_that_could_not_be_read_is_let_go_and_opened_anew(look: Look) -> None:
    visit = look()
    visit.page.add_init_script(NO_SOURCE_AT_FIRST)
    with visit:
        visit.page.click("#talk")
        expect(visit.page.locator("#problem")).to_contain_text("different sample-rate")
        assert visit.page.evaluate("window.firstStream.active") is False
        visit.page.click("#talk")
        visit.phase("listening")
        visit.page.wait_for_timeout(500)
        assert frames_sent(visit) > 0


def test_a_first_touch_that_is_held_opens_the_microphone_when_let_go(look: Look) -> None:
    visit = look(viewport={"width": 360, "height": 640}, has_touch=True)
    visit.page.add_init_script(GESTURE_FIRST)
    with visit:
        finger = visit.page.context.new_cdp_session(visit.page)
        box = visit.page.evaluate(TALK)
        touch = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [touch]})
        visit.page.wait_for_timeout(900)
        assert frames_sent(visit) == 0
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        visit.phase("listening")
        visit.page.wait_for_timeout(500)
        assert frames_sent(visit) > 0


def test_an_interrupted_context_is_resumed(look: Look) -> None:
    visit = look()
    visit.page.add_init_script(TELEPHONE)
    with visit:
        visit.write(WRITTEN)
        visit.sounds()
        visit.phase("ready")
        before = visit.page.evaluate("callUp() && resumed")
        visit.write(WRITTEN)
        visit.sounds()
        assert visit.page.evaluate("resumed") == before + 1


def test_sound_opens_once_the_server_is_back(
    browser: Browser, served_model: tuple[Engine, Model]
) -> None:
    with served(create_app(ServeSettings(), *served_model)) as port:
        visit = Visit(browser, f"http://127.0.0.1:{port}/")
        visit.open()
    visit.write(WRITTEN)
    expect(visit.page.locator("#problem")).to_contain_text("out of reach")
    with served(create_app(ServeSettings(), *served_model), port=port), closing(visit):
        expect(visit.page.locator("body")).to_have_attribute("data-connection", "open")
        visit.page.press("#question", "Enter")  # what was typed is still there
        visit.sounds()
        visit.phase("ready")
        visit.page.click("#talk")
        visit.phase("listening")
