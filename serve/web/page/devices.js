// Which microphone and which loudspeaker.

import { Sound } from "./sound.js";
import { keep, setting } from "./settings.js";

export class Devices {
  constructor(sound, microphoneSelect, speakerSelect, changed) {
    this.sound = sound;
    this.selects = { audioinput: microphoneSelect, audiooutput: speakerSelect };
    if (!Sound.choosesSpeaker) speakerSelect.closest("label").hidden = true;
    sound.speakerId = setting("audiooutput");
    microphoneSelect.addEventListener("change", () => {
      keep("audioinput", microphoneSelect.value);
      changed();
    });
    speakerSelect.addEventListener("change", () => {
      keep("audiooutput", speakerSelect.value);
      sound.useSpeaker(speakerSelect.value);
    });
    navigator.mediaDevices?.addEventListener("devicechange", () => this.list());
    this.list();
  }

  get microphoneId() {
    return this.selects.audioinput.value;
  }

  // Browsers tell their names only after the microphone has been allowed once.
  async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    for (const [kind, select] of Object.entries(this.selects)) {
      const named = devices.filter(
        (one) => one.kind === kind && one.label && one.deviceId !== "default",
      );
      const options = [new Option("System default", "")];
      for (const { label, deviceId } of named) options.push(new Option(label, deviceId));
      select.replaceChildren(...options);
      const wanted = setting(kind);
      select.value = options.some((one) => one.value === wanted) ? wanted : "";
    }
  }
}
