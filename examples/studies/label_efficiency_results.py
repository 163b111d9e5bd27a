"""The table and the figure of `label_efficiency.py`, from what its parts have left."""

import json
import statistics
from pathlib import Path
from typing import Any

MINUTES = (0.5, 1.0, 2.0, 4.0, 8.0)
SEEDS = (1, 2, 3)
KINDS = {"pretrained": "#1f6f8b", "scratch": "#c8553d", "cnn-rnn": "#888888"}


def rates(results: Path, kind: str, minutes: float) -> list[float]:
    """Word error rates of all seeds that are there, in percent."""
    paths = [results / f"{kind}-{minutes:g}-{seed}.json" for seed in SEEDS]
    return [100 * json.loads(path.read_text(encoding="utf-8"))["wer"] for path in paths if path.is_file()]


def cell(values: list[float]) -> str:
    """Mean and range."""
    if not values:
        return "not run"
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def write_results(results: Path, folder: Path) -> None:
    """`label_efficiency.md` and `label_efficiency.png` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        "| labelled minutes | pretrained | scratch | fewer errors | CNN-RNN on log-mel | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for minutes in MINUTES:
        ours, scratch, classical = (rates(results, kind, minutes) for kind in KINDS)
        fewer = (
            "" if not ours or not scratch else f"{100 * (1 - statistics.mean(ours) / statistics.mean(scratch)):.0f} %"
        )
        rows.append(f"| {minutes:g} | {cell(ours)} | {cell(scratch)} | {fewer} | {cell(classical)} | {len(ours)} |")
    (folder / "label_efficiency.md").write_text("\n".join([*HEADING, *rows, ""]), encoding="utf-8")
    figure(results, folder / "label_efficiency.png")


HEADING = [
    "# Word error rate by labelled minutes",
    "",
    "Digit strings of a speaker of whom nothing was trained on (150 strings), greedy, in percent: mean and range over",
    "the seeds. The models are those of [pretraining.md](pretraining.md).",
    "",
    "![Word error rates](label_efficiency.png)",
    "",
]


def figure(results: Path, target: Path) -> None:
    """Word error rates over labelled minutes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axis = plt.subplots(figsize=(6, 4), constrained_layout=True)
    for kind, colour in KINDS.items():
        points: list[Any] = [(minutes, rates(results, kind, minutes)) for minutes in MINUTES]
        points = [(minutes, values) for minutes, values in points if values]
        if points:
            axis.plot([m for m, _ in points], [statistics.mean(v) for _, v in points], "o-", color=colour, label=kind)
            axis.fill_between(
                [m for m, _ in points],
                [min(v) for _, v in points],
                [max(v) for _, v in points],
                color=colour,
                alpha=0.15,
            )
    axis.set_xscale("log", base=2)
    axis.set_xticks(MINUTES, [f"{minutes:g}" for minutes in MINUTES])
    axis.set_xlabel("labelled minutes")
    axis.set_ylabel("word error rate, unseen speaker (%)")
    axis.set_ylim(0)
    axis.legend(frameon=False)
    drawing.savefig(target, dpi=110)
    plt.close(drawing)
