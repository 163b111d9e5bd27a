"""Words of command: wav2vec 2.0 from the package's `small` beside networks on log-mel energies.

    python examples/studies/command_words.py run --data ../shared/data/speech --work outputs/command_words
    python examples/studies/command_words.py table

    words      bed, cat, happy (Speech Commands): the first second of each recording; speakers of the test are in
               neither of the other parts
    keywords   six wake words; speakers are not named, so that parts are drawn by clip
    arabic     30 Arabic words: the first second of each recording, whose word is in its name; test speakers are others
    voices     eight commands in synthetic voices of espeak; the voices of the test are in neither of the other parts.
               `more-voices` has the same test, and 28 further voices in training

`small` has heard the recordings of the first three unlabelled, in its pretraining; synthetic voices it has not. Every
network has the same clips and updates: 600 by default, as the recipes have; the first runs had 200 or 300. What is
measured is kept in results/command_words.json, run by run, with what is published there: a study that was stopped goes
on. The table in results/command_words.md is made of it.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import soundfile
from perturbed_speech import write_table

from wav2vec2 import load_audio
from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.evaluation_run import DataNames, evaluated_model
from wav2vec2.evaluation.label_evaluation import LabelEvaluation, evaluate_labels_of
from wav2vec2.inference.labeller import Labeller
from wav2vec2.quickstart.speech_synthesis import Order
from wav2vec2.quickstart.spoken_corpus import DEVELOPMENT_VOICES, TEST_VOICES, TRAINING_VOICES, Voice
from wav2vec2.training.classification import classify
from wav2vec2.training.settings.classification_run import ClassificationRun
from wav2vec2.training.settings.recipes import read_run

RATE = 16000
RESULTS = Path(__file__).parent / "results"
SEEDS = (1, 2, 3)
UPDATES = 600
Row = dict[str, str]

_HEAD = """# Words of command

Made by `python examples/studies/command_words.py run` on an Intel Xeon (Sapphire Rapids class, amx_bf16), two cores
shared with other work; its first lines say what the parts are. Accuracy is that of the most probable label, its
interval that of resampled clips; rejected is what the threshold chosen on the development clips leaves without one.
Nothing was chosen on a test. `small` has heard all recordings but the synthetic voices unlabelled, in its pretraining.
No speaker of `keywords` is named: parts are drawn by clip, and a voice may be in several.

