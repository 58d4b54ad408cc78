// One key to talk, one to stop.

const TYPED_INTO = "input, select, textarea, summary, a, button";

export function followKeys({ press, release, stop, talkButton }) {
  const meant = ({ code, target, altKey, ctrlKey, metaKey }) =>
    code === "Space" &&
    !(altKey || ctrlKey || metaKey) &&
    (target === talkButton || !target.closest?.(TYPED_INTO));
  document.addEventListener("keydown", (event) => {
    if (event.code === "Escape") stop(event);
    if (!meant(event)) return;
    event.preventDefault(); // nor does the page scroll
    if (!event.repeat) press();
  });
  document.addEventListener("keyup", (event) => {
    if (event.code !== "Space") return;
    if (meant(event)) event.preventDefault(); // no click besides
    release(); // wherever the key is let go
  });
  window.addEventListener("blur", release); // it is let go where we can't see it

  talkButton.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    talkButton.setPointerCapture(event.pointerId);
    press();
  });
  for (const name of ["pointerup", "pointercancel"]) talkButton.addEventListener(name, release);
  talkButton.addEventListener("contextmenu", (event) => event.preventDefault()); // of a long touch
}
