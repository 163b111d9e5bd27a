// Files that are dropped or chosen, and the microphone, to text with times on the page.
import { loadRecogniser } from "./recogniser.js";

const options = new URLSearchParams(location.search);
const shown = Object.fromEntries(["drop", "file", "microphone", "status", "text", "words"].map((id) => [id, document.getElementById(id)]));

let recogniser = null;

// The samples of a file of any format that the browser knows, one channel, at the model's rate.
async function samplesOf(bytes) {
  const context = new OfflineAudioContext(1, 1, recogniser.samplingRate);
  const audio = await context.decodeAudioData(bytes);
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++)
    audio.getChannelData(channel).forEach((value, place) => (samples[place] += value / audio.numberOfChannels));
  return samples;
}

async function show(name, bytes) {
  shown.status.textContent = `Listening to ${name} …`;
  const samples = await samplesOf(bytes);
  const started = performance.now();
  const words = await recogniser.recognise(samples);
  const took = (performance.now() - started) / 1000;
  const seconds = samples.length / recogniser.samplingRate;
  shown.text.textContent = words.map(({ word }) => word).join(" ");
  shown.words.replaceChildren(
    ...words.map(({ word, start, end }) => {
      const row = document.createElement("tr");
      for (const value of [start.toFixed(2), end.toFixed(2), word]) row.insertCell().textContent = value;
      return row;
    }),
  );
  shown.status.textContent = `${name}: ${seconds.toFixed(1)} s of sound in ${took.toFixed(1)} s`;
  return words;
}

// What goes wrong is said on the page.
async function told(work) {
  try {
    return await work();
  } catch (error) {
    shown.status.textContent = `That did not work: ${error.message}`;
    return { error: error.message };
  }
}

const take = (file) => told(async () => show(file.name, await file.arrayBuffer()));

shown.drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  shown.drop.classList.add("over");
});
shown.drop.addEventListener("dragleave", () => shown.drop.classList.remove("over"));
shown.drop.addEventListener("drop", (event) => {
  event.preventDefault();
  shown.drop.classList.remove("over");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});
shown.file.addEventListener("change", () => shown.file.files.length && take(shown.file.files[0]));

let recorder = null;
shown.microphone.addEventListener("click", () =>
  told(async () => {
    if (recorder) return recorder.stop();
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const pieces = [];
    recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
    recorder.addEventListener("stop", () => {
      stream.getTracks().forEach((track) => track.stop());
      recorder = null;
      shown.microphone.textContent = "speak";
      told(async () => show("the microphone", await new Blob(pieces).arrayBuffer()));
    });
    recorder.start();
    shown.microphone.textContent = "stop";
    shown.status.textContent = "Speak, then press stop.";
  }),
);

const found = await told(async () => {
  recogniser = await loadRecogniser(options.get("model") ?? "mine", options.get("dtype") ?? "fp32");
  shown.status.textContent = "Ready.";
  const clip = options.get("clip");
  return clip ? show(clip, await (await fetch(clip)).arrayBuffer()) : [];
});
if (options.get("report")) {
  const said = { found, text: shown.text.textContent, status: shown.status.textContent };
  await fetch(options.get("report"), { method: "POST", body: JSON.stringify(said) });
}
