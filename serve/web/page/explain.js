// What went wrong, in words that help.

const BY_CODE = {
  server_full: "All places of this server are taken. It is tried again by itself.",
  input_audio_buffer_commit_empty: "That was too short to hear. Hold the button while you speak.",
  input_audio_buffer_full: "That was longer than the model can hear. Ask in shorter pieces.",
  conversation_full: "This conversation is as long as one may be. Start a new one.",
  rate_limit_exceeded: "Sound is sent faster than the server reads it. It catches up by itself.",
  client_stalled: "This browser took nothing for too long, so the server hung up.",
  response_failed: "The server failed at this answer. Ask again; its log tells more.",
  server_error: "The server made a mistake. Ask again; its log tells more.",
};

export function explain({ code, message }) {
  if (code === "question_refused") return `Not understood: ${message.replace(/^\w+: /, "")}.`;
  return BY_CODE[code] ?? message;
}

const MICROPHONE = {
  NotAllowedError:
    "The browser does not give the microphone to this page. Allow it in the address bar, " +
    "then press Talk again. You can also type.",
  NotFoundError: "No microphone was found. Plug one in, then press Talk again. You can also type.",
  OverconstrainedError: "The chosen microphone is gone. Choose another one in the settings.",
  NotReadableError: "The microphone is there but can't be read. Another program may be using it.",
};

export function explainMicrophone(error) {
  return MICROPHONE[error.name] ?? `The microphone could not be opened: ${error.message}`;
}

export const INSECURE =
  "Browsers give microphone and streamed sound only to pages from this machine or by https. " +
  "This one came by http from elsewhere: answers come in writing. To talk, open it as " +
  "http://localhost, or serve it with --ssl-certificate and --ssl-key.";

export const UNPLUGGED =
  "The microphone is gone. Plug it in or choose another one, then press Talk.";
