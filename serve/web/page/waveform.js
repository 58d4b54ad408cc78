// Loudness over the last seconds as bars that move to the left.

import { loudness } from "./level.js";

const BAR = 3; // CSS pixels, and as many between two
const EVERY_MS = 50; // a bar
const LEAST = 0.04; // of the height: silence is a line of dots

export class Waveform {
  // read(): the level now, or null where nothing is open.
  constructor(canvas, read) {
    this.canvas = canvas;
    this.read = read;
    this.levels = [];
    this.last = 0;
    this.loudest = 0; // since the last bar
    this.colour = "";
    new ResizeObserver(() => this.fit()).observe(canvas);
  }

  // The colour is the canvas's own, so that it follows the theme.
  restyle() {
    this.colour = getComputedStyle(this.canvas).color;
  }

  fit() {
    const { width, height } = this.canvas.getBoundingClientRect();
    this.scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * this.scale);
    this.canvas.height = Math.round(height * this.scale);
    this.count = Math.max(1, Math.floor(width / (2 * BAR)));
    this.draw();
  }

  frame(now) {
    this.loudest = Math.max(this.loudest, loudness(this.read() ?? 0));
    if (now - this.last < EVERY_MS) return;
    this.last = now;
    this.levels.push(this.loudest);
    this.loudest = 0;
    this.levels.splice(0, this.levels.length - this.count);
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = this.colour;
    const bar = BAR * this.scale;
    for (let place = 0; place < this.count; place += 1) {
      const level = this.levels[this.levels.length - 1 - place] ?? 0;
      const tall = Math.max(bar, Math.max(LEAST, level) * height);
      pen.globalAlpha = level > LEAST ? 1 : 0.35;
      pen.beginPath();
      pen.roundRect(width - (2 * place + 1.5) * bar, (height - tall) / 2, bar, tall, bar / 2);
      pen.fill();
    }
  }
}
