// The WebSocket: opened when it is needed, opened again when it breaks.

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 15_000;
const NORMAL = 1000;
const KEY_SUBPROTOCOL = "openai-insecure-api-key.";
const TOKEN = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/; // what a subprotocol may be made of

export class Connection {
  // on: {event(event), state(name, detail)}; names: "closed", "connecting", "open", "asleep",
  // "waiting" (detail: ms until the next try), "key" (detail: whether one was given)
  constructor(on) {
    this.on = on;
    this.key = "";
    this.state = "closed";
    this.wait = FIRST_WAIT_MS;
    this.reason = null; // code of the error that came before the end
    this.socket = null;
  }

  // Resolves when a session is there, to false where it can't be now.
  open() {
    if (this.state === "open") return Promise.resolve(true);
    this.opening ??= this.connect().finally(() => {
      this.opening = null;
    });
    return this.opening;
  }

  send(event) {
    if (this.state === "open") this.socket.send(JSON.stringify(event));
  }

  async connect() {
    clearTimeout(this.timer);
    this.reason = null;
    this.become("connecting");
    let key;
    try {
      key = await this.keyForSocket();
    } catch (error) {
      if (error instanceof KeyRefused) this.become("key", this.key !== "");
      else this.comeBack();
      return false;
    }
    return this.shakeHands(key);
  }

  // Asked by fetch first: a WebSocket does not say why it is refused.
  async keyForSocket() {
    const headers = this.key ? { authorization: `Bearer ${this.key}` } : {};
    const ask = (path, method) => fetch(at(path), { method, headers });
    const models = await ask("v1/models", "GET");
    if (models.status === 401) throw new KeyRefused();
    if (!models.ok) throw new Error(`status ${models.status}`);
    this.model = (await models.json()).data[0].id;
    if (!this.key || TOKEN.test(this.key)) return this.key;
    const secret = await ask("v1/realtime/client_secrets", "POST");
    if (!secret.ok) throw new KeyRefused();
    return (await secret.json()).value;
  }

  shakeHands(key) {
    const url = at("v1/realtime");
    url.protocol = url.protocol.replace("http", "ws");
    const protocols = key ? ["realtime", KEY_SUBPROTOCOL + key] : ["realtime"];
    return new Promise((resolve) => {
      const socket = (this.socket = new WebSocket(url, protocols));
      socket.onmessage = ({ data }) => {
        const event = JSON.parse(data);
        if (event.type === "session.created") {
          this.wait = FIRST_WAIT_MS;
          this.become("open");
          resolve(true);
        }
        if (event.type === "error") this.reason = event.error.code;
        this.on.event(event);
      };
      socket.onclose = ({ code }) => {
        if (code === NORMAL) this.become("asleep", this.reason);
        else this.comeBack();
        resolve(false);
      };
    });
  }

  comeBack() {
    this.become("waiting", { ms: this.wait, full: this.reason === "server_full" });
    this.timer = setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(LONGEST_WAIT_MS, this.wait * 2);
  }

  become(state, detail) {
    this.state = state;
    this.on.state(state, detail);
  }
}

class KeyRefused extends Error {}

// Beside the page, wherever a proxy has put it.
export function at(path) {
  return new URL(path, document.baseURI);
}
