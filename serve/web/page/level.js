// How loud a node is now, for meters and waveforms.

const SAMPLES = 1024;

export class Level {
  constructor(context, source) {
    this.node = new AnalyserNode(context, { fftSize: SAMPLES });
    this.samples = new Float32Array(SAMPLES);
    source.connect(this.node);
  }

  // Root mean square of the last samples, 0..1.
  read() {
    this.node.getFloatTimeDomainData(this.samples);
    let square = 0;
    for (const sample of this.samples) square += sample * sample;
    return Math.sqrt(square / SAMPLES);
  }
}

// Loudness is heard by its logarithm: -60 dB is 0, full scale is 1.
export function loudness(level) {
  return Math.max(0, Math.min(1, 1 + Math.log10(Math.max(level, 1e-6)) / 3));
}
