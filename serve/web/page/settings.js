// What the user has chosen, kept in this browser. The key is kept for this tab alone.

const NAME = "omni";

function read() {
  try {
    return JSON.parse(localStorage.getItem(NAME)) ?? {};
  } catch {
    return {}; // none, or storage is forbidden
  }
}

const values = read();

export function setting(name, otherwise = "") {
  return values[name] ?? otherwise;
}

export function keep(name, value) {
  values[name] = value;
  try {
    localStorage.setItem(NAME, JSON.stringify(values));
  } catch {
    // Forbidden: it holds until the page is closed.
  }
}

export function storedKey() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

export function keepKey(key) {
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // As above.
  }
}
