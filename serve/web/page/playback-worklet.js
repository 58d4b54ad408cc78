// Answers on the audio thread, one after the other, and an account of what was played of each.

import { JitterBuffer } from "./jitter-buffer.js";
import { Resampler } from "./resampler.js";
import { WIRE_RATE } from "./pcm.js";

const TOLD_EVERY = 8; // blocks of 128 samples between two accounts

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new JitterBuffer(sampleRate);
    this.runs = []; // [{id, resampler, early: samples that wait for their turn, whole, played}]
    this.leaving = null; // {buffer, run}: what was stopped, until its last samples have faded
    this.blocks = 0;
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take({ kind, id, samples }) {
    if (kind === "stop") {
      this.leaving = { buffer: this.buffer, run: this.runs[0] };
      this.buffer = this.buffer.successor();
      this.runs = [];
      return;
    }
    let run = this.runs.find((one) => one.id === id);
    if (!run && kind === "sound") {
      const resampler = new Resampler(WIRE_RATE, sampleRate);
      run = { id, resampler, early: [], whole: false, played: 0 };
      this.runs.push(run);
    }
    if (!run) return; // the end of what was stopped
    if (kind === "end") {
      this.add(run, run.resampler.flush());
      run.whole = true;
      if (run === this.runs[0]) this.buffer.end();
    } else {
      this.add(run, run.resampler.push(Float32Array.from(samples, (one) => one / 32_768)));
    }
  }

  add(run, samples) {
    if (run === this.runs[0]) this.buffer.push(samples);
    else run.early.push(samples);
  }

  process(_, [[output]]) {
    if (this.leaving) {
      this.leave(output);
      return true;
    }
    const run = this.runs[0];
    if (!run) return true;
    const count = this.buffer.read(output);
    if (count && !run.played) this.tell("started", run);
    run.played += count;
    this.blocks += 1;
    if (this.buffer.done) this.next();
    else if (this.blocks % TOLD_EVERY === 0) this.tell("playing", run);
    return true;
  }

  leave(output) {
    const { buffer, run } = this.leaving;
    const count = buffer.drop(output);
    if (run) run.played += count;
    this.leaving = null;
    this.tell("stopped", run);
  }

  next() {
    this.tell("ended", this.runs.shift());
    this.buffer.begin();
    const [run] = this.runs;
    if (!run) return;
    for (const samples of run.early) this.buffer.push(samples);
    if (run.whole) this.buffer.end();
  }

  tell(kind, run) {
    const playedMs = run ? (1e3 * run.played) / sampleRate : 0;
    this.port.postMessage({ kind, id: run?.id ?? null, playedMs, gaps: this.buffer.gaps });
  }
}

registerProcessor("playback", Playback);
