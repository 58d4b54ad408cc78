// What was said by both, on the page.

import { WIRE_RATE } from "./pcm.js";

export class Transcript {
  // on: {replay(turn), download(turn)}
  constructor(list, template, on) {
    this.list = list;
    this.template = template;
    this.on = on;
    this.shown = new Map(); // turn -> its element
  }

  show(turn) {
    const element = this.shown.get(turn) ?? this.add(turn);
    element.dataset.status = turn.interrupted ? "cancelled" : turn.status;
    const part = (name) => element.querySelector(`[data-part="${name}"]`);
    this.showQuestion(part("question"), turn);
    this.showAnswer(part("answer"), turn);
    part("note").textContent = note(turn);
    part("actions").hidden = !finished(turn) || turn.pieces.length === 0;
    this.showPlayed(turn);
  }

  // How far it was heard. In seconds, too, for whoever can't see the bar.
  showPlayed(turn) {
    const element = this.shown.get(turn);
    const bar = element.querySelector("progress");
    const totalMs = 1e3 * turn.seconds;
    bar.hidden = !finished(turn) || totalMs === 0; // before, nobody knows how much there is
    bar.value = totalMs ? Math.min(1, turn.playedMs / totalMs) : 0;
    bar.textContent = `${(turn.playedMs / 1e3).toFixed(1)} s`;
    element.dataset.playedMs = String(Math.round(turn.playedMs));
  }

  showLatency(turn, ms) {
    const place = this.shown.get(turn)?.querySelector('[data-part="latency"]');
    if (place) place.textContent = `heard after ${(ms / 1e3).toFixed(2)} s`;
  }

  add(turn) {
    const element = this.template.content.firstElementChild.cloneNode(true);
    for (const name of ["replay", "download"]) {
      const button = element.querySelector(`[data-action="${name}"]`);
      button.addEventListener("click", () => this.on[name](turn));
    }
    this.shown.set(turn, element);
    this.list.append(element);
    element.scrollIntoView({ block: "end" });
    return element;
  }

  showQuestion(place, { question }) {
    place.classList.toggle("unwritten", !question.text);
    place.textContent = question.text ?? spokenFor(question.samples);
  }

  showAnswer(place, turn) {
    const heard = turn.heardText?.trim();
    const whole = turn.text.trim();
    if (heard === undefined || !whole.startsWith(heard)) {
      place.textContent = whole;
    } else {
      const unheard = document.createElement("del");
      unheard.textContent = whole.slice(heard.length).trim();
      place.replaceChildren(heard, " ", unheard);
    }
    this.list.lastElementChild.scrollIntoView({ block: "end" });
  }
}

function spokenFor(samples) {
  const seconds = samples.length / WIRE_RATE;
  return seconds ? `Spoken question, ${seconds.toFixed(1)} s` : "Spoken question";
}

function finished({ status, interrupted }) {
  return interrupted || !["asked", "answering"].includes(status);
}

function note(turn) {
  if (turn.problem) return turn.problem;
  if (turn.interrupted) return "Interrupted. The model remembers what was heard.";
  if (turn.status === "incomplete") return "Ended early: as long as an answer may be.";
  return "";
}
