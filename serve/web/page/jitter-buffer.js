// Sound that comes in bursts -> sound without gaps. It waits until enough is there; the worse
// the network, the longer. Gaps that can't be helped are faded, so that they don't click.

const FIRST_S = 0.06; // waited for at the start
const LEAST_S = 0.03;
const MOST_S = 0.6;
const RAISED = 1.6; // after a gap
const LOWERED = 0.9; // after an answer without one
const FADE_S = 0.003;

export class JitterBuffer {
  constructor(rate, target = FIRST_S, gaps = 0) {
    this.rate = rate;
    this.target = target; // seconds
    this.gaps = gaps;
    this.fade = Math.round(FADE_S * rate);
    this.begin();
  }

  // An empty one, with what was learnt of the network.
  successor() {
    return new JitterBuffer(this.rate, this.target, this.gaps);
  }

  // A new run of sound.
  begin() {
    this.pieces = [];
    this.waiting = 0; // samples
    this.whole = false;
    this.playing = false;
    this.hadGap = false;
    this.rising = 0; // samples of a fade-in that are left
  }

  push(samples) {
    if (!samples.length) return;
    this.pieces.push(samples);
    this.waiting += samples.length;
  }

  // No more comes.
  end() {
    this.whole = true;
  }

  get done() {
    return this.whole && this.waiting === 0;
  }

  // Fill `output`; how many samples of sound are in it, the rest is silence.
  read(output) {
    if (!this.playing) {
      const enough = this.waiting >= this.target * this.rate || (this.whole && this.waiting > 0);
      if (!enough) return 0;
      this.playing = true;
      this.rising = this.hadGap ? this.fade : 0;
    }
    // The last few samples stay until more has come: they are what fades out before a gap.
    const free = this.whole ? this.waiting : this.waiting - this.fade;
    if (free >= output.length || this.whole) {
      const count = this.take(output, Math.min(output.length, this.waiting));
      if (this.done && !this.hadGap) this.target = Math.max(LEAST_S, this.target * LOWERED);
      return count;
    }
    const count = this.take(output, Math.min(output.length, this.waiting));
    fadeOut(output, count, this.fade);
    this.playing = false;
    this.hadGap = true;
    this.gaps += 1;
    this.target = Math.min(MOST_S, this.target * RAISED);
    return count;
  }

  // The end: `output` gets a last fading piece of what waits.
  drop(output) {
    const count = this.playing ? this.take(output, Math.min(output.length, this.waiting)) : 0;
    fadeOut(output, count, count);
    return count;
  }

  take(output, count) {
    let filled = 0;
    while (filled < count) {
      const piece = this.pieces[0];
      const part = piece.subarray(0, count - filled);
      output.set(part, filled);
      filled += part.length;
      if (part.length === piece.length) this.pieces.shift();
      else this.pieces[0] = piece.subarray(part.length);
    }
    this.waiting -= count;
    for (let place = 0; place < count && this.rising > 0; place += 1, this.rising -= 1) {
      output[place] *= 1 - this.rising / this.fade;
    }
    return count;
  }
}

function fadeOut(samples, count, length) {
  const fading = Math.min(length, count);
  for (let left = 1; left <= fading; left += 1) samples[count - left] *= (left - 1) / fading;
}
