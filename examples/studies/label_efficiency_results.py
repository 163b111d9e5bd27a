"""The tables and the figures of `label_efficiency.py`, from what its parts have left."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from label_efficiency_runs import MINUTES, updates
from labelled_speech import SPEAKERS
from pretraining_study import write_json

KINDS = {"pretrained": "#0072b2", "scratch": "#d55e00", "cnn-rnn": "#777777", "cnn-rnn-large": "#bbbbbb"}

#: Tables: what each is of, and which tasks together make its rows.
TABLES = {
    "Digit strings of a speaker without labels, by whom the settings were chosen (75 strings)": ("digits",),
    "Digit strings of three other speakers, each held out in turn (75 strings each)": tuple(SPEAKERS)[1:],
    "German sentences of the reader of the labels (100, none of them heard with its text)": ("german",),
    "English sentences of the reader of the labels (100)": ("english",),
    "Dutch sentences of the reader of the labels (100)": ("dutch",),
    "Trained on one English reader, tested on another (50 recordings)": ("readers",),
}
RATES = {
    "greedy_wer": "words, greedy",
    "greedy_cer": "characters, greedy",
    "with_words_wer": "words, with a language model",
}

#: Word errors of BASE, greedy, on LibriSpeech test-clean, by hours of labels (wav2vec 2.0, table 9).
PAPER = {1 / 6: 46.9, 1.0: 24.5, 10.0: 11.1, 100.0: 6.1, 960.0: 3.4}


#: Error rates in percent by task and seed.
Rates = dict[tuple[str, int], float]


def rates(results: Path, tasks: Sequence[str], kind: str, minutes: float, rate: str) -> Rates:
    """Of all tasks and seeds that are there."""
    found = {(task, seed): results / f"{task}-{minutes:g}-{kind}-{seed}.json" for task in tasks for seed in (1, 2, 3)}
    return {run: json.loads(path.read_text(encoding="utf-8"))[rate] for run, path in found.items() if path.is_file()}


def cell(found: Rates) -> str:
    """Mean and range."""
    values = list(found.values())
    if not values:
        return "not run"
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def fewer(ours: Rates, theirs: Rates) -> str:
    """Which share of their errors ours does not make, of the tasks and seeds that both have."""
    both = ours.keys() & theirs.keys()
    if not both:
        return ""
    share = 1 - sum(ours[run] for run in both) / sum(theirs[run] for run in both)
    return f"{100 * share:.0f} %" + (f" ({len(both)} runs)" if len(both) < max(len(ours), len(theirs)) else "")


def write_results(results: Path, folder: Path) -> None:
    """`label_efficiency.md`, `.png` and `.json`, which holds every figure, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = list(HEADING)
    for title, tasks in TABLES.items():
        for rate, name in RATES.items():
            done = [
                minutes
                for minutes in sorted(MINUTES[tasks[0]])
                if any(rates(results, tasks, kind, minutes, rate) for kind in KINDS)
            ]
            if done:
                lines += ["", f"{title}: {name}, {updates(tasks[0])} updates.", "", *COLUMNS]
                lines += [row(results, tasks, minutes, rate) for minutes in done]
    (folder / "label_efficiency.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    kept: dict[str, Any] = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))
    }
    (folder / "label_efficiency.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    figure(results, folder / "label_efficiency.png")


def take_up(folder: Path, results: Path) -> None:
    """What `write_results` has left in a folder, as the files that it was made of; those that are there stay."""
    results.mkdir(parents=True, exist_ok=True)
    for part, figures in json.loads((folder / "label_efficiency.json").read_text(encoding="utf-8")).items():
        if not (target := results / f"{part}.json").is_file():
            write_json(target, figures)


def row(results: Path, tasks: Sequence[str], minutes: float, rate: str) -> str:
    """One budget of labels."""
    found = {kind: rates(results, tasks, kind, minutes, rate) for kind in KINDS}
    ours = found["pretrained"]
    cells = [
        cell(ours),
        cell(found["scratch"]),
        fewer(ours, found["scratch"]),
        cell(found["cnn-rnn"]),
        fewer(ours, found["cnn-rnn"]),
        cell(found["cnn-rnn-large"]),
    ]
    return f"| {minutes:g} | {' | '.join(cells)} | {len(ours)} |"


COLUMNS = (
    "| labelled minutes | pretrained | scratch | fewer errors | CNN-RNN, 1 M | fewer errors | CNN-RNN, 16 M | runs |",
    "|---|---|---|---|---|---|---|---|",
)
HEADING = [
    "# Errors by labelled minutes",
    "",
    "The small model, the same shape from random weights and CNN-RNN networks on log-mel energies: the same updates of",
    "the same labelled audio, with copies at other speeds. In percent, mean and range over the seeds. What was tried",
    "on the way is in [label_efficiency_attempts.md](label_efficiency_attempts.md), every single figure in",
    "[label_efficiency.json](label_efficiency.json), with its processor: two cores of an AMD EPYC (Zen 4, bf16) or",
    "of an Intel Xeon (Sapphire Rapids class, amx_bf16).",
    "",
    "![Word error rates by labels, here and in the paper](label_efficiency.png)",
]


def figure(results: Path, target: Path) -> None:
    """Left: word errors over labelled minutes, here. Right: beside the paper's."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(1, 3, figsize=(15, 4), constrained_layout=True)
    for axis, tasks, title in (
        (axes[0], ("digits",), "digits, speaker of the choices"),
        (axes[1], tuple(SPEAKERS)[1:], "digits, three other speakers held out"),
    ):
        curves(results, axis, tasks)
        axis.set_xscale("log", base=2)
        axis.set_xlim(0.4, 10)
        axis.set_xticks(sorted(MINUTES[tasks[0]]), [f"{minutes:g}" for minutes in sorted(MINUTES[tasks[0]])])
        axis.set(xlabel="labelled minutes", ylabel="word error rate, greedy (%)", ylim=(0, 105), title=title)
        axis.legend(frameon=False)
    paper, hours = axes[2], list(PAPER)
    paper.plot(hours, list(PAPER.values()), "s-", color="#009e73", label="paper: BASE, LibriSpeech, 95 M, 960 h heard")
    for tasks, mark in zip(TABLES.values(), "o^vDxs", strict=True):
        found = {one / 60: rates(results, tasks, "pretrained", one, "greedy_wer") for one in sorted(MINUTES[tasks[0]])}
        known = {hour: statistics.mean(values.values()) for hour, values in found.items() if values}
        if not known:
            continue
        label = f"here: {tasks[0] if len(tasks) == 1 else 'digits, others'}, 16 M"
        paper.plot(list(known), list(known.values()), mark, color=KINDS["pretrained"], label=label)
    paper.set_xscale("log")
    paper.set(xlabel="hours of labels", ylim=(0, 105), title="beside the paper: other data, other speakers")
    paper.legend(frameon=False, fontsize=7.5, loc="upper right", bbox_to_anchor=(1, 0.95))
    drawing.savefig(target, dpi=110)
    plt.close(drawing)


def curves(results: Path, axis: Any, tasks: Sequence[str]) -> None:
    """One line for each network, with the range over its runs."""
    for kind in KINDS:
        measured = {one: rates(results, tasks, kind, one, "greedy_wer") for one in sorted(MINUTES[tasks[0]])}
        found = {minutes: list(values.values()) for minutes, values in measured.items() if values}
        if not found:
            continue
        means = [statistics.mean(values) for values in found.values()]
        axis.plot(list(found), means, "o-", color=KINDS[kind], label=kind)
        lowest, highest = [min(values) for values in found.values()], [max(values) for values in found.values()]
        axis.fill_between(list(found), lowest, highest, color=KINDS[kind], alpha=0.15)
