"""The tables and the figures of `label_efficiency.py`, from what its parts have left."""

import json
import statistics
from pathlib import Path
from typing import Any

from label_efficiency_runs import MINUTES, UPDATES

KINDS = {"pretrained": "#0072b2", "scratch": "#d55e00", "cnn-rnn": "#777777", "cnn-rnn-small": "#bbbbbb"}
TITLES = {
    "digits": "Digit strings of a speaker without labels (75 strings; pretraining has heard unlabelled audio of him)",
    "german": "German sentences of the reader of the labels (100, none of them heard with its text)",
    "english": "English sentences of the reader of the labels (100)",
    "dutch": "Dutch sentences of the reader of the labels (100)",
    "readers": "Trained on one English reader, tested on another (50 recordings)",
}
RATES = {
    "greedy_wer": "words, greedy",
    "greedy_cer": "characters, greedy",
    "with_words_wer": "words, with a language model",
}

#: Word errors of BASE, greedy, on LibriSpeech test-clean, by hours of labels (wav2vec 2.0, table 9).
PAPER = {1 / 6: 46.9, 1.0: 24.5, 10.0: 11.1, 100.0: 6.1, 960.0: 3.4}


def rates(results: Path, task: str, kind: str, minutes: float, rate: str) -> list[float]:
    """Error rates of all seeds that are there, in percent."""
    found = [results / f"{task}-{minutes:g}-{kind}-{seed}.json" for seed in (1, 2, 3)]
    return [json.loads(path.read_text(encoding="utf-8"))[rate] for path in found if path.is_file()]


def cell(values: list[float]) -> str:
    """Mean and range."""
    if not values:
        return "not run"
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def fewer(ours: list[float], theirs: list[float]) -> str:
    """Which share of their errors ours does not make."""
    return f"{100 * (1 - statistics.mean(ours) / statistics.mean(theirs)):.0f} %" if ours and theirs else ""


def write_results(results: Path, folder: Path) -> None:
    """`label_efficiency.md`, `.png` and `.json`, which holds every figure, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = list(HEADING)
    for task, minutes in MINUTES.items():
        for rate, name in RATES.items():
            rows = [row(results, task, one, rate) for one in sorted(minutes)]
            lines += ["", f"{TITLES[task]}: {name}, {UPDATES[task]} updates.", "", *COLUMNS, *rows]
    (folder / "label_efficiency.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    kept: dict[str, Any] = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))
    }
    (folder / "label_efficiency.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    figure(results, folder / "label_efficiency.png")


def row(results: Path, task: str, minutes: float, rate: str) -> str:
    """One budget of labels."""
    found = {kind: rates(results, task, kind, minutes, rate) for kind in KINDS}
    ours = found["pretrained"]
    cells = [
        cell(ours),
        cell(found["scratch"]),
        fewer(ours, found["scratch"]),
        cell(found["cnn-rnn"]),
        fewer(ours, found["cnn-rnn"]),
        cell(found["cnn-rnn-small"]),
    ]
    return f"| {minutes:g} | {' | '.join(cells)} | {len(ours)} |"


COLUMNS = (
    "| labelled minutes | pretrained | scratch | fewer errors | CNN-RNN | fewer errors | CNN-RNN, 1 M | seeds |",
    "|---|---|---|---|---|---|---|---|",
)
HEADING = [
    "# Errors by labelled minutes",
    "",
    "The small model, the same shape from random weights and CNN-RNN networks on log-mel energies: the same updates of",
    "the same labelled audio, with copies at other speeds. In percent, mean and range over the seeds. What was tried",
    "on the way is in [label_efficiency_attempts.md](label_efficiency_attempts.md), every single figure in",
    "[label_efficiency.json](label_efficiency.json).",
    "",
    "![Word error rates by labels, here and in the paper](label_efficiency.png)",
]


def figure(results: Path, target: Path) -> None:
    """Left: word errors over labelled minutes, here. Right: beside the paper's."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    curves(results, left, "digits")
    left.set_xscale("log", base=2)
    left.set_xticks(sorted(MINUTES["digits"]), [f"{minutes:g}" for minutes in sorted(MINUTES["digits"])])
    left.set(
        xlabel="labelled minutes", ylabel="word error rate, greedy (%)", ylim=0, title="digit strings, new speaker"
    )
    left.legend(frameon=False)
    hours = list(PAPER)
    right.plot(hours, list(PAPER.values()), "s-", color="#009e73", label="paper: BASE, LibriSpeech, 95 M, 960 h heard")
    for task, mark in zip(MINUTES, "o^vDx", strict=True):
        found = {one / 60: rates(results, task, "pretrained", one, "greedy_wer") for one in sorted(MINUTES[task])}
        known = {hour: statistics.mean(values) for hour, values in found.items() if values}
        right.plot(list(known), list(known.values()), mark, color=KINDS["pretrained"], label=f"here: {task}, 16 M")
    right.set_xscale("log")
    right.set(xlabel="hours of labels", ylim=0, title="other data and speakers: not to be compared, only read")
    right.legend(frameon=False, fontsize=8)
    drawing.savefig(target, dpi=110)
    plt.close(drawing)


def curves(results: Path, axis: Any, task: str) -> None:
    """One line for each network, with the range over its seeds."""
    for kind in KINDS:
        found = {one: rates(results, task, kind, one, "greedy_wer") for one in sorted(MINUTES[task])}
        found = {minutes: values for minutes, values in found.items() if values}
        means = [statistics.mean(values) for values in found.values()]
        axis.plot(list(found), means, "o-", color=KINDS[kind], label=kind)
        lowest, highest = [min(values) for values in found.values()], [max(values) for values in found.values()]
        axis.fill_between(list(found), lowest, highest, color=KINDS[kind], alpha=0.15)
