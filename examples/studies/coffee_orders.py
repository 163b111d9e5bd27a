"""Slots of coffee orders: wav2vec 2.0 from the package's `small` checkpoint beside networks on log-mel energies and the
most frequent answer.

    python examples/studies/coffee_orders.py ../shared/data/speech --work WORK [--test MANIFEST]

The orders are those of Picovoice's speech-to-intent benchmark whose slots are given: at most eleven seconds of English
by more than fifty speakers, who are not named, so that a speaker who tests may also have been trained on. `small` has
heard all of these clips in its pretraining, without what they ask for. A quarter of them tests, 48 others choose the
best of a run's evaluations, the rest is trained on. `--test` measures the models on any other manifest with the columns
`path` and `slots`. What is done is not done again: a figure is kept in WORK as soon as it is there.
"""

import argparse
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from perturbed_speech import table, write_table

from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.evaluation import EvaluatedModel
from wav2vec2.evaluation.slot_evaluation import evaluate_slots_of
from wav2vec2.evaluation.slot_scoring import SlotScores, slot_scores
from wav2vec2.inference.slot_reader import SlotReader
from wav2vec2.processing.slot_tables import slots_of_text
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.slots import SlotsRun, learn_slots

RATE, DEVELOPMENT, UPDATES = 16000, 48, 400
RESULTS = Path(__file__).parent / "results" / "coffee_orders.json"

#: From random weights all is learnt; settings are those of the classical network of the label-efficiency study.
_LOG_MEL = ["tuning.freeze_updates=0", "optimizer.learning_rate=2e-3", "optimizer.betas=[0.9, 0.999]"]
_LOG_MEL += ["optimizer.weight_decay=0.01", "optimizer.clip_norm=1.0", "schedule.kind=polynomial"]
_LOG_MEL += ["schedule.final_scale=0.0", "run.precision=fp32", "data.max_seconds=20", "data.seconds_per_update=64"]
_LOG_MEL += ["data.seconds_per_batch=64", "task=slots"]
#: The recipe of each network, and what is said beside it.
KINDS: dict[str, tuple[str | None, list[str]]] = {
    "wav2vec 2.0 small": ("slots_small_minutes", []),
    "CRNN": (None, ["model.preset=crnn", "model.config={time_masks: 2, band_masks: 2}", *_LOG_MEL]),
    "YAMNet-like": (None, ["model.preset=depthwise_cnn", "model.config={}", *_LOG_MEL]),
}


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


def said_in(manifest: Path) -> list[dict[str, str]]:
    return [slots_of_text(row["slots"]) for row in table(manifest)]


def most_frequent(train: Path, test: Path) -> SlotScores:
    """Of each slot the answer that most training clips have, which may be none."""
    known, asked = said_in(train), said_in(test)
    counts = {name: Counter(said.get(name, "") for said in known) for name in {name for one in known for name in one}}
    answer = {name: [best] for name, count in counts.items() if (best := count.most_common(1)[0][0])}
    said = [{name: [value] for name, value in one.items()} for one in asked]
    return slot_scores(said, [answer] * len(said), Resampling())


def trained(kind: str, seed: int, parts: dict[str, Path], work: Path) -> Path:
    """The model of a run, which goes on where it was stopped."""
    recipe, changes = KINDS[kind]
    output = work / f"{kind.replace(' ', '_')}_{seed}"
    given = [f"data.train.0.path={parts['train']}", f"data.valid.0.path={parts['development']}", "data.workers=0"]
    given += [f"run.output={output}", f"run.updates={UPDATES}", f"run.seed={seed}", "run.report=false"]
    given += ["run.evaluate_every=100", "run.save_every=100", "run.log_every=50"]
    learn_slots(read_run(SlotsRun, recipe, [*given, *changes]))
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


def show(results: dict[str, dict[str, Any]]) -> None:
    for name in dict.fromkeys(key.rpartition(", seed ")[0] or key for key in results):
        f1s = [one["slot_f1"] for key, one in results.items() if key == name or key.startswith(f"{name}, seed ")]
        print(f"{name}: slot F1 {np.mean(f1s):.1f} ({' '.join(f'{one:.1f}' for one in f1s)})")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--test", type=Path, help="manifest that is measured on instead of the held-out quarter")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = manifests(options.speech, options.work)
    test = options.test or parts["test"]
    kept = options.results if options.test is None else options.work / f"{options.test.stem}.json"
    results: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    results["most frequent answer"] = figures(most_frequent(parts["train"], test))
    for seed in range(options.seeds):
        for kind in KINDS:
            name = f"{kind}, seed {seed}"
            if name not in results:
                results[name] = measured(trained(kind, seed, parts, options.work), test)
                kept.write_text(json.dumps(results, indent=1) + "\n")
    show(results)


if __name__ == "__main__":
    main()
