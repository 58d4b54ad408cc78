// The microphone on the audio thread: any rate in, frames of 20 ms of the wire's samples out.

import { Resampler } from "./resampler.js";
import { WIRE_RATE } from "./pcm.js";

const FRAME = WIRE_RATE / 50;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, WIRE_RATE);
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
    this.ended = false;
    this.port.onmessage = () => {
      this.ended = true;
    };
  }

  process([channels]) {
    if (channels.length) {
      for (const sample of this.resampler.push(mono(channels))) this.add(sample);
    }
    return !this.ended;
  }

  add(sample) {
    const held = Math.max(-1, Math.min(1, sample));
    this.frame[this.filled] = Math.round(held * 32_767);
    this.filled += 1;
    if (this.filled < FRAME) return;
    this.port.postMessage(this.frame, [this.frame.buffer]);
    this.frame = new Int16Array(FRAME);
    this.filled = 0;
  }
}

function mono(channels) {
  if (channels.length === 1) return channels[0];
  const mixed = new Float32Array(channels[0].length);
  for (const channel of channels) {
    for (let place = 0; place < mixed.length; place += 1) {
      mixed[place] += channel[place] / channels.length;
    }
  }
  return mixed;
}

registerProcessor("capture", Capture);
