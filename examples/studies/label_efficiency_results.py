"""The tables and the figure of `label_efficiency.py`, from what its parts have left."""

import json
import statistics
from pathlib import Path

MINUTES = {"digits": (0.5, 1.0, 2.0, 4.0, 8.0), "sentences": (8.0,)}
SEEDS = (1, 2, 3)
KINDS = {"pretrained": "#0072b2", "scratch": "#d55e00", "cnn-rnn": "#777777"}
COLUMNS = (
    "| labelled minutes | pretrained | scratch | fewer errors | CNN-RNN on log-mel | seeds |",
    "|---|---|---|---|---|---|",
)


def rates(results: Path, task: str, kind: str, minutes: float, rate: str = "wer") -> list[float]:
    """Error rates of all seeds that are there, in percent."""
    paths = [results / f"{task}-{kind}-{minutes:g}-{seed}.json" for seed in SEEDS]
    return [100 * json.loads(path.read_text(encoding="utf-8"))[rate] for path in paths if path.is_file()]


def cell(values: list[float]) -> str:
    """Mean and range."""
    if not values:
        return "not run"
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def write_results(results: Path, folder: Path) -> None:
    """`label_efficiency.md` and `label_efficiency.png` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [*HEADING, *COLUMNS, *(row(results, "digits", minutes, "wer") for minutes in MINUTES["digits"])]
    lines += [*CHARACTERS, *COLUMNS, *(row(results, "digits", minutes, "cer") for minutes in MINUTES["digits"])]
    lines += [*SENTENCES, *COLUMNS, *(row(results, "sentences", minutes, "cer") for minutes in MINUTES["sentences"])]
    (folder / "label_efficiency.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    figure(results, folder / "label_efficiency.png")


def row(results: Path, task: str, minutes: float, rate: str) -> str:
    """One budget of labels."""
    ours, scratch, classical = (rates(results, task, kind, minutes, rate) for kind in KINDS)
    fewer = f"{100 * (1 - statistics.mean(ours) / statistics.mean(scratch)):.0f} %" if ours and scratch else ""
    return f"| {minutes:g} | {cell(ours)} | {cell(scratch)} | {fewer} | {cell(classical)} | {len(ours)} |"


HEADING = [
    "# Errors by labelled minutes",
    "",
    "Three models of equal size and the same updates of the same labelled audio, with copies at other speeds; greedy,",
    "in percent, mean and range over the seeds. The claim would be that pretraining saves 30 % of the errors at one",
    "and two minutes; what was tried for it, and what was learned, is in",
    "[label_efficiency_attempts.md](label_efficiency_attempts.md).",
    "",
    "![Word error rates](label_efficiency.png)",
    "",
    "Words of digit strings, by a speaker of whom nothing was trained on (150 strings):",
    "",
]
CHARACTERS = ["", "The same, characters:", ""]
SENTENCES = [
    "",
    "Characters of LibriSpeech sentences, by a speaker without labels (50 sentences; pretraining has heard them):",
    "",
]


def figure(results: Path, target: Path) -> None:
    """Word error rates over labelled minutes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axis = plt.subplots(figsize=(6, 4), constrained_layout=True)
    for kind, colour in KINDS.items():
        found = {minutes: rates(results, "digits", kind, minutes) for minutes in MINUTES["digits"]}
        found = {minutes: values for minutes, values in found.items() if values}
        axis.plot(list(found), [statistics.mean(values) for values in found.values()], "o-", color=colour, label=kind)
        lowest, highest = [min(values) for values in found.values()], [max(values) for values in found.values()]
        axis.fill_between(list(found), lowest, highest, color=colour, alpha=0.15)
    axis.set_xscale("log", base=2)
    axis.set_xticks(MINUTES["digits"], [f"{minutes:g}" for minutes in MINUTES["digits"]])
    axis.set_xlabel("labelled minutes")
    axis.set_ylabel("word error rate, unseen speaker (%)")
    axis.set_ylim(0)
    axis.legend(frameon=False)
    drawing.savefig(target, dpi=110)
    plt.close(drawing)
