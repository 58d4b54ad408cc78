// The stages of the last answers as bars, and those of one answer in figures.

import { STAGES, totalOf } from "./latency.js";

const SVG = "http://www.w3.org/2000/svg";
const ROWS = 6;
const ROW = 26; // in units of the drawing, which is 300 wide
const BAR = 14;
const LEFT = 18;
const RIGHT = 252;
const AXIS = 22;

export class LatencyPlot {
  constructor(svg, table) {
    this.svg = svg;
    this.table = table;
    this.rows = []; // [{number, stages}]
  }

  // A new row, or new figures of one.
  show(number, stages) {
    const known = this.rows.find((row) => row.number === number);
    if (known) known.stages = stages;
    else this.rows.push({ number, stages });
    this.rows.splice(0, this.rows.length - ROWS);
    this.draw();
    this.fill(this.rows.at(-1));
  }

  draw() {
    const longest = niceAbove(Math.max(...this.rows.map(({ stages }) => totalOf(stages))));
    const height = this.rows.length * ROW + AXIS;
    const parts = [];
    const x = (ms) => LEFT + (ms / longest) * (RIGHT - LEFT);
    for (const share of [0, 0.5, 1]) {
      const at = x(share * longest);
      parts.push(make("line", { class: "grid", x1: at, x2: at, y1: 0, y2: height - AXIS + 4 }));
      const anchor = share === 0 ? "start" : "middle";
      const text = longest < 2_000 ? `${share * longest} ms` : `${(share * longest) / 1e3} s`;
      parts.push(label(at, height - 4, share ? text : "0", { "text-anchor": anchor }));
    }
    this.rows.forEach(({ number, stages }, place) => {
      const y = place * ROW + (ROW - BAR) / 2;
      parts.push(label(0, y + BAR - 3, String(number)));
      let from = 0;
      stages.forEach((ms, stage) => {
        if (!ms) return;
        const box = { x: x(from), y, width: Math.max(0.5, x(from + ms) - x(from)), height: BAR };
        parts.push(make("rect", { class: `stage-${stage}`, ...box }));
        from += ms;
      });
      parts.push(label(x(from) + 5, y + BAR - 3, inMs(from), { class: "total" }));
    });
    this.svg.setAttribute("viewBox", `0 0 300 ${height}`);
    this.svg.setAttribute("height", String(height));
    const last = this.rows.at(-1);
    this.svg.setAttribute(
      "aria-label",
      `Time to first sound by stage, last ${this.rows.length} answers; ` +
        `answer ${last.number}: ${inMs(totalOf(last.stages))}. Its figures are in the table.`,
    );
    this.svg.replaceChildren(...parts);
  }

  fill({ stages }) {
    const rows = STAGES.map(({ name, what }, stage) =>
      row(name, what, stages[stage], `stage-${stage}`),
    );
    this.table.replaceChildren(...rows, row("First sound", "all of it", totalOf(stages), "whole"));
  }
}

function row(name, what, ms, kind) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  const swatch = document.createElement("span");
  swatch.className = `swatch ${kind}`;
  head.append(swatch, name);
  head.title = what;
  const value = document.createElement("td");
  value.textContent = ms === null ? "–" : inMs(ms);
  line.append(head, value);
  line.className = kind === "whole" ? "whole" : "";
  return line;
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

function label(x, y, text, attributes = {}) {
  const element = make("text", { x, y, ...attributes });
  element.textContent = text;
  return element;
}

function inMs(ms) {
  return ms >= 10_000 ? `${(ms / 1e3).toFixed(1)} s` : `${Math.round(ms)} ms`;
}

// The next of 1, 2, 5, 10, ... times a hundred.
function niceAbove(ms) {
  let nice = 100;
  for (let step = 0; nice < ms; step += 1) nice *= step % 3 === 1 ? 2.5 : 2;
  return nice;
}
