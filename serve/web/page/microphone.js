// What is said: the microphone, opened when it is wanted and let go when it is not.

import { Level } from "./level.js";

const PROCESSING = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export class Microphone {
  constructor(context) {
    this.context = context;
    this.deviceId = "";
    this.level = null;
    this.stream = null;
    this.starting = null;
  }

  get open() {
    return this.stream !== null;
  }

  // take(samples): frames of 20 ms, [n] int16 at the wire's rate. lost(): it was unplugged.
  // Throws what getUserMedia throws. Asked again while it opens, it waits and opens no second one.
  async start(take, lost) {
    if (this.stream) return;
    this.starting ??= this.listen(take, lost).finally(() => {
      this.starting = null;
    });
    await this.starting;
  }

  async listen(take, lost) {
    const device = this.deviceId ? { deviceId: { exact: this.deviceId } } : {};
    const audio = { ...PROCESSING, ...device };
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    try {
      this.source = this.context.createMediaStreamSource(stream);
      this.capture = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
      this.level = new Level(this.context, this.source);
    } catch (error) {
      // As Firefox does where microphone and context have different rates.
      for (const track of stream.getTracks()) track.stop();
      throw error;
    }
    stream.getAudioTracks()[0].onended = lost;
    this.capture.port.onmessage = ({ data }) => take(data);
    this.source.connect(this.capture);
    this.stream = stream; // last: only what is recorded is open
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
