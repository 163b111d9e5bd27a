// The controls of the page. Settings are kept in this browser; the key only until its tab is closed.

import { Listening, NeedsKey } from "./listening.js";
import { Transcript } from "./transcript.js";

const SIZES = [1.2, 1.5, 1.9, 2.4, 3, 3.8, 4.8, 6];
const AGAIN = [1, 2, 4, 8]; // seconds until a connection that was lost is tried again

const at = (id) => document.getElementById(id);
const transcript = new Transcript(at("captions"), at("spoken"));

let listening = null;
let wanted = false;
let tries = 0;
let began = null; // of all captions, in milliseconds
let awake = null;

function say(text) {
  at("status").textContent = text;
}

function wants(on) {
  wanted = on;
  at("listen").textContent = on ? "Pause" : began === null ? "Start" : "Go on";
}

async function listen() {
  began ??= performance.now();
  wants(true);
  say("Connecting …");
  let begin = 0;
  const told = (news) => {
    tries = 0;
    transcript.add(news, begin);
    if (news.done) transcript.end();
  };
  const mine = new Listening(at("key").value, told, (reason) => ended(mine, reason));
  listening = mine;
  try {
    await mine.start();
    begin = (performance.now() - began) / 1000;
    say("Listening.");
    awake = await navigator.wakeLock?.request("screen").catch(() => null);
  } catch (error) {
    ended(mine, error.message);
    if (error instanceof NeedsKey) {
      wants(false);
      at("settings").open = true;
      at("key").focus();
    }
  }
}

function ended(which, reason) {
  if (which !== listening) return;
  listening = null;
  transcript.end();
  awake?.release();
  if (!wanted) return;
  if (tries < AGAIN.length && began !== null && reason !== "" && transcript.all().length > 0) {
    const seconds = AGAIN[tries];
    tries += 1;
    say(`Not listening: ${reason}. Trying again in ${seconds} s.`);
    setTimeout(() => wanted && !listening && listen(), seconds * 1000);
    return;
  }
  wants(false);
  say(`Not listening: ${reason}.`);
}

function pause() {
  wants(false);
  say("Paused: nothing is heard.");
  listening?.stop();
}

at("listen").addEventListener("click", () => (wanted ? pause() : listen()));

function save(name, kind, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const stamp = () => new Date().toISOString().slice(0, 16).replace(":", "");
at("save-text").addEventListener("click", () => save(`captions-${stamp()}.txt`, "text/plain", transcript.text()));
at("save-vtt").addEventListener("click", () => save(`captions-${stamp()}.vtt`, "text/vtt", transcript.vtt()));
at("clear").addEventListener("click", () => transcript.clear());

function kept(name, otherwise) {
  try {
    return localStorage.getItem(name) ?? otherwise;
  } catch {
    return otherwise; // a browser that keeps nothing
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // then not
  }
}

function look() {
  const root = document.documentElement;
  root.dataset.theme = at("theme").value;
  root.style.setProperty("--size", `${SIZES[size]}rem`);
  root.style.setProperty("--length", at("length").value);
  at("length-shown").textContent = at("length").value;
  at("smaller").disabled = size === 0;
  at("larger").disabled = size === SIZES.length - 1;
  for (const [name, value] of [["theme", at("theme").value], ["size", size], ["length", at("length").value]]) keep(name, value);
  transcript.follow();
}

let size = Math.min(Math.max(Number(kept("size", 3)) || 0, 0), SIZES.length - 1);
at("theme").value = kept("theme", matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
if (at("theme").selectedIndex < 0) at("theme").value = "dark";
at("length").value = kept("length", 42);
at("theme").addEventListener("change", look);
at("length").addEventListener("input", look);
for (const [id, step] of [["smaller", -1], ["larger", 1]]) {
  at(id).addEventListener("click", () => {
    size += step;
    look();
  });
}
look();
