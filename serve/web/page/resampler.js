// A stream of samples from one rate to another, by windowed sinc; pieces join without a seam.

const ZERO_CROSSINGS = 16; // of the sinc, to each side
const STEPS = 256; // of the table between two zero crossings
const ROLLOFF = 0.94; // of the lower rate's band that is kept

function sincTable() {
  const table = new Float32Array(ZERO_CROSSINGS * STEPS + 2); // [x * STEPS], zero at the end
  for (let place = 0; place <= ZERO_CROSSINGS * STEPS; place += 1) {
    const x = place / STEPS;
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
    const hann = 0.5 + 0.5 * Math.cos((Math.PI * x) / ZERO_CROSSINGS);
    table[place] = sinc * hann;
  }
  return table;
}

const TABLE = sincTable();

export class Resampler {
  constructor(from, to) {
    this.step = from / to; // input samples per output sample
    this.cutoff = ROLLOFF * Math.min(1, to / from);
    this.reach = Math.ceil(ZERO_CROSSINGS / this.cutoff); // input samples to each side
    this.same = from === to;
    this.kept = new Float32Array(this.reach); // silence before the first sample
    this.keptFrom = -this.reach; // the stream's place of kept[0]
    this.made = 0; // output samples so far
  }

  // The next piece; what needs samples that have not come yet is held back.
  push(samples) {
    if (this.same) return samples;
    const input = new Float32Array(this.kept.length + samples.length);
    input.set(this.kept);
    input.set(samples, this.kept.length);
    const last = this.keptFrom + input.length - this.reach; // places below it can be made
    const count = Math.max(0, Math.ceil(last / this.step) - this.made);
    const output = new Float32Array(count);
    for (let place = 0; place < count; place += 1) {
      output[place] = this.at(input, (this.made + place) * this.step - this.keptFrom);
    }
    this.made += count;
    const needed = Math.floor(this.made * this.step) - this.reach - this.keptFrom;
    const dropped = Math.max(0, Math.min(needed, input.length));
    this.kept = input.slice(dropped);
    this.keptFrom += dropped;
    return output;
  }

  // What was held back; the stream ends here.
  flush() {
    return this.same ? new Float32Array(0) : this.push(new Float32Array(this.reach));
  }

  at(input, centre) {
    const first = Math.max(0, Math.ceil(centre - this.reach));
    const last = Math.min(input.length - 1, Math.floor(centre + this.reach));
    let sum = 0;
    for (let place = first; place <= last; place += 1) {
      const x = Math.abs(place - centre) * this.cutoff * STEPS;
      if (x >= ZERO_CROSSINGS * STEPS) continue;
      const whole = Math.floor(x);
      const share = x - whole;
      sum += input[place] * (TABLE[whole] + share * (TABLE[whole + 1] - TABLE[whole]));
    }
    return sum * this.cutoff;
  }
}
