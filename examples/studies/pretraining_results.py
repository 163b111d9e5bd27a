"""The table and the figure of `pretraining_study.py`, from what its parts have left."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wav2vec2.training.progress.training_log import read_log

SEEDS = (1, 2, 3)
COLOURS = {"ours": "#1f6f8b", "short": "#7fb069", "stock": "#c8553d"}
CHANCE = 1 / 101


def write_results(work: Path, folder: Path) -> None:
    """`pretraining.md` and `pretraining.png` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pretraining.md").write_text(table(work), encoding="utf-8")
    figure(work, folder / "pretraining.png")


def probes(work: Path, kind: str) -> list[dict[str, float]]:
    """Of all seeds of a kind; log-mel has none."""
    names = [kind] if kind.startswith("log-mel") else [f"{kind}-{seed}" for seed in SEEDS]
    paths = [work / "probes" / f"{name}.json" for name in names]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def lines_of(work: Path, part: str, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind in the log of a run."""
    return [line for line in read_log(work / part) if line["kind"] == kind]


def spread(values: Sequence[float], digits: int = 1, scale: float = 100.0) -> str:
    """Mean and, of several values, their range."""
    if not values:
        return "not run"
    mean = f"{scale * statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({scale * min(values):.{digits}f} to {scale * max(values):.{digits}f})"


def table(work: Path) -> str:
    """Markdown: what was run, and what came out, mean and range over the seeds."""
    rows = [
        "| features | digit of a frame, unseen speaker (%) | speaker of a frame, of 90 (%) | seeds |",
        "|---|---|---|---|",
    ]
    names = {
        "ours": "pretrained here",
        "short": "pretrained here, an eighth of the updates",
        "stock": "stock's model and loss, an eighth of the updates",
        "random": "the same model, random weights",
        "log-mel": "log-mel energies",
        "log-mel-context": "log-mel, nine frames at once",
    }
    for kind, name in names.items():
        found = probes(work, kind)
        cells = [spread([one[task] for one in found]) for task in ("digits", "speakers")]
        rows.append(f"| {name} | {cells[0]} | {cells[1]} | {len(found)} |")
    return "\n".join([*heading(work), *rows, "", *READING, "", *learning(work), ""])


#: What the table says; written after the runs of November 2026.
READING = [
    "Pretraining finds much that random weights do not have, and keeps finding: eight times the updates bring the",
    "digits from 21 to 37 % and the speakers from 6 to 12 %. After 45 hours of audio seen it is level with single",
    "frames of log-mel energies on digits, and still below log-mel that sees nine frames at once, and below log-",
    "mel on speakers, whose recordings differ in their microphones; the paper's BASE sees 640,000 hours. Stock's",
    "model and loss, with the same clips and updates, end no better and take two and a half times as long.",
]


def heading(work: Path) -> list[str]:
    """What was run on what."""
    run = lines_of(work, "ours-1", "run")[0]
    return [
        "# A tiny model, pretrained on about an hour of speech",
        "",
        f"{run['parameters'] / 1e6:.2f} M parameters, {run['hours']:.2f} h of audio ({run['clips']} clips, cropped to "
        f"4 s), {run['updates']} updates of {run['seconds_per_update']:g} s, {run['precision']}, one thread of "
        f"{run['hardware'].split(',')[0]}, torch {run['versions']['torch']}. Evaluated on digit strings of a speaker "
        "of whom nothing was trained on. Chance is 0.0099 for the contrastive accuracy, 10 % for digits, 1.1 % for "
        "speakers.",
        "",
        "![Curves](pretraining.png)",
        "",
    ]


def learning(work: Path) -> list[str]:
    """The end of each run."""
    rows = [
        "| run | contrastive accuracy, training | held-out | code perplexity per group (of 64) | s audio/s | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for kind in ("ours", "short", "stock"):
        for seed in SEEDS:
            part = f"{kind}-{seed}"
            if not (work / part / "seconds.json").is_file():
                continue
            training, evaluation = lines_of(work, part, "training"), lines_of(work, part, "evaluation")
            seconds = json.loads((work / part / "seconds.json").read_text(encoding="utf-8"))["seconds"]
            compared = json.loads((work / part / "compared.json").read_text(encoding="utf-8"))
            codes = ", ".join(f"{value:.1f}" for value in compared["code_perplexity"])
            last = training[-1].get("accuracy")
            shown = "not known to stock" if last is None else f"{last:.3f}"
            speed = statistics.median(line["audio_seconds_per_second"] for line in training)
            rows.append(
                f"| {part} | {shown} | {compared['accuracy']:.3f} | {codes} | {speed:.0f} | {seconds / 60:.1f} |"
            )
            assert evaluation, f"{part} was never evaluated"
    return rows


def figure(work: Path, target: Path) -> None:
    """Accuracy, bits and code perplexity over the updates; and the probes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(1, 4, figsize=(15, 3.6), constrained_layout=True)
    panels = (("accuracy", "contrastive accuracy"), ("bits", "contrastive loss (bits)"))
    for axis, (name, title) in zip(axes[:2], panels, strict=True):
        for kind in COLOURS:
            for seed in SEEDS:
                curve(axis, work, f"{kind}-{seed}", name, COLOURS[kind])
        axis.set_title(title)
        axis.set_xlabel("updates")
    axes[0].axhline(CHANCE, color="grey", linestyle=":", label="chance")
    for axis in axes[:2]:
        axis.legend(frameon=False)
    for seed in SEEDS:
        lines = (
            [line for line in lines_of(work, f"ours-{seed}", "training")] if (work / f"ours-{seed}").is_dir() else []
        )
        for group in (0, 1):
            points = [line["code_perplexity"][group] for line in lines]
            axes[2].plot([line["update"] for line in lines], points, color=COLOURS["ours"], alpha=0.6, linewidth=1)
    axes[2].set_title("code perplexity per group, ours (of 64)")
    axes[2].set_ylim(0, 66)
    axes[2].set_xlabel("updates")
    bars(axes[3], work)
    drawing.savefig(target, dpi=110)
    plt.close(drawing)


def curve(axis: Any, work: Path, part: str, name: str, colour: str) -> None:
    """One figure over the updates of one run."""
    if not (work / part / "log.jsonl").is_file():
        return
    points = [(line["update"], line[name]) for line in lines_of(work, part, "training") if name in line]
    if points:
        label = part.split("-")[0] if part.endswith("-1") else None
        axis.plot(*zip(*points, strict=True), color=colour, alpha=0.8, linewidth=1.2, label=label)


def bars(axis: Any, work: Path) -> None:
    """The probes, mean and range."""
    kinds = ("ours", "short", "stock", "random", "log-mel", "log-mel-context")
    for offset, task in enumerate(("digits", "speakers")):
        for place, kind in enumerate(kinds):
            values = [100 * one[task] for one in probes(work, kind)]
            if values:
                mean = statistics.mean(values)
                error = [[mean - min(values)], [max(values) - mean]]
                colour = ("#1f6f8b", "#d9a441")[offset]
                axis.bar(place + 0.4 * offset - 0.2, mean, 0.38, yerr=error, color=colour, capsize=2)
    axis.set_xticks(range(len(kinds)), [*kinds[:-1], "in context"], fontsize=8)
    axis.set_title("linear probes (%): digits, speakers")
    axis.set_ylim(0, 100)
