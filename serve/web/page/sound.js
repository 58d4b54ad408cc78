// The browser's sound: one context for both directions, made at the user's first gesture.

import { Microphone } from "./microphone.js";
import { Player } from "./player.js";

export class Sound {
  constructor(playbackTold) {
    this.playbackTold = playbackTold;
    this.player = null;
    this.microphone = null;
    this.speakerId = "";
  }

  // Browsers give AudioWorklet and the microphone to secure pages alone.
  static get allowed() {
    return window.isSecureContext && "AudioWorkletNode" in window;
  }

  // To be called while a gesture is handled: only then may a page begin to sound.
  async open() {
    this.opened ??= this.make();
    const context = await this.opened;
    if (context.state === "suspended") await context.resume();
  }

  async make() {
    const context = new AudioContext({ latencyHint: "interactive" });
    const here = import.meta.url;
    await Promise.all(
      ["capture-worklet.js", "playback-worklet.js"].map((name) =>
        context.audioWorklet.addModule(new URL(name, here)),
      ),
    );
    this.context = context;
    this.player = new Player(context, this.playbackTold);
    this.microphone = new Microphone(context);
    if (this.speakerId) await this.useSpeaker(this.speakerId);
    return context;
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
