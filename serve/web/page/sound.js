// The browser's sound: one context for both directions, made at the user's first gesture.

import { Microphone } from "./microphone.js";
import { Player } from "./player.js";

export class Sound {
  constructor(playbackTold) {
    this.playbackTold = playbackTold;
    this.context = null;
    this.player = null;
    this.microphone = null;
    this.speakerId = "";
  }

  // Browsers give AudioWorklet and the microphone to secure pages alone.
  static get allowed() {
    return window.isSecureContext && "AudioWorkletNode" in window;
  }

  // To be called while a gesture is handled: only then may a page begin to sound. Throws what the
  // browser throws; asked again, it tries again.
  async open() {
    this.opened ??= this.make();
    await this.opened;
    await this.wake();
  }

  // A touch is a gesture when it ends, not when it begins: what began with it may go on by this.
  async wake() {
    // Not "suspended" alone: after a telephone call, Safari's context is "interrupted".
    if (this.context && this.context.state !== "running") await this.context.resume();
  }

  async make() {
    const context = (this.context = new AudioContext({ latencyHint: "interactive" }));
    const here = import.meta.url;
    try {
      await Promise.all(
        ["capture-worklet.js", "playback-worklet.js"].map((name) =>
          context.audioWorklet.addModule(new URL(name, here)),
        ),
      );
    } catch (error) {
      // The server is away. A context remembers what it could not load, so the next try has its own.
      this.context = this.opened = null;
      await context.close();
      throw error;
    }
    this.player = new Player(context, this.playbackTold);
    this.microphone = new Microphone(context);
    if (this.speakerId) await this.useSpeaker(this.speakerId);
  }

  static get choosesSpeaker() {
    return "setSinkId" in AudioContext.prototype;
  }

  // The system's own where the wanted one is gone.
  async useSpeaker(id) {
    this.speakerId = id;
    if (!this.context || !Sound.choosesSpeaker) return;
    try {
      await this.context.setSinkId(id);
    } catch {
      await this.context.setSinkId("");
    }
  }
}
