// Where the time of an answer went: from the end of the question to the first sound.

export const STAGES = [
  { name: "VAD", what: "silence by which the end of the question is known" },
  { name: "Queue", what: "until the model takes the question" },
  { name: "Encode", what: "speech encoder and adapter, what was left of it" },
  { name: "Prefill", what: "the language model reads the question" },
  { name: "First unit", what: "from the first token to the first unit of speech" },
  { name: "Vocoder", what: "from the first unit to the first chunk of sound" },
  { name: "Network", what: "both ways, and what the machines took to pass it on" },
  { name: "Playout", what: "buffer and loudspeaker of this machine" },
];

// ms of each stage, null where it did not happen. playoutDelayMs: of the loudspeaker.
export function stagesOf({ times, timings }, playoutDelayMs) {
  const between = (later, earlier) =>
    later === null || earlier === null ? null : Math.max(0, later - earlier);
  const silence = timings.silence_ms;
  const arrived = between(times.arrived ?? null, times.ended ?? null);
  const server = between(timings.first_audio_ms, -timings.queue_ms);
  return [
    silence,
    timings.queue_ms,
    timings.encode_ms,
    timings.prefill_ms,
    between(timings.first_unit_ms, timings.first_token_ms),
    between(timings.first_audio_ms, timings.first_unit_ms),
    between(arrived, server),
    times.started === undefined ? null : times.started - times.arrived + playoutDelayMs,
  ];
}

export function totalOf(stages) {
  return stages.reduce((sum, stage) => sum + (stage ?? 0), 0);
}
