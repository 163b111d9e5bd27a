"""Keyword spotting without training: how many keywords are missed at how many false alarms an hour?

    python examples/studies/keyword_spotting.py --data ../shared/data --work WORK

Two tasks (`keyword_recordings.py`): synthetic talk by voices that the model never heard, and six keywords by more than
fifty people. For each keyword the threshold is chosen on one half of the background, as `wav2vec2 spot --calibrate`
does it; counted are the false alarms in the other half, and the keywords that are missed. Beside it stands the plain
way: the keyword as a word, or words, of the greedy transcript, which has no threshold to choose.

What was computed of a stretch is kept, so that the same command goes on from where it was stopped; the last step writes
the results beside this file.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keyword_recordings import (
    BACKGROUND_SENTENCES,
    REAL,
    SYNTHETIC,
    Stretch,
    real_clips,
    real_model,
    stretches,
    synthetic_clips,
    synthetic_model,
)
from pretraining_study import write_json

from wav2vec2 import KeywordSpotter, Transcriber
from wav2vec2.evaluation.provenance import hardware
from wav2vec2.inference.transcriber import greedy_decoder
from wav2vec2.spotting.keywords import keywords_for
from wav2vec2.spotting.thresholds import KeptScores, allowed_alarms, chosen_threshold

#: False alarms an hour and keyword that are asked for.
RATES = (3.0, 10.0, 30.0)

#: Updates of the recogniser of the real task.
UPDATES = 450

COMMAND = "examples/studies/keyword_spotting.py --data ../shared/data --work WORK"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Heard:
    """A stretch, the scores of each keyword in it, and the words of its greedy transcript with their times."""

    stretch: Stretch
    seconds: float
    scores: list[KeptScores]
    words: list[tuple[str, float, float]]


class Task:
    """A model, its keywords, and the three parts."""

    def __init__(self, name: str, data: Path, work: Path, seed: int, sentences: int) -> None:
        self.work = work / name
        if name == "synthetic":
            model, self.keywords = synthetic_model(self.work, seed), SYNTHETIC
            clips = synthetic_clips(self.work, seed, sentences)
        else:
            speech = data / "speech"
            model, self.keywords = real_model(speech, self.work, seed, UPDATES), REAL
            clips = real_clips(speech, self.work)
        transcriber = Transcriber.from_pretrained(model, device="cpu")
        words = keywords_for(transcriber.processor.tokenizer, self.keywords)
        self.spotter = KeywordSpotter(transcriber, words)
        self.greedy = greedy_decoder(transcriber.model, transcriber.processor)
        self.clips = clips

    def heard(self, part: str) -> list[Heard]:
        """All stretches of a part; each is computed once."""
        found = []
        for stretch in stretches(self.clips[part], self.work / "stretches" / part):
            file = self.work / "scores" / part / f"{stretch.path.stem}.json"
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, self._computed(stretch.path))
            found.append(_read(stretch, json.loads(file.read_text("utf-8"))))
        return found

    def _computed(self, path: Path) -> dict[str, Any]:
        spotter = self.spotter
        log_probs, seconds = spotter.transcriber.log_probs(path)
        (scored,) = spotter.search.score([spotter.search.begin()], [log_probs])
        words = self.greedy.greedy(log_probs[None])[0][0].words
        kept = scored.scores >= 0.01
        return {
            "seconds": seconds,
            "frames": len(log_probs),
            "words": [(word.text.lower(), word.start, word.end) for word in words],
            "scores": [
                (np.flatnonzero(row).tolist(), scores[row].tolist(), began[row].tolist())
                for row, scores, began in zip(kept.T, scored.scores.T, scored.began.T, strict=True)
            ],
        }


def _read(stretch: Stretch, content: dict[str, Any]) -> Heard:
    kept = []
    for at, scores, began in content["scores"]:
        one, full, since = KeptScores(str(stretch.path)), np.zeros(content["frames"]), np.zeros(content["frames"], int)
        full[at], since[at] = scores, began
        one.add(full, since)
        kept.append(one)
    return Heard(stretch, content["seconds"], kept, [tuple(word) for word in content["words"]])


Spans = list[tuple[float, float]]


def spotted(task: Task, heard: Sequence[Heard], keyword: int, threshold: float) -> list[Spans]:
    """When the keyword is said in each stretch, by its scores."""
    spotter = task.spotter
    times = [[spotter.hit(peak) for peak in one.scores[keyword].hits(threshold, spotter.patience)] for one in heard]
    return [[(hit.start, hit.end) for hit in hits] for hits in times]


def written_out(task: Task, heard: Sequence[Heard], keyword: int) -> list[Spans]:
    """When it is, by the greedy transcript."""
    wanted = task.keywords[keyword].split()
    found = []
    for one in heard:
        texts = [word[0] for word in one.words]
        places = [at for at in range(len(texts)) if texts[at : at + len(wanted)] == wanted]
        found.append([(one.words[at][1], one.words[at + len(wanted) - 1][2]) for at in places])
    return found


def missed(task: Task, heard: Sequence[Heard], keyword: int, spans: list[Spans]) -> tuple[int, int]:
    """How many clips with the keyword no span is in, and how many there are."""
    found = [
        any(start < clip[1] and end > clip[0] for start, end in of_stretch)
        for one, of_stretch in zip(heard, spans, strict=True)
        for clip in one.stretch.clips
        if clip[2] == task.keywords[keyword]
    ]
    return found.count(False), len(found)


def measured(task: Task) -> dict[str, Any]:
    """Misses and false alarms of both ways, thresholds chosen on either half."""
    parts = {part: task.heard(part) for part in ("first", "second", "keywords")}
    hours = {part: sum(one.seconds for one in heard) / 3600 for part, heard in parts.items()}
    rows: list[dict[str, Any]] = []
    for chosen, tested in (("first", "second"), ("second", "first")):
        for rate in RATES:
            for keyword, word in enumerate(task.keywords):
                scores = [one.scores[keyword] for one in parts[chosen]]
                allowed = allowed_alarms(rate, hours[chosen])
                threshold = chosen_threshold(scores, allowed, task.spotter.patience)
                level = 1.0 if threshold is None else threshold
                there, other = (sum(map(len, spotted(task, parts[half], keyword, level))) for half in (chosen, tested))
                lost, said = missed(task, parts["keywords"], keyword, spotted(task, parts["keywords"], keyword, level))
                rows.append(
                    {"chosen_on": chosen, "per_hour": rate, "keyword": word, "threshold": round(level, 4)}
                    | {"alarms_there": there, "alarms_on_other": other, "missed": lost, "said": said}
                )
    plain = []
    for keyword, word in enumerate(task.keywords):
        lost, said = missed(task, parts["keywords"], keyword, written_out(task, parts["keywords"], keyword))
        background = [*parts["first"], *parts["second"]]
        alarms = sum(map(len, written_out(task, background, keyword)))
        plain.append({"keyword": word, "missed": lost, "said": said, "alarms": alarms})
    return {"hours": {part: round(value, 3) for part, value in hours.items()}, "spotted": rows, "transcript": plain}


def lines(results: dict[str, Any]) -> list[str]:
    """The results as a page."""
    page = ["# Keyword spotting without training", ""]
    page += [f"`python {COMMAND}`, seed {results['seed']}, one run; {results['hardware']}.", ""]
    for name in ("synthetic", "real"):
        if name in results:
            page += [f"## {name.capitalize()}", "", *_of_task(results[name])]
    return page


def _of_task(figures: dict[str, Any]) -> list[str]:
    hours, spotted_rows, plain_rows = figures["hours"], figures["spotted"], figures["transcript"]
    page = [f"{hours['first']:.2f} and {hours['second']:.2f} h of background, {hours['keywords']:.2f} h with keywords."]
    page += ["", "| asked for, an hour and keyword | chosen on | false alarms there | on the other half | missed |"]
    page += ["|---|---|---|---|---|"]
    for chosen in ("first", "second"):
        for rate in RATES:
            rows = [row for row in spotted_rows if (row["chosen_on"], row["per_hour"]) == (chosen, rate)]
            names = ("alarms_there", "alarms_on_other", "missed", "said")
            there, other, gone, out_of = (sum(row[name] for row in rows) for name in names)
            page.append(f"| {rate:g} | {chosen} half | {there} | {other} | {gone} of {out_of} ({gone / out_of:.0%}) |")
    lost, said, alarms = (sum(row[name] for row in plain_rows) for name in ("missed", "said", "alarms"))
    told = f"In the greedy transcript {lost} of {said} are missed ({lost / said:.0%}), with {alarms} false alarms"
    page += ["", f"{told} in both halves together.", "", "| keyword | missed | in the transcript |", "|---|---|---|"]
    for plain in plain_rows:
        mine = [row for row in spotted_rows if (row["keyword"], row["per_hour"]) == (plain["keyword"], RATES[1])]
        each = " and ".join(f"{row['missed']} of {row['said']}" for row in mine)
        page.append(f"| {plain['keyword']} | {each} | {plain['missed']} of {plain['said']} |")
    return [*page, "", f"Of each keyword: at {RATES[1]:g} an hour, the threshold from either half.", ""]


def main() -> None:
    """Do what is not done yet, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["synthetic", "real"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sentences", type=int, default=BACKGROUND_SENTENCES, help="Synthetic ones of each half.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    file = options.results / "keyword_spotting.json"
    before = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    for name in options.tasks:
        before[name] = measured(Task(name, options.data, options.work, options.seed, options.sentences))
        before[name]["sentences"] = options.sentences
        before |= {"seed": options.seed, "hardware": str(hardware(torch.device("cpu")))}
        write_json(file, before)
    page = "\n".join(lines(before)) + "\n"
    file.with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
