"""Slots of coffee orders: wav2vec 2.0 from the package's `small` checkpoint beside networks on log-mel energies and the
most frequent answer.

    python examples/studies/coffee_orders.py ../shared/data/speech --work WORK [--updates 1200] [--test MANIFEST]

The orders are those of Picovoice's speech-to-intent benchmark whose slots are given: at most eleven seconds of English
by more than fifty speakers, who are not named, so that a speaker who tests may also have been trained on. `small` has
heard all of these clips in its pretraining, without what they ask for. A quarter of them tests, 48 others choose the
best of a run's evaluations, the rest is trained on. Every network has the same clips and `--updates` times 64 s.

Slots are filled in two ways: each has a value out of those of the training clips, or CTC writes them with the marks
that open and close them (SUPERB's way). Of the words around them nothing is known, nor in which order slots are said:
what CTC learns to write is the values alone, in the order in which English orders usually have them.

What is measured is kept in results/coffee_orders.json, run by run, with what is published there: a study that was
stopped goes on. The table in results/coffee_orders.md is made of it. `--test` measures the models on any other manifest
with the columns `path` and `slots`, and keeps that in WORK.
"""

import argparse
import io
import json
import random
import statistics
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import soundfile
import torch
from perturbed_speech import table, write_table

from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.evaluation import EvaluatedModel
from wav2vec2.evaluation.slot_evaluation import evaluate_slots_of
from wav2vec2.evaluation.slot_scoring import SlotScores, slot_scores
from wav2vec2.inference.slot_reader import SlotReader
from wav2vec2.processing.slot_tables import slots_of_text
from wav2vec2.training.finetuning import finetune
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun
from wav2vec2.training.slots import SlotsRun, learn_slots

RATE, DEVELOPMENT, UPDATES = 16000, 48, 400
RESULTS = Path(__file__).parent / "results" / "coffee_orders.json"
MAJORITY = "most frequent answer"

#: From random weights all is learnt; settings are those of the classical network of the label-efficiency study.
_LOG_MEL = ["tuning.freeze_updates=0", "optimizer.learning_rate=2e-3", "optimizer.betas=[0.9, 0.999]"]
_LOG_MEL += ["optimizer.weight_decay=0.01", "optimizer.clip_norm=1.0", "schedule.kind=polynomial"]
_LOG_MEL += ["schedule.final_scale=0.0", "run.precision=fp32", "task=slots"]
#: CTC begins with hundreds of updates in which all is blank: it has the same audio in four times as many.
_MARKED = ["text.slots=true", "text.judged_by=slot_error", "data.speeds=[]"]
_MORE_OFTEN = 4
#: After how many updates the log, an evaluation and a checkpoint follow.
_EVERY = {"log_every": 50, "evaluate_every": 100, "save_every": 100}
#: The recipe of each network, and what is said beside it. Those whose names say so write marks.
KINDS: dict[str, tuple[str | None, list[str]]] = {
    "wav2vec 2.0 small": ("slots_small_minutes", []),
    "CRNN": (None, ["model.preset=crnn", "model.config={time_masks: 2, band_masks: 2}", *_LOG_MEL]),
    "YAMNet-like": (None, ["model.preset=depthwise_cnn", "model.config={}", *_LOG_MEL]),
    "wav2vec 2.0 small, CTC with marks": ("ctc_small_minutes", _MARKED),
    "CRNN, CTC with marks": ("ctc_crnn", _MARKED),
}
#: How English orders usually go.
ORDER = ("size", "numberOfShots", "roast", "coffeeDrink", "milkAmount", "sugarAmount")


@dataclass(frozen=True)
class Run:
    """One training and its test."""

    kind: str
    seed: int
    updates: int

    @property
    def by_marks(self) -> bool:
        """Whether it writes text."""
        return self.kind.endswith("marks")


