"""The tables of the sound-event study, from one file for each part."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SOUNDS = ("music", "applause", "ringing", "beep")
_TESTS = {"test-made": "Made sounds", "test-recorded": "Recorded sounds"}


def write_results(parts: Path, folder: Path) -> None:
    """`sound_events.json` and `sound_events.md` in a folder."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(parts.glob("*.json")):
        kind = path.stem.rpartition("-")[0]
        runs.setdefault(kind, []).append(json.loads(path.read_text(encoding="utf-8")))
    (folder / "sound_events.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Sound events",
        "",
        "Written by `examples/sound_events/sound_event_study.py`, whose first lines say what was trained and tested on",
        "what. F1 in percent, mean of the seeds (lowest to highest). Seconds are those of the training by the clock,",
        "with much else at work on the same cores: they say nothing of how long it takes alone.",
        "",
    ]
    for kind, all_of in runs.items():
        lines.append(f"- {kind}: {len(all_of)} runs, {all_of[0]['parameters']:,} parameters, "
                     f"{' '.join(str(one['seconds']) for one in all_of)} s on {all_of[0]['hardware']}")  # fmt: skip
    for test, title in _TESTS.items():
        lines += ["", f"## {title}", "", *_table(runs, test, "frames", "frames")]
        for collar in ("0.2", "0.5"):
            lines += ["", *_table(runs, test, f"events_{collar}", f"events, collar {collar} s")]
        for kind, all_of in runs.items():
            lines += ["", f"Frames of {kind}, seed 1 (rows: what is there):", "", *_confusion(all_of[0][test][""])]
    (folder / "sound_events.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table(runs: Mapping[str, Sequence[Mapping[str, Any]]], test: str, figure: str, title: str) -> list[str]:
    """A row for each kind and way: F1 of every label, and the mean over sounds that are neither speech nor silence."""
    labels = next(iter(runs.values()))[0][test][""]["labels"]
    if figure != "frames":
        labels = labels[1:]  # the background is no event
    lines = [f"| {title} | four sounds | {' | '.join(labels)} |", "|---" * (len(labels) + 2) + "|"]
    for kind, all_of in runs.items():
        for way in all_of[0][test]:
            by_label = [one[test][way]["by_label"] for one in all_of]
            means = [sum(rows[label][figure] for label in _SOUNDS) / len(_SOUNDS) for rows in by_label]
            cells = [[rows[label][figure] for rows in by_label] for label in labels]
            lines.append(f"| {kind}{way} | {_spread(means)} | {' | '.join(map(_spread, cells))} |")
    if figure != "frames":
        counts = next(iter(runs.values()))[0][test][""]["by_label"]
        there = " | ".join(str(counts[label]["count"]) for label in labels)
        lines.append(f"| how many there are | {sum(counts[label]['count'] for label in _SOUNDS)} | {there} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    mean = f"{100 * sum(values) / len(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def _confusion(summary: Mapping[str, Any]) -> list[str]:
    labels = summary["labels"]
    lines = [f"| | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
    rows = zip(labels, summary["confusion"], strict=True)
    return [*lines, *(f"| {label} | {' | '.join(map(str, row))} |" for label, row in rows)]
