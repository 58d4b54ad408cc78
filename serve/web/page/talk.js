// How the user speaks: after a tap the server finds out when a question ends, holding says it by
// hand.

import { explainMicrophone, UNPLUGGED } from "./explain.js";
import { WIRE_RATE, joined, toBase64 } from "./pcm.js";

const HOLD_MS = 350; // a press that lasts longer is a hold
const TAIL_MS = 150; // recorded after the button is let go: the end of the last word
const KEPT_S = 60; // of what was sent, to be able to tell a new session what was asked
const DETECTED = { type: "server_vad", create_response: true, interrupt_response: true };

export class Talk {
  // show: {listening(mode), phase(name), problem(text)}; mode: null, "free" or "held"
  // change(settings): of the session, merged. ready(): resolves to whether a session is there.
  constructor(connection, sound, dialogue, show, ready) {
    this.connection = connection;
    this.sound = sound;
    this.dialogue = dialogue;
    this.show = show;
    this.ready = ready;
    this.mode = null;
    this.pressedAt = null;
    this.frames = []; // [{samples, endMs}]
    this.sentMs = 0;
    this.sentAt = 0; // when the last of it was spoken, by performance.now()
    this.pressedMs = 0;
  }

  get turnDetection() {
    return this.mode === "held" ? null : DETECTED;
  }

  // Of a new session: the stream begins at 0 again.
  begin() {
    this.frames = [];
    this.sentMs = 0;
    this.pressedMs = 0;
  }

  // The button or key goes down ...
  press() {
    if (this.pressedAt !== null) return;
    this.pressedAt = performance.now();
    if (this.mode === "free") return; // letting go ends it
    this.starting = this.start("held");
  }

  // ... and up.
  async release() {
    if (this.pressedAt === null) return;
    const held = performance.now() - this.pressedAt > HOLD_MS;
    this.pressedAt = null;
    this.sound.wake().catch(() => {}); // start() tells what is wrong
    if (this.mode === "free") {
      this.stop();
      return;
    }
    const waited = !this.sound.microphone?.open; // for a permission: nobody speaks meanwhile
    if (!(await this.starting)) return;
    if (this.pressedAt !== null) return; // pressed again while the microphone opened: that holds
    if (held && !waited) await this.finishHeld();
    else this.become("free");
  }

  // The same by a click that has no down and up: a screen reader's.
  async toggle() {
    if (this.mode) this.stop();
    else await this.start("free");
  }

  async start(mode) {
    this.dialogue.interrupt();
    try {
      await this.sound.open();
      if (!(await this.ready())) return false;
      await this.sound.microphone.start(
        (samples) => this.send(samples),
        () => {
          this.stop();
          this.show.problem(UNPLUGGED);
        },
      );
    } catch (error) {
      this.show.problem(explainMicrophone(error));
      return false;
    }
    this.become(mode);
    this.pressedMs = this.sentMs;
    return true;
  }

  become(mode) {
    this.mode = mode;
    this.connection.send({
      type: "session.update",
      session: { type: "realtime", audio: { input: { turn_detection: this.turnDetection } } },
    });
    this.show.listening(mode);
  }

  async finishHeld() {
    await new Promise((done) => setTimeout(done, TAIL_MS));
    this.mode = null;
    this.sound.microphone.stop();
    this.show.listening(null);
    this.dialogue.commit();
  }

  // Stop listening; what was said of a question that has not ended is forgotten.
  stop() {
    this.mode = null;
    this.sound.microphone?.stop();
    this.connection.send({ type: "input_audio_buffer.clear" });
    this.show.listening(null);
  }

  send(samples) {
    if (this.connection.state !== "open") return;
    this.sentAt = performance.now();
    this.sentMs += (1e3 * samples.length) / WIRE_RATE;
    this.frames.push({ samples, endMs: this.sentMs });
    if (this.frames.length * samples.length > KEPT_S * WIRE_RATE) this.frames.shift();
    this.connection.send({ type: "input_audio_buffer.append", audio: toBase64(samples) });
  }

  // What was sent between two places of the stream: [n] int16.
  between(startMs, endMs) {
    const inside = this.frames.filter(({ endMs: end }) => end > startMs && end <= endMs + 20);
    return joined(inside.map(({ samples }) => samples));
  }

  // When the sound at a place of the stream was spoken, by performance.now().
  timeOf(placeMs) {
    return this.sentAt - (this.sentMs - placeMs);
  }
}