"""


@dataclass(frozen=True)
class Part:
    """A set of words: the `source` of its clips, the `seconds` of each that are used (0: all), and how many clips are
    trained on, choose settings and test (`counts`)."""

    source: str
    seconds: float
    counts: tuple[int, int, int]


PARTS = {
    "words": Part("speech_commands", 1.0, (240, 90, 300)),
    "keywords": Part("pv_wakeword", 0.0, (180, 60, 200)),
    "arabic": Part("arabic_commands", 1.0, (340, 80, 148)),
    "voices": Part("voices", 0.0, (160, 40, 56)),
    "more-voices": Part("voices", 0.0, (160, 40, 56)),
}
#: The recipe of each network.
NETWORKS = {
    "wav2vec 2.0, small": "labels_small_minutes",
    "depthwise CNN": "labels_depthwise_cnn",
    "CRNN": "labels_crnn",
}
COMMANDS = ("lights on", "lights off", "play music", "stop", "volume up", "volume down", "open the door", "call home")
#: Synthetic voices, each with a throat of its own: those of quickstart.
VOICES = (*TRAINING_VOICES[:26], *DEVELOPMENT_VOICES, *TEST_VOICES)
#: Those that are trained on besides in `more-voices`.
MORE_VOICES = TRAINING_VOICES[26:]


def rows_of(part: Part, data: Path, work: Path) -> Iterator[Row]:
    """The labelled clips, written as files of their own."""
    if part.source == "voices":
        yield from synthetic(VOICES, work)
        return
    for shard in sorted(data.glob("*.parquet")):
        for row in parquet.read_table(shard, filters=[("source", "==", part.source)]).to_pylist():
            name = row["id"].split("/")[1]
            path = work / "audio" / f"{name}.wav"
            samples = load_audio(row["audio"]["bytes"])
            samples = samples[: round(part.seconds * RATE)] if part.seconds else samples
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, RATE)
            named = row["speaker"] not in ("", "unknown")
            yield {
                "path": str(path),
                "duration": f"{len(samples) / RATE}",
                "speaker": row["speaker"] if named else "",
                "label": label_of(part.source, name, row["transcript"] or ""),
            }


def label_of(source: str, name: str, transcript: str) -> str:
    """The word: of recordings that were joined from several, the first."""
    if source == "arabic_commands":  # as 00000024_rotate_03_x7
        return name.split("_")[1]
    return transcript.split()[0] if source == "speech_commands" else transcript


def synthetic(voices: Sequence[Voice], work: Path) -> Iterator[Row]:
    """Every command once in each voice."""
    for number, voice in enumerate(voices):
        files = [str(work / "audio" / f"{voice.name}_{place}.flac") for place in range(len(COMMANDS))]
        order = Order(voice.espeak_name, voice.rate, voice.pitch, voice.liveliness, number, COMMANDS, files)
        asked = [sys.executable, "-m", "wav2vec2.quickstart.speech_synthesis"]
        done = subprocess.run(asked, input=json.dumps(asdict(order)), capture_output=True, text=True, check=True)
        for command, path, seconds in zip(COMMANDS, files, json.loads(done.stdout), strict=True):
            yield {"path": path, "duration": f"{seconds}", "speaker": voice.name, "label": command}


def split(rows: Sequence[Row], counts: tuple[int, int, int]) -> list[list[Row]]:
    """Training, development and test: by speaker where that is known, else by clip, in an order that hashes give."""
    units = sorted({row["speaker"] or row["path"] for row in rows}, key=hashed)
    places = {unit: number / len(units) for number, unit in enumerate(units)}
    whole = sum(counts)
    first, second = counts[0] / whole, (counts[0] + counts[1]) / whole
    parts: list[list[Row]] = [[], [], []]
    for row in sorted(rows, key=lambda row: hashed(row["path"].rpartition("/")[2])):
        place = places[row["speaker"] or row["path"]]
        parts[0 if place < first else 1 if place < second else 2].append(row)
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


def hashed(name: str) -> str:
    """The same on every machine."""
    return hashlib.sha256(name.rpartition("/")[2].encode()).hexdigest()


def manifests(name: str, data: Path, work: Path) -> dict[str, Path]:
    """Those of a part; written once."""
    paths = {kind: work / name / f"{kind}.tsv" for kind in ("train", "dev", "test")}
    if not all(path.is_file() for path in paths.values()):
        parts = split(list(rows_of(PARTS[name], data, work / name)), PARTS[name].counts)
        if name == "more-voices":
            parts[0] += synthetic(MORE_VOICES, work / name)
        for path, rows in zip(paths.values(), parts, strict=True):
            write_table(path, rows)
    return paths


@dataclass(frozen=True)
class Run:
    """One training and its test."""

    part: str
    network: str
    seed: int
    updates: int


def measured(run: Run, paths: dict[str, Path], work: Path) -> dict[str, Any]:
    """Train, and label the test. A training that was stopped goes on."""
    output = work / run.part / f"{run.network.split()[0]}-{run.updates}-{run.seed}"
    settings: dict[str, Any] = {
        "data.train.0.path": paths["train"],
        "data.valid.0.path": paths["dev"],
        "data.workers": 0,
        "run.output": output,
        "run.updates": run.updates,
        "run.seed": run.seed,
        "run.report": "false",
    }
    given = [f"{key}={value}" for key, value in settings.items()]
    if not (output / "model").is_dir():
        classify(read_run(ClassificationRun, NETWORKS[run.network], given))
    labeller = Labeller.from_pretrained(output / "model")
    model = evaluated_model(str(output / "model"), labeller)
    found = evaluate_labels_of(labeller, model, paths["test"], DataNames(run.part), Resampling()).evaluation
    labels = [line.rsplit("\t", 1)[1] for line in paths["test"].read_text("utf-8").splitlines()[1:]]
    trained_on = len(paths["train"].read_text("utf-8").splitlines()) - 1
    return asdict(run) | {"trained_on": trained_on} | figures(found, labels)


def figures(found: LabelEvaluation, labels: Sequence[str]) -> dict[str, Any]:
    """What the table has."""
    accuracy = found.accuracy_without_threshold
    assert accuracy is not None
    return {
        "clips": found.clips,
        "speakers": found.speakers,
        "majority": Counter(labels).most_common(1)[0][1] / len(labels),
        "accuracy": accuracy.value,
        "interval": [accuracy.interval.low, accuracy.interval.high] if accuracy.interval else None,
        "macro_f1": found.scores.macro_f1.value,
        "threshold": found.rule.threshold,
        "rejected": found.scores.rejected.value,
        "hardware": found.hardware,
    }


def results() -> list[dict[str, Any]]:
    """What is there."""
    path = RESULTS / "command_words.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


def do(runs: Iterable[Run], data: Path, work: Path) -> None:
    """All runs that are not there yet."""
    for run in runs:
        if any(asdict(run).items() <= one.items() for one in results()):
            continue
        found = measured(run, manifests(run.part, data, work), work)
        (RESULTS / "command_words.json").write_text(json.dumps([*results(), found], indent=1) + "\n", "utf-8")
        (RESULTS / "command_words.md").write_text(page(), "utf-8")
        print(f"{run}: {found['accuracy']:.1%} of {found['clips']}", flush=True)  # noqa: T201


def page() -> str:
    """The results as text."""
    lines = [
        "| part | clips of training, test | majority class | network | updates | seeds | accuracy of each | mean | "
    ]
    lines[0] += "95 % of the first | rejected |"
    lines.append("|" + 10 * "---|")
    rows: dict[tuple[int, int, int], list[dict[str, Any]]] = {}
    for one in results():
        place = list(PARTS).index(one["part"]), one["updates"], list(NETWORKS).index(one["network"])
        rows.setdefault(place, []).append(one)
    for _, (first, *others) in sorted(rows.items(), key=lambda row: row[0]):
        own = [first, *others]
        cells = [first["part"], f"{first['trained_on']}, {first['clips']}", f"{first['majority']:.1%}"]
        cells += [first["network"], str(first["updates"]), ", ".join(str(one["seed"]) for one in own)]
        cells += [", ".join(f"{one['accuracy']:.1%}" for one in own)]
        cells += [f"{statistics.mean(one['accuracy'] for one in own):.1%}"]
        cells += ["{:.1%} to {:.1%}".format(*first["interval"]), ", ".join(f"{one['rejected']:.1%}" for one in own)]
        lines.append(f"| {' | '.join(cells)} |".replace("%", " %"))
    return _HEAD + "\n".join(lines) + "\n"


def main() -> None:
    """`run` or `table`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/speech"))
    parser.add_argument("--work", type=Path, default=Path("outputs/command_words"))
    parser.add_argument("--part", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--network", nargs="+", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--updates", type=int, default=UPDATES)
    given = parser.parse_args()
    if given.what == "run":
        runs = product(given.seeds, given.part, given.network)
        do([Run(part, network, seed, given.updates) for seed, part, network in runs], given.data, given.work)
    print(page(), end="")  # noqa: T201


if __name__ == "__main__":
    main()
