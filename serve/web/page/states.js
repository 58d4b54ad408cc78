// What the page says of itself.

export const PHASES = {
  ready: "Ready",
  listening: "Listening",
  held: "Listening. Let go when you are done",
  hearing: "Hearing you",
  thinking: "Thinking",
  answering: "Answering",
  interrupted: "Interrupted",
};

export const STATES = {
  closed: { status: "Ready" },
  connecting: { status: "Connecting" },
  asleep: {
    status: "Resting. Talk or write to go on",
    problem: () => "",
  },
  waiting: {
    status: "Not connected",
    problem: ({ full }) =>
      full
        ? "All places of this server are taken. It is tried again by itself."
        : "The server is out of reach. It is tried again by itself; what was said stays here.",
  },
  key: {
    status: "A key is needed",
    problem: (given) =>
      given ? "The server does not know this key." : "This server wants an API key.",
  },
};
