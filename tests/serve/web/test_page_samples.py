"""The parts of the page that count samples: the resampler and the jitter buffer."""

import pytest
import torch

from tests.browser import Look, needs_chromium

pytestmark = needs_chromium
torch.set_num_threads(1)

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
