"""Trackers that a run may write to besides its log: tensorboard and trackio. They get numbers, nothing else.

These are not the trackers of Accelerate (`Accelerator(log_with=...)`), for two reasons. `init_trackers` hands one
name to all trackers, which would be the folder of tensorboard's files and the project of trackio at once, so that the
two could not keep the places that they have. And a log can be written without an Accelerator, by whoever continues a
run or tests one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Tracker:
    """A program that draws the figures of runs: `log` hands over the figures at an update, by their names, and `close`
    writes out what is left."""

    log: Callable[[int, Mapping[str, float]], None]
    close: Callable[[], None]


def _tensorboard(folder: Path, begin_at: int) -> Tracker:
    """Event files in `tensorboard/`. What an interrupted run wrote after `begin_at` is hidden."""
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=begin_at + 1 if begin_at else None)

    def log(update: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, update)

    return Tracker(log, writer.close)


def _trackio(folder: Path, begin_at: int) -> Tracker:
    """A run, named as its folder, of the project "wav2vec2" in trackio's local database."""
    import trackio

    trackio.init(project="wav2vec2", name=folder.resolve().name, resume="allow" if begin_at else "never")
    return Tracker(lambda update, values: trackio.log(dict(values), step=update), trackio.finish)


_TRACKERS = {"tensorboard": _tensorboard, "trackio": _trackio}


def open_trackers(names: Sequence[str], folder: Path, begin_at: int) -> list[Tracker]:
    """All trackers that are asked for; an error that says what to install for the first that is not there."""
    unknown = [name for name in names if name not in _TRACKERS]
    if unknown:
        raise ValueError(f"run.trackers={list(names)}: {unknown[0]!r} is none of {', '.join(_TRACKERS)}")
    opened = []
    for name in dict.fromkeys(names):
        try:
            opened.append(_TRACKERS[name](folder, begin_at))
        except ImportError as error:
            raise ImportError(
                f"run.trackers={list(names)}: {name} is not installed ({error}); "
                f'install it with pip install {name}, or with pip install "wav2vec2[train]"'
            ) from error
    return opened
