// What is heard: answers as they come, and those that are played again.

import { Level } from "./level.js";

export class Player {
  // told(kind, id, playedMs): "started", "playing", "ended" or "stopped"
  constructor(context, told) {
    this.context = context;
    this.told = told;
    this.gaps = 0; // where sound came too late
    this.asked = new Set(); // ids with sound that has not been played to its end
    this.stopping = [];
    const shape = { numberOfInputs: 0, outputChannelCount: [1] };
    this.node = new AudioWorkletNode(context, "playback", shape);
    this.node.port.onmessage = ({ data }) => this.hear(data);
    this.level = new Level(context, this.node);
    this.node.connect(context.destination);
  }

  get sounding() {
    return this.asked.size > 0;
  }

  // [n] int16 at the wire's rate.
  play(id, samples) {
    this.asked.add(id);
    this.node.port.postMessage({ kind: "sound", id, samples });
  }

  end(id) {
    this.node.port.postMessage({ kind: "end", id });
  }

  // Silence at once. What was playing and how much of it was heard: {id, heardMs}, or null.
  stop() {
    const { promise, resolve } = withResolvers();
    this.stopping.push(resolve);
    this.asked.clear();
    this.node.port.postMessage({ kind: "stop" });
    return promise;
  }

  // From a sample's leaving the audio thread to the loudspeaker.
  get delayMs() {
    return 1e3 * (this.context.outputLatency || this.context.baseLatency || 0);
  }

  hear({ kind, id, playedMs, gaps }) {
    this.gaps = gaps;
    if (kind === "stopped") {
      const heardMs = Math.max(0, playedMs - this.delayMs);
      this.stopping.shift()?.(id === null ? null : { id, heardMs });
    }
    if (kind === "ended") this.asked.delete(id);
    this.told(kind, id, playedMs);
  }
}

// Promise.withResolvers is newer than the browsers that we want to be heard in.
function withResolvers() {
  let resolve;
  const promise = new Promise((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
