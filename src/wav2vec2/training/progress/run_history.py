"""A finished or unfinished run, read back from its folder: facts, training lines, evaluations, codebook usage."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.progress.training_log import CODES_FILE_NAME, read_log
from wav2vec2.training.saving.checkpoint_folders import checkpoints_in, update_of

UNREADABLE_FILE_NAME = "unreadable.tsv"

Line = dict[str, Any]
Kind = Literal["training", "evaluation"]


@dataclass
class Series:
    """One figure over the updates, as far as it was logged: `values` (n,) at `updates` (n,)."""

    updates: NDArray[np.float64]
    values: NDArray[np.float64]

    def __bool__(self) -> bool:
        return len(self.updates) > 0


@dataclass
class RunHistory:
    """What the report is made of. Any part may be missing: a run may have been stopped at any time."""

    #: What the run, and each later start of it, has said of itself in the first line.
    facts: Line = field(default_factory=dict)
    #: The lines about training, in the order of their updates.
    training: list[Line] = field(default_factory=list)
    #: The lines about evaluations, in the order of their updates.
    evaluations: list[Line] = field(default_factory=list)
    #: How often each code was chosen (G groups, V entries) in the last evaluation.
    code_counts: NDArray[np.float64] | None = None
    #: Recordings that could not be read, with the reason.
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    #: The update of the newest checkpoint: a run that was stopped saves between two lines of its log.
    saved_update: int = 0

    def lines(self, kind: Kind) -> list[Line]:
        """The lines of a kind, in the order of their updates."""
        return self.training if kind == "training" else self.evaluations

    def series(self, name: str, kind: Kind = "training", group: int | None = None) -> Series:
        """A figure, or one group's of a figure that has one per group; what is not a finite number is left out."""
        points = []
        for line in self.lines(kind):
            value = line.get(name)
            if group is not None:
                value = value[group] if isinstance(value, list) and len(value) > group else None
            if is_number(value):
                points.append((float(line["update"]), float(value)))
        table = np.array(points, dtype=np.float64).reshape(-1, 2)
        return Series(table[:, 0], table[:, 1])

    def num_groups(self, name: str) -> int:
        """How many groups a figure is logged for."""
        return max((len(line[name]) for line in self.training if isinstance(line.get(name), list)), default=0)

    def last(self, name: str, kind: Kind = "training") -> Any:
        """The newest value of a figure, None if there is none."""
        return next((line[name] for line in reversed(self.lines(kind)) if line.get(name) is not None), None)

    def typical(self, name: str) -> float | None:
        """The median of a figure of training: one line may hold the start of the workers, or a busy machine."""
        values = self.series(name).values
        return float(np.median(values)) if len(values) else None

    def total(self, name: str) -> float:
        """The sum of a figure of training over all lines: of what each line counts for itself."""
        return float(self.series(name).values.sum())

    @property
    def updates(self) -> int:
        """Updates done, as far as log and checkpoints know."""
        return max([self.saved_update, *(int(line["update"]) for line in [*self.training, *self.evaluations])])

    @property
    def is_pretraining(self) -> bool:
        """Whether frames, masked or to come, were told from distractors, rather than texts recognised."""
        names = ("contrastive", "bits", "log_mel_error", "prediction")
        return any(self.series(name) for name in names) or self.num_groups("code_perplexity") > 0

    @property
    def is_base(self) -> bool:
        """Whether it is pretraining of a model of the size of BASE, for which there is a published curve."""
        parameters = self.facts.get("parameters")
        return self.is_pretraining and is_number(parameters) and 85e6 < parameters < 105e6


def is_number(value: object) -> TypeGuard[float]:
    """A finite number, not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_history(folder: Path | str) -> RunHistory:
    """Read `log.jsonl` and, if it is there, `codes.json`. Lines without an update or a known kind are left out."""
    history = RunHistory()
    lines = read_log(folder)
    for line in lines:
        if line.get("kind") in ("run", "resume"):  # whoever goes on may ask for more updates, on other hardware
            history.facts = history.facts | line
        elif line.get("kind") == "training" and is_number(line.get("update")):
            history.training.append(line)
        elif line.get("kind") == "evaluation" and is_number(line.get("update")):
            history.evaluations.append(line)
    for kept in (history.training, history.evaluations):
        kept.sort(key=lambda line: float(line["update"]))
    _read_codes(Path(folder) / CODES_FILE_NAME, history)
    saved = [update_of(path) or 0 for path in checkpoints_in(Path(folder) / "checkpoints")]
    history.saved_update = max(saved, default=0)
    unreadable = Path(folder) / UNREADABLE_FILE_NAME
    if unreadable.is_file():  # the list that the run keeps: TAB separated, with the header id, reason
        rows = [row.split("\t") for row in unreadable.read_text(encoding="utf-8", errors="replace").splitlines()[1:]]
        history.unreadable = [(row[0], row[1]) for row in rows if len(row) == 2]
    return history


def _read_codes(path: Path, history: RunHistory) -> None:
    """Add the counts of codes. A missing or damaged file costs the chart of the codebooks, not the report."""
    try:
        counts = np.array(json.loads(path.read_text(encoding="utf-8"))["counts"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError):
        return
    if counts.ndim == 2 and counts.size and np.isfinite(counts).all() and (counts >= 0).all():
        history.code_counts = counts


def perplexities(counts: NDArray[np.float64]) -> Sequence[float]:
    """exp of the entropy of each group's counts (G, V): how many equally likely codes they are worth."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    logarithms = np.log(np.where(shares > 0, shares, 1))
    return [float(value) for value in np.exp(-(shares * logarithms).sum(axis=1))]
