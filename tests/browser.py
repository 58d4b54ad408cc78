"""A real browser for the tests of the page: Debian's Chromium, driven by playwright."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Page, Playwright, expect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium; as root: apt-get install chromium (make test does it)",
)
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip
# What reaches the loudspeaker, seen from outside the page's own code.
PROBE = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...more) {
  if (to instanceof AudioDestinationNode) {
    const probe = this.context.createAnalyser();
    probe.fftSize = 1024;
    connect.call(this, probe);
    const samples = new Float32Array(probe.fftSize);
    window.loudestNow = () => {
      probe.getFloatTimeDomainData(samples);
      return samples.reduce((most, one) => Math.max(most, Math.abs(one)), 0);
    };
  }
  return connect.call(this, to, ...more);
};
window.loudestNow = () => 0;
"""
# A microphone that hears what the test says, when it says it.
MOUTH = """
let mouth;
navigator.mediaDevices.getUserMedia = async () => {
  const context = new AudioContext();
  mouth = context.createMediaStreamDestination();
  return mouth.stream;
};
window.speak = (samples, rate) => {
  const buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
  buffer.copyToChannel(Float32Array.from(samples), 0);
  const source = new AudioBufferSourceNode(mouth.context, { buffer });
  source.connect(mouth);
  source.start();
};
"""
LOUD, QUIET = 0.02, 1e-4
WAIT_MS = 30_000
expect.set_options(timeout=WAIT_MS)
WRITTEN = "What is the opposite of heavy?"


def microphone_file(path: Path, recording: Path, *, before_s: float, after_s: float) -> Path:
    """A recording with silence around it, as the browser's microphone plays it."""
    samples, rate = soundfile.read(recording)
    parts = [np.zeros(round(before_s * rate)), samples, np.zeros(round(after_s * rate))]
    soundfile.write(path, np.concatenate(parts), rate, subtype="PCM_16")
    return path


@contextmanager
def chromium(playwright: Playwright, heard: Path) -> Iterator[Browser]:
    """A browser whose microphone hears a file, from its beginning whenever it is opened."""
    file = f"--use-file-for-fake-audio-capture={heard}%noloop"
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=[*OPTIONS, "--host-resolver-rules=MAP omni.test 127.0.0.1", file],
    )
    try:
        yield browser
    finally:
        browser.close()


class Visit:
    """One look at the page, and all that went wrong or outside meanwhile."""

    def __init__(self, browser: Browser, address: str, **context: Any) -> None:
        self._context = browser.new_context(
            **{"viewport": {"width": 1180, "height": 760}, **context}
        )
        self._context.set_default_timeout(WAIT_MS)
        self.page: Page = self._context.new_page()
        self.address = address
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.sent: list[str] = []  # over the WebSocket
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on(
            "websocket",
            lambda socket: socket.on("framesent", lambda text: self.sent.append(str(text))),
        )
        self.page.add_init_script(PROBE)

    def open(self) -> None:
        """Call up the page."""
        self.page.goto(self.address)

    def close(self) -> None:
        """No more of it."""
        self._context.close()

    def __enter__(self) -> "Visit":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def phase(self, name: str) -> None:
        """Wait until the page is at it."""
        self.page.wait_for_selector(f"body[data-phase={name}]")

    def sounds(self) -> None:
        """Wait until the loudspeaker gets sound."""
        # Not wait_for_function: it evaluates in the page, whose policy forbids that.
        ends = time.monotonic() + WAIT_MS / 1e3
        while not self.page.evaluate(f"window.loudestNow() > {LOUD}"):
            assert time.monotonic() < ends, "nothing is heard"
            self.page.wait_for_timeout(10)

    def falls_silent(self, within_ms: float) -> bool:
        """Whether the loudspeaker is quiet after that time."""
        self.page.wait_for_timeout(within_ms)
        return bool(self.page.evaluate(f"window.loudestNow() < {QUIET}"))

    def write(self, text: str) -> None:
        """A question in writing."""
        self.page.fill("#question", text)
        self.page.press("#question", "Enter")

    def answers(self) -> list[str]:
        """What stands in the transcript as answers."""
        return self.page.locator('[data-part="answer"]').all_inner_texts()

    def played_ms(self, turn: int) -> float:
        """How much of an answer was played."""
        element = self.page.locator(".turn").nth(turn)
        return float(element.get_attribute("data-played-ms") or 0)


# How the tests call for a visit, with options of the browser.
Look = Callable[..., Visit]
