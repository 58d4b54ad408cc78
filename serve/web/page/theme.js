// Dark and light: as the system says, until the user says otherwise.

import { keep, setting } from "./settings.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  return setting("theme") || (dark.matches ? "dark" : "light");
}

export function followTheme(button, changed) {
  const show = () => {
    document.documentElement.dataset.theme = chosen();
    button.setAttribute("aria-pressed", String(chosen() === "dark"));
    changed();
  };
  button.addEventListener("click", () => {
    keep("theme", chosen() === "dark" ? "light" : "dark");
    show();
  });
  dark.addEventListener("change", show);
  show();
}
