"""The page opens microphone and loudspeaker once, however asked, and after trouble anew."""

import time

import torch
from playwright.sync_api import expect

from tests.browser import Look, Visit, needs_chromium

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
