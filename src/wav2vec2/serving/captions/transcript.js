// What was said: on the page, for screen readers, and as files. A word that is final is written once and never moved.

const PAUSE = 1.5; // seconds after which there is a gap, as between two speakers
const SPOKEN_AT_ONCE = 8; // words that a screen reader is given together
const CUE_LETTERS = 84; // of a caption in a VTT file, and its seconds
const CUE_SECONDS = 7;

export class Transcript {
  constructor(shown, spoken) {
    this.shown = shown;
    this.spoken = spoken;
    this.place = 0; // to which it is scrolled
    this.clear();
    shown.addEventListener("scroll", () => this.scrolled());
    new ResizeObserver(() => this.follow()).observe(shown);
  }

  clear() {
    this.utterances = [];
    this.unspoken = [];
    this.current = null;
    this.follows = true; // until somebody scrolls up, and again once they are back
    this.shown.replaceChildren();
    this.spoken.replaceChildren();
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.shown;
    if (scrollHeight - scrollTop - clientHeight < 8) this.follows = true;
    else if (scrollTop < this.place) this.follows = false;
    this.place = scrollTop;
  }

  // The newest words are in sight, also once settings, a keyboard or a turned telephone have left less room.
  follow() {
    if (!this.follows) return;
    this.shown.scrollTop = this.shown.scrollHeight;
    this.place = this.shown.scrollTop; // the event comes later, perhaps after somebody has scrolled up
  }

  // One answer of the service; its times are `begin` seconds later here.
  add({ ended, words, partial }, begin) {
    for (const utterance of ended) {
      this.write(utterance, "", begin);
      this.end();
    }
    this.write(words, partial, begin);
    this.follow();
  }

  // The words of the utterance that is spoken now, of which some are written already, and what may still change.
  write(words, partial, begin) {
    if (!this.current && (words.length > 0 || partial)) this.begin();
    if (!this.current) return;
    const { final, open, known } = this.current;
    for (const { word, start, end } of words.slice(known.length)) {
      if (known.length === 0) this.gap(start + begin);
      final.append(known.length > 0 ? ` ${word}` : word);
      known.push({ word, start: start + begin, end: end + begin });
      this.unspoken.push(word);
    }
    open.textContent = partial;
    if (this.unspoken.length >= SPOKEN_AT_ONCE) this.speak();
  }

  begin() {
    const paragraph = document.createElement("p");
    const final = document.createElement("span");
    const open = document.createElement("span");
    open.className = "open";
    open.setAttribute("aria-hidden", "true");
    paragraph.append(final, " ", open);
    this.shown.append(paragraph);
    this.current = { paragraph, final, open, known: [] };
  }

  gap(start) {
    const before = this.utterances.at(-1);
    if (before && start - before.at(-1).end >= PAUSE) this.current.paragraph.className = "after-pause";
  }

  // The utterance is over. What was not final by then was nothing.
  end() {
    if (!this.current) return;
    const { paragraph, open, known } = this.current;
    open.remove();
    if (known.length > 0) this.utterances.push(known);
    else paragraph.remove();
    this.current = null;
    this.speak();
  }

  speak() {
    if (this.unspoken.length === 0) return;
    const line = document.createElement("p");
    line.textContent = this.unspoken.join(" ");
    this.unspoken = [];
    this.spoken.append(line);
    while (this.spoken.children.length > 20) this.spoken.firstChild.remove();
  }

  all() {
    return this.current && this.current.known.length > 0 ? [...this.utterances, this.current.known] : this.utterances;
  }

  text() {
    return this.all().map((words) => `${words.map(({ word }) => word).join(" ")}\n`).join("");
  }

  vtt() {
    const cues = this.all().flatMap(inCues);
    const blocks = cues.map((words) => {
      const text = words.map(({ word }) => word).join(" ");
      const escaped = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
      return `${clock(words[0].start)} --> ${clock(words.at(-1).end)}\n${escaped}\n`;
    });
    return ["WEBVTT\n", ...blocks].join("\n");
  }
}

function inCues(words) {
  const cues = [];
  let letters = 0;
  for (const one of words) {
    const cue = cues.at(-1);
    letters += one.word.length + 1;
    if (cue && letters <= CUE_LETTERS && one.end - cue[0].start <= CUE_SECONDS) {
      cue.push(one);
    } else {
      cues.push([one]);
      letters = one.word.length;
    }
  }
  return cues;
}

function clock(seconds) {
  const all = Math.round(seconds * 1000);
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const rest = String(all % 1000).padStart(3, "0");
  return `${two(all / 3600000)}:${two((all / 60000) % 60)}:${two((all / 1000) % 60)}.${rest}`;
}
