// Puts the page together: what happens where is in the other files.

import { Connection, at } from "./connection.js";
import { Devices } from "./devices.js";
import { Dialogue } from "./dialogue.js";
import { INSECURE } from "./explain.js";
import { followKeys } from "./keyboard.js";
import { stagesOf, totalOf } from "./latency.js";
import { LatencyPlot } from "./latency-plot.js";
import { loudness } from "./level.js";
import { followPanel } from "./panel.js";
import { keep, keepKey, setting, storedKey } from "./settings.js";
import { Sound } from "./sound.js";
import { PHASES, STATES } from "./states.js";
import { Talk } from "./talk.js";
import { followTheme } from "./theme.js";
import { Transcript } from "./transcript.js";
import { download, wav } from "./wav.js";
import { Waveform } from "./waveform.js";

const INTERRUPTED_MS = 1_500;
const REPLAY = "replay:"; // before the id of an answer that is played again
const find = (id) => document.getElementById(id);

const sound = new Sound(played);
const connection = new Connection({ event: heard, state: connected });
const show = { turn: showTurn, phase, problem, timings, listening };
const dialogue = new Dialogue(connection, sound, show, {
  timeOf: (ms) => talk.timeOf(ms),
  between: (start, end) => talk.between(start, end),
  get pressedMs() {
    return talk.pressedMs;
  },
});
const talk = new Talk(connection, sound, dialogue, show, ready);
const transcript = new Transcript(find("transcript"), find("turn"), { replay, download: save });
const plot = new LatencyPlot(find("latency"), find("figures"));
const waves = [
  new Waveform(find("wave-in"), () => sound.microphone?.level?.read() ?? null),
  new Waveform(find("wave-out"), () => sound.player?.level.read() ?? null),
];
const devices = new Devices(sound, find("microphone"), find("speaker"), changeMicrophone);

// The session

function sessionSettings() {
  return {
    type: "realtime",
    output_modalities: [Sound.allowed ? "audio" : "text"],
    audio: { input: { transcription: {}, turn_detection: talk.turnDetection } },
    omni: { chunk_size: find("chunk-size").value, timings: true },
  };
}

async function ready() {
  if (sound.microphone) sound.microphone.deviceId = devices.microphoneId;
  return connection.open();
}

function connected(state, detail) {
  document.body.dataset.connection = state;
  find("key-form").hidden = state !== "key";
  if (state === "open") {
    problem("");
    talk.begin();
    find("model").textContent = connection.model;
    connection.send({ type: "session.update", session: sessionSettings() });
    dialogue.restore();
    phase(talk.mode ? "listening" : "ready");
    return;
  }
  if (state === "asleep" && talk.mode) talk.stop();
  if (state !== "connecting") dialogue.lost();
  if (STATES[state].problem) problem(STATES[state].problem(detail));
  say(STATES[state].status);
  if (state === "key") find("key").focus();
}

function heard(event) {
  dialogue.hear(event);
}

// What the page says

let resting = 0; // a timer: how long "interrupted" can be read before "ready" follows

function phase(name) {
  find("stop").disabled = !dialogue.busy;
  if (name === "ready" && resting) return;
  clearTimeout(resting);
  resting = name === "interrupted" ? setTimeout(settle, INTERRUPTED_MS) : 0;
  const now = name === "ready" && talk.mode ? "listening" : name;
  document.body.dataset.phase = now;
  if (connection.state === "open" || connection.state === "closed") say(PHASES[now]);
}

function settle() {
  resting = 0;
  phase("ready");
}

function say(text) {
  if (find("status").textContent !== text) find("status").textContent = text;
}

function problem(text) {
  find("problem").textContent = text;
}

function listening(mode) {
  find("talk").setAttribute("aria-pressed", String(mode !== null));
  find("talk").dataset.mode = mode ?? "";
  if (mode) problem("");
  if (mode) devices.list();
  phase(mode === "held" ? "held" : mode ? "listening" : "ready");
}