def manifests(speech: Path, work: Path) -> dict[str, Path]:
    """Training, development and test, as files; written once."""
    import pyarrow.parquet as parquet

    found = {part: work / f"{part}.tsv" for part in ("train", "development", "test")}
    if all(path.is_file() for path in found.values()):
        return found
    slots = {row["id"]: row["slots"] for row in table(speech / "intent_slots.tsv")}
    (work / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for shard in [*sorted(speech.glob("train-*.parquet")), speech / "valid.parquet"]:
        content = parquet.read_table(shard, columns=["id", "audio"], filters=[("id", "in", list(slots))])
        for row in content.to_pylist():
            samples = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")[0]
            path = (work / "audio" / f"{row['id'].split('/')[-1]}.flac").resolve()
            soundfile.write(path, samples, RATE)
            rows.append({"path": str(path), "duration": f"{len(samples) / RATE:.4f}", "slots": slots[row["id"]]})
    rows.sort(key=lambda row: row["path"])
    random.Random(0).shuffle(rows)
    quarter = len(rows) // 4
    write_table(found["test"], rows[:quarter])
    write_table(found["development"], rows[quarter : quarter + DEVELOPMENT])
    write_table(found["train"], rows[quarter + DEVELOPMENT :])
    return found


def marked_manifest(manifest: Path) -> Path:
    """The same clips, with the values of their slots as a text with marks. What no slot is said in is left out."""
    rows = []
    for row in table(manifest):
        said = slots_of_text(row["slots"])
        names = sorted(said, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
        text = " ".join(f"<{name}>{said[name].strip()}</{name}>" for name in names)
        if text:
            rows.append({"path": row["path"], "duration": row["duration"], "transcript": text})
    return write_table(manifest.with_name(f"{manifest.stem}_marked.tsv"), rows)


def most_frequent(train: Path, test: Path) -> SlotScores:
    """Of each slot the answer that most training clips have, which may be none."""
    known, asked = ([slots_of_text(row["slots"]) for row in table(path)] for path in (train, test))
    counts = {name: Counter(said.get(name, "") for said in known) for name in {name for one in known for name in one}}
    answer = {name: [best] for name, count in counts.items() if (best := count.most_common(1)[0][0])}
    said = [{name: [value] for name, value in one.items()} for one in asked]
    return slot_scores(said, [answer] * len(said), Resampling())


def trained(run: Run, parts: dict[str, Path], work: Path) -> Path:
    """The model of a run, which goes on where it was stopped."""
    recipe, changes = KINDS[run.kind]
    output = work / f"{run.kind.replace(',', '').replace(' ', '_')}_{run.updates}_{run.seed}"
    train, valid = parts["train"], parts["development"]
    if run.by_marks:
        train, valid = marked_manifest(train), marked_manifest(valid)
    given = [f"data.train.0.path={train}", f"data.valid.0.path={valid}", "data.workers=0"]
    often = _MORE_OFTEN if run.by_marks else 1
    given += [f"run.output={output}", f"run.updates={often * run.updates}", f"run.seed={run.seed}", "run.report=false"]
    given += [f"run.{what}={often * count}" for what, count in _EVERY.items()]
    given += [f"data.{name}={64 // often}" for name in ("seconds_per_update", "seconds_per_batch")]
    given += ["data.max_seconds=16", *changes]
    if not (output / "model").is_dir():
        if run.by_marks:
            finetune(read_run(FinetuneRun, recipe, given))
        else:
            learn_slots(read_run(SlotsRun, recipe, given))
    return output / "model"


def figures(scores: SlotScores) -> dict[str, Any]:
    """What is kept of a measurement, in per cent."""
    names = ("slot_f1", "macro_slot_f1", "slot_type_f1", "slot_value_cer", "whole")
    found: dict[str, Any] = {name: round(100 * getattr(scores, name).value, 2) for name in names}
    interval = scores.slot_f1.interval
    assert interval is not None
    return found | {"slot_f1_interval": [round(100 * interval.low, 2), round(100 * interval.high, 2)]}


def measured(model: Path, test: Path) -> dict[str, Any]:
    """The scores of a model."""
    facts = EvaluatedModel(model.parent.name, {}, 0, "float32", None)
    return figures(evaluate_slots_of(SlotReader.from_pretrained(model), facts, test, Resampling()).evaluation.scores)


def page(results: list[dict[str, Any]]) -> str:
    """The results as text."""
    lines = [_HEAD, "| | updates | seeds | slot F1 | 95 % of the first | macro slot F1 | slot-type F1 | ", ""]
    lines[1] += "slot-value CER | entirely right |"
    lines[2] = "|" + 9 * "---|"
    for kind, updates in dict.fromkeys((one["kind"], one["updates"]) for one in results):
        own = [one for one in results if (one["kind"], one["updates"]) == (kind, updates)]

        def all_of(name: str, own: list[dict[str, Any]] = own) -> str:
            values = [one[name] for one in own]
            mean = f"{statistics.mean(values):.1f}"
            return mean if len(values) == 1 else f"{mean} ({', '.join(f'{value:.1f}' for value in values)})"

        seeds = ", ".join(str(one["seed"]) for one in own if one["seed"] is not None)
        low, high = own[0]["slot_f1_interval"]
        cells = [kind, str(updates or ""), seeds, all_of("slot_f1"), f"{low:.1f} to {high:.1f}"]
        cells += [all_of(name) for name in ("macro_slot_f1", "slot_type_f1", "slot_value_cer", "whole")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_HEAD = """# Slots of coffee orders

Made by `python examples/studies/coffee_orders.py` on an Intel Xeon (Sapphire Rapids class, amx_bf16), one thread; its
first lines say what the parts are. All in per cent, the mean of the seeds and each of them; the intervals are of
resampled clips.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--test", type=Path, help="manifest that is measured on instead of the held-out quarter")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    parser.add_argument("--updates", type=int, default=UPDATES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = manifests(options.speech, options.work)
    test = options.test or parts["test"]
    kept = RESULTS if options.test is None else options.work / f"{options.test.stem}_orders.json"
    results: list[dict[str, Any]] = json.loads(kept.read_text("utf-8")) if kept.is_file() else []
    majority: dict[str, Any] = {"kind": MAJORITY, "seed": None, "updates": 0}
    if not any(majority.items() <= one.items() for one in results):
        results.append(majority | figures(most_frequent(parts["train"], test)))
    for seed, kind in product(options.seeds, options.kinds):
        run = {"kind": kind, "seed": seed, "updates": options.updates}
        if not any(run.items() <= one.items() for one in results):
            results.append(run | measured(trained(Run(**run), parts, options.work), test))
            kept.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
            kept.with_suffix(".md").write_text(page(results), "utf-8")
    print(page(results))  # noqa: T201


if __name__ == "__main__":
    main()
