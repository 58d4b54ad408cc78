// The conversation: what the server tells becomes turns, what the user does becomes events.

import { fromBase64 } from "./pcm.js";
import { explain } from "./explain.js";
import { Turns, item } from "./turns.js";

const NEVER_BEGAN = "Interrupted before it began.";
const HARMLESS = new Set(["response_cancel_not_active", "item_not_found"]);

export class Dialogue {
  // sound: Sound. show: {turn(turn), phase(name), problem(text), timings(turn)}.
  // spoken: {timeOf(ms), between(startMs, endMs)}: what was sent of the microphone.
  constructor(connection, sound, show, spoken) {
    this.connection = connection;
    this.sound = sound;
    this.show = show;
    this.spoken = spoken;
    this.turns = new Turns();
    this.active = null; // id of the response that is being made
    this.stopped = new Set(); // responses that nobody wants to hear any more
    this.starts = new Map(); // question id -> ms into the stream
  }

  // A question in writing.
  async write(text) {
    await this.interrupt(); // what was heard of the answer before is part of what is asked
    const turn = this.turns.add({ id: newId(), text });
    turn.times.ended = performance.now();
    this.connection.send(item(turn.question.id, "user", { type: "input_text", text }));
    this.connection.send({ type: "response.create" });
    this.show.turn(turn);
    this.show.phase("thinking");
  }

  // The user has ended a spoken question by hand.
  commit() {
    this.endedByHand = performance.now();
    this.connection.send({ type: "input_audio_buffer.commit" });
    this.connection.send({ type: "response.create" });
    this.show.phase("thinking");
  }

  // Whether there is something to interrupt.
  get busy() {
    const asked = this.turns.unanswered;
    return this.active !== null || asked !== undefined || Boolean(this.sound.player?.sounding);
  }

  // At the user's wish: silence, and no more of this answer.
  async interrupt() {
    const asked = this.turns.unanswered;
    if (asked) asked.unwanted = true;
    if (this.active !== null) this.stopped.add(this.active);
    if (asked || this.active !== null) this.connection.send({ type: "response.cancel" });
    if (this.sound.player?.sounding) await this.silence();
  }

  // Stop playing, and tell the server how much of the answer was heard.
  async silence() {
    const heard = await this.sound.player.stop();
    const turn = heard && this.turns.answering(heard.id);
    if (!turn) return; // something was being played again
    turn.playedMs = heard.heardMs;
    turn.interrupted = true;
    this.connection.send({
      type: "conversation.item.truncate", item_id: turn.itemId, content_index: 0,
      audio_end_ms: Math.floor(heard.heardMs),
    });
    this.connection.send({ type: "conversation.item.retrieve", item_id: turn.itemId });
    this.show.turn(turn);
  }

  // The session is gone: nothing of what runs will end by itself.
  lost() {
    this.active = null;
    this.starts.clear();
    for (const turn of this.turns.all) {
      if (turn.status === "answering") this.sound.player?.end(turn.itemId);
      if (turn.status === "asked" || turn.status === "answering") {
        turn.status = "failed";
        turn.problem = "The connection broke before the answer was complete.";
        this.show.turn(turn);
      }
    }
  }

  restore() {
    for (const event of this.turns.restoring()) this.connection.send(event);
  }

  hear(event) {
    const handler = HANDLERS[event.type];
    if (handler) handler.call(this, event);
  }

  update(turn) {
    if (turn) this.show.turn(turn);
  }
}

function newId() {
  const random = crypto.getRandomValues(new Uint32Array(4));
  return `item_${[...random].map((one) => one.toString(36)).join("")}`;
}

function audible(dialogue, event) {
  if (dialogue.stopped.has(event.response_id)) return undefined;
  return dialogue.turns.of(event.response_id);
}

function addText(event) {
  const turn = audible(this, event);
  if (turn) turn.text += event.delta;
  this.update(turn);
}

const HANDLERS = {
  "input_audio_buffer.speech_started"({ item_id, audio_start_ms }) {
    this.starts.set(item_id, audio_start_ms);
    if (this.sound.player?.sounding) this.silence();
    this.show.phase("hearing");
  },

  "input_audio_buffer.speech_stopped"({ item_id, audio_end_ms }) {
    const start = this.starts.get(item_id) ?? audio_end_ms;
    this.starts.delete(item_id);
    const samples = this.spoken.between(start, audio_end_ms);
    const turn = this.turns.add({ id: item_id, text: null, samples });
    turn.times.ended = this.spoken.timeOf(audio_end_ms);
    this.update(turn);
    this.show.phase("thinking");
  },

  "input_audio_buffer.committed"({ item_id }) {
    if (this.turns.asking(item_id)) return;
    const samples = this.spoken.between(this.spoken.pressedMs, Infinity);
    const turn = this.turns.add({ id: item_id, text: null, samples });
    turn.times.ended = this.endedByHand;
    this.update(turn);
  },

  "conversation.item.input_audio_transcription.completed"({ item_id, transcript }) {
    const turn = this.turns.asking(item_id);
    if (turn) turn.question.text = transcript.trim() || null;
    this.update(turn);
  },

  "response.created"({ response }) {
    this.active = response.id;
    const turn = this.turns.unanswered;
    if (turn) turn.responseId = response.id;
    if (turn?.unwanted) this.stopped.add(response.id);
    this.update(turn);
    this.show.phase("thinking");
  },

  "response.output_item.added"({ response_id, item: added }) {
    const turn = this.turns.of(response_id);
    if (!turn) return;
    turn.itemId = added.id;
    turn.status = "answering";
    this.update(turn);
  },

  "response.output_audio_transcript.delta": addText,
  "response.output_text.delta": addText,

  "response.output_audio.delta"(event) {
    const turn = audible(this, event);
    if (!turn) return;
    turn.times.arrived ??= performance.now();
    const samples = fromBase64(event.delta);
    turn.pieces.push(samples);
    this.sound.player?.play(turn.itemId, samples);
  },

  "response.output_audio.done"(event) {
    const turn = audible(this, event);
    if (turn) this.sound.player?.end(turn.itemId);
  },

  "response.done"({ response }) {
    if (this.active === response.id) this.active = null;
    const turn = this.turns.of(response.id);
    if (turn) {
      turn.status = response.status;
      if (response.status === "failed") turn.problem = explain(response.status_details.error);
      if (response.status === "cancelled") turn.interrupted = true;
      if (turn.interrupted && !turn.text) turn.problem = NEVER_BEGAN;
    }
    this.update(turn);
    if (!this.sound.player?.sounding) this.show.phase("ready");
  },

  "omni.timings"(event) {
    const turn = this.turns.of(event.response_id);
    if (!turn) return;
    turn.timings = event;
    this.show.timings(turn);
  },

  // After a truncation: the words that the model will remember.
  "conversation.item.retrieved"({ item: kept }) {
    const turn = this.turns.answering(kept.id);
    const part = kept.content[0] ?? {};
    if (turn) turn.heardText = part.transcript ?? part.text ?? "";
    this.update(turn);
  },

  error({ error }) {
    if (!HARMLESS.has(error.code)) this.show.problem(explain(error));
  },
};
