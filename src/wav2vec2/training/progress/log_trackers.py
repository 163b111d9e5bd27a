"""Trackers that a run may write to besides its log: tensorboard and trackio. They get numbers, nothing else."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Somewhere else where figures go."""

    def log(self, update: int, values: Mapping[str, float]) -> None:
        """The figures at an update."""

    def close(self) -> None:
        """Write out what is left."""


class TensorboardTracker:
    """Event files in `tensorboard/`. What an interrupted run wrote after `begin_at` is hidden."""

    def __init__(self, folder: Path, begin_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = begin_at + 1 if begin_at else None
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=purge)

    def log(self, update: int, values: Mapping[str, float]) -> None:
        """One scalar per name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, update)

    def close(self) -> None:
        """Write out what is left."""
        self._writer.close()


class TrackioTracker:
    """A run, named as its folder, of the project "wav2vec2" in trackio's local database."""

    def __init__(self, folder: Path, begin_at: int) -> None:
        import trackio

        self._trackio: Any = trackio
        trackio.init(project="wav2vec2", name=folder.resolve().name, resume="allow" if begin_at else "never")

    def log(self, update: int, values: Mapping[str, float]) -> None:
        """All of them as one step."""
        self._trackio.log(dict(values), step=update)

    def close(self) -> None:
        """Write out what is left."""
        self._trackio.finish()


_TRACKERS: dict[str, Callable[[Path, int], Tracker]] = {"tensorboard": TensorboardTracker, "trackio": TrackioTracker}


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
