// One question with its answer, and all of them.

import { WIRE_RATE, joined, toBase64 } from "./pcm.js";

const LONGEST_S = 12; // of a spoken question that is told again: messages may be so long

export class Turn {
  constructor(question) {
    this.question = question; // {id, text; where it was spoken: samples}
    this.responseId = null;
    this.itemId = null; // of the answer
    this.text = "";
    this.pieces = []; // [n] int16 at the wire's rate
    this.status = "asked"; // then "answering", and what the response ended with
    this.problem = null; // why there is no answer
    this.unwanted = false; // interrupted before the server has begun to answer
    this.interrupted = false;
    this.heardText = null; // of an answer that was interrupted
    this.playedMs = 0;
    this.times = {}; // moments by performance.now(): ended, arrived, started
    this.timings = null; // the server's account
  }

  get seconds() {
    return this.pieces.reduce((sum, piece) => sum + piece.length, 0) / WIRE_RATE;
  }

  get sound() {
    return joined(this.pieces);
  }
}

export class Turns {
  constructor() {
    this.all = [];
  }

  add(question) {
    const turn = new Turn(question);
    this.all.push(turn);
    return turn;
  }

  asking(id) {
    return this.all.find((turn) => turn.question.id === id);
  }

  answering(itemId) {
    return this.all.find((turn) => turn.itemId === itemId);
  }

  of(responseId) {
    return this.all.find((turn) => turn.responseId === responseId);
  }

  // The first question that no response belongs to.
  get unanswered() {
    return this.all.find((turn) => turn.responseId === null && turn.status === "asked");
  }

  // Events that tell a new session what was said in the one before it.
  restoring() {
    return this.all.flatMap((turn) => {
      const answer = turn.heardText ?? turn.text;
      const asked = partOf(turn.question);
      if (!asked || !answer) return [];
      return [
        item(turn.question.id, "user", asked),
        item(turn.itemId, "assistant", { type: "output_text", text: answer }),
      ];
    });
  }
}

function partOf({ text, samples }) {
  if (text) return { type: "input_text", text };
  if (!samples.length || samples.length > LONGEST_S * WIRE_RATE) return null;
  return { type: "input_audio", audio: toBase64(samples) };
}

export function item(id, role, part) {
  const content = [part];
  return { type: "conversation.item.create", item: { id, type: "message", role, content } };
}
