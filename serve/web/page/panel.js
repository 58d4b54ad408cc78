// Latency and settings: beside the conversation where there is room, over it on a phone.

import { keep, setting } from "./settings.js";

const wide = matchMedia("(min-width: 60rem)");

// Returns what closes it where it lies over the conversation.
export function followPanel(panel, button, closer) {
  const open = (wanted) => {
    panel.hidden = !wanted;
    button.setAttribute("aria-expanded", String(wanted));
  };
  const set = (wanted) => {
    open(wanted);
    if (wide.matches) keep("panel", wanted);
    if (wanted && !wide.matches) closer.focus();
    if (!wanted) button.focus();
  };
  button.addEventListener("click", () => set(panel.hidden));
  closer.addEventListener("click", () => set(false));
  const fit = () => open(wide.matches && setting("panel", true));
  wide.addEventListener("change", fit);
  fit();
  return () => {
    if (!panel.hidden && !wide.matches) set(false);
  };
}
