// What is said: the microphone, opened when it is wanted and let go when it is not.

import { Level } from "./level.js";

const PROCESSING = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export class Microphone {
  constructor(context) {
    this.context = context;
    this.deviceId = "";
    this.level = null;
    this.stream = null;
    this.opening = null;
  }

  get open() {
    return this.stream !== null;
  }

  // take(samples): frames of 20 ms, [n] int16 at the wire's rate. lost(): it was unplugged.
  // Throws what getUserMedia throws.
  async start(take, lost) {
    if (this.stream) return;
    const device = this.deviceId ? { deviceId: { exact: this.deviceId } } : {};
    this.opening ??= navigator.mediaDevices.getUserMedia({ audio: { ...PROCESSING, ...device } });
    try {
      this.stream = await this.opening;
    } finally {
      this.opening = null;
    }
    this.stream.getAudioTracks()[0].onended = lost;
    this.source = this.context.createMediaStreamSource(this.stream);
    this.capture = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
    this.level = new Level(this.context, this.source);
    this.capture.port.onmessage = ({ data }) => take(data);
    this.source.connect(this.capture);
  }

  stop() {
    if (!this.stream) return;
    this.capture.port.onmessage = null;
    this.capture.port.postMessage("end");
    this.source.disconnect();
    for (const track of this.stream.getTracks()) {
      track.onended = null;
      track.stop();
    }
    this.stream = null;
    this.level = null;
  }
}
