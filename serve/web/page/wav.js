// 16-bit samples as a WAV file.

import { WIRE_RATE } from "./pcm.js";

const HEADER = 44; // bytes

export function wav(samples) {
  const view = new DataView(new ArrayBuffer(HEADER));
  const letters = (place, text) => {
    for (let i = 0; i < text.length; i += 1) view.setUint8(place + i, text.charCodeAt(i));
  };
  letters(0, "RIFF");
  view.setUint32(4, HEADER - 8 + samples.byteLength, true);
  letters(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // of this part
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, WIRE_RATE, true);
  view.setUint32(28, 2 * WIRE_RATE, true); // bytes per second
  view.setUint16(32, 2, true); // bytes per frame
  view.setUint16(34, 16, true); // bits
  letters(36, "data");
  view.setUint32(40, samples.byteLength, true);
  return new Blob([view, samples], { type: "audio/wav" });
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