function showTurn(turn) {
  find("welcome").hidden = true;
  find("clear").hidden = false;
  transcript.show(turn);
}

function timings(turn) {
  if (turn.timings.first_audio_ms === null) return;
  const stages = stagesOf(turn, sound.player?.delayMs ?? 0);
  find("no-latency").hidden = true;
  plot.show(dialogue.turns.all.indexOf(turn) + 1, stages);
  transcript.showLatency(turn, totalOf(stages));
}

function played(kind, id, playedMs) {
  const turn = id === null ? undefined : dialogue.turns.answering(id);
  if (turn && kind !== "stopped") turn.playedMs = playedMs;
  if (turn && kind === "started") {
    turn.times.started = performance.now();
    if (turn.timings) timings(turn);
  }
  if (turn) transcript.showPlayed(turn);
  if (kind === "started") phase("answering");
  if (kind === "ended" && !sound.player.sounding) phase("ready");
}

// What the user does

function stop() {
  const { busy } = dialogue;
  if (busy) {
    dialogue.interrupt();
    phase("interrupted");
  }
  return busy;
}

// Whether there is sound; without it one can still write and read.
async function openSound() {
  try {
    await sound.open();
    return true;
  } catch (error) {
    problem(`The loudspeaker could not be opened: ${error.message}`);
    return false;
  }
}

async function replay(turn) {
  if (!(await openSound())) return;
  dialogue.interrupt();
  const id = REPLAY + turn.itemId;
  sound.player.play(id, turn.sound);
  sound.player.end(id);
}

function save(turn) {
  download(wav(turn.sound), `answer-${dialogue.turns.all.indexOf(turn) + 1}.wav`);
}

async function changeMicrophone() {
  const mode = talk.mode;
  if (!mode) return;
  talk.stop();
  await talk.start(mode);
}

find("write").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = find("question");
  const text = field.value.trim();
  if (!text) return;
  if (Sound.allowed) await openSound();
  if (!(await ready())) return;
  field.value = "";
  await dialogue.write(text);
});

find("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  connection.key = find("key").value.trim();
  problem("");
  if (!(await connection.open())) return;
  keepKey(connection.key);
  find("talk").focus();
});

find("chunk-size").value = setting("chunk_size", "auto");
find("chunk-size").addEventListener("change", ({ target }) => {
  keep("chunk_size", target.value);
  connection.send({ type: "session.update", session: sessionSettings() });
});

find("read-aloud").checked = setting("read_aloud", false);
function readAloud() {
  find("transcript").setAttribute("aria-live", find("read-aloud").checked ? "polite" : "off");
  keep("read_aloud", find("read-aloud").checked);
}
find("read-aloud").addEventListener("change", readAloud);
readAloud();

find("clear").addEventListener("click", () => location.reload());
find("stop").addEventListener("click", stop);
find("talk").addEventListener("click", (event) => {
  if (event.detail === 0) talk.toggle(); // of no pointer: Enter, or a screen reader
});
const closePanel = followPanel(find("panel"), find("panel-button"), find("panel-close"));
followKeys({
  press: () => talk.press(),
  release: () => talk.release(),
  stop: () => stop() || closePanel(),
  talkButton: find("talk"),
});
followTheme(find("theme"), () => waves.forEach((wave) => wave.restyle()));

function animate(now) {
  waves.forEach((wave) => wave.frame(now));
  const level = loudness(sound.microphone?.level?.read() ?? 0);
  find("level").value = level;
  find("talk").style.setProperty("--level", level.toFixed(3));
  requestAnimationFrame(animate);
}
requestAnimationFrame(animate);

if (!Sound.allowed) {
  problem(INSECURE);
  find("talk").disabled = true;
}
connection.key = storedKey();
fetch(at("page/about.json"))
  .then((response) => response.json())
  .then(({ needs_key }) => {
    if (needs_key && !connection.key) connected("key", false);
  })
  .catch(() => connection.comeBack());
