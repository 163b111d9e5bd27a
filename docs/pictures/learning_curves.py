"""What runs look like, healthy and not: from the thinned logs of real ones."""

import math
from pathlib import Path
from typing import Any

from drawing_style import BLUE, GREEN, GREY, MUTED, ORANGE, figure, write

#: Of guessing among 101.
CHANCE, GUESSING_BITS = 1 / 101, math.log2(101)

Log = dict[str, list[Any]]


def draw_pretraining(measured: dict[str, Log], path: Path) -> Path:
    """Loss, accuracy and codes of a run that learns."""
    log = measured["healthy"]
    drawing, axes = figure(9, 2.9, 1, 3)
    loss, accuracy, codes = axes[0]
    loss.plot(log["update"], log["bits"], color=BLUE, linewidth=1.4)
    _reference(loss, GUESSING_BITS, "guessing: 6.66")
    loss.set_title("contrastive loss, bits")
    accuracy.plot(log["update"], log["accuracy"], color=BLUE, linewidth=1.4, label="training")
    held_out = measured["held_out"]
    accuracy.plot(held_out["update"], held_out["accuracy"], "o-", color=ORANGE, markersize=3, label="held out")
    _reference(accuracy, CHANCE, "guessing: 1 %")
    accuracy.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    accuracy.set_title("accuracy")
    accuracy.set_ylim(0, 0.32)
    accuracy.legend(loc="upper left", ncols=2)
    _codes(codes, log)
    for axis in axes[0]:
        axis.set_xlabel("updates")
        axis.set_xlim(left=0)
    return write(drawing, path)


def draw_collapse(measured: dict[str, Log], path: Path) -> Path:
    """Loss and codes of a run that the guard stops."""
    log = measured["collapsed"]
    drawing, axes = figure(9, 2.7, 1, 2)
    loss, codes = axes[0]
    loss.plot(log["update"], log["bits"], color=ORANGE, linewidth=1.4)
    loss.set_ylim(5.8, 7.2)
    _reference(loss, GUESSING_BITS, "guessing: 6.66")
    loss.set_title("contrastive loss, bits: nothing to see")
    _codes(codes, log)
    codes.set_title("codes in use of 64: below 2, stopped by the guard")
    codes.axhline(2, color=MUTED, linewidth=0.8, linestyle=":")
    for axis in axes[0]:
        axis.set_xlabel("updates")
        axis.set_xlim(left=0)
    return write(drawing, path)


def draw_finetuning(measured: Log, path: Path) -> Path:
    """The plateau of blanks, and its end."""
    drawing, axes = figure(9, 2.9, 1, 3)
    loss, blanks, errors = axes[0]
    loss.plot(measured["update"], measured["loss"], color=BLUE, linewidth=1.4)
    loss.set_title("loss per utterance")
    blanks.plot(measured["update"], measured["blank_share"], color=BLUE, linewidth=1.4)
    blanks.set_title("share of blanks")
    for name, colour in (("wer", ORANGE), ("cer", GREEN)):
        errors.plot(measured["evaluated"], measured[name], "o-", color=colour, markersize=3.5, label=name.upper())
    errors.set_title("errors")
    errors.legend(loc="upper right")
    plateau = [
        update for update, share in zip(measured["update"], measured["blank_share"], strict=True) if share > 0.95
    ]
    for axis in axes[0]:
        axis.axvspan(min(plateau), max(plateau), color=GREY, alpha=0.15, linewidth=0)
        axis.set_xlabel("updates")
        axis.set_xlim(left=0)
    for axis in (blanks, errors):
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    loss.text(max(plateau), max(measured["loss"]), " plateau\n of blanks", va="top", color=MUTED, fontsize=9)
    return write(drawing, path)


def _codes(axis: Any, log: Log) -> None:
    for group, colour in enumerate((BLUE, GREEN)):
        values = [groups[group] for groups in log["code_perplexity"]]
        axis.plot(log["update"], values, color=colour, linewidth=1.4, label=f"codebook {group + 1}")
    axis.set_ylim(0, 66)
    axis.set_title("codes in use, of 64")
    axis.legend(loc="best")


def _reference(axis: Any, value: float, text: str) -> None:
    axis.axhline(value, color=MUTED, linewidth=0.8, linestyle=":")
    axis.annotate(
        text, (1, value), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
        ha="right", color=MUTED, fontsize=8.5,
    )  # fmt: skip
