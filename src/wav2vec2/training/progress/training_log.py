"""The log of a run: JSON lines in `log.jsonl` always; a bar or plain lines on standard error; trackers on request.

A line is one JSON object: `"kind": "run"` (facts of the run, once at the top), `"resume"` (facts of a later start),
`"training"`, `"evaluation"`. A number that is not finite is written as null, since JSON has no other word for it.

The trackers are not those of Accelerate (`Accelerator(log_with=...)`), for two reasons. `init_trackers` hands one name
to all trackers, which would be the folder of tensorboard's files and the project of trackio at once, so that the two
could not keep the places that they have. And a log can be written without an Accelerator, by whoever continues a run or
tests one.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.training.progress.progress_display import TimeLeft, progress_display

FILE_NAME = "log.jsonl"
CODES_FILE_NAME = "codes.json"


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


class TrainingLog:
    """Writes the log of a run, in its main process (`main=True`) alone: elsewhere every method does nothing.

    `begin_at` is the update that a resumed run begins after. Each line is handed to the system as soon as it is
    written, so that a killed run loses none. A checkpoint keeps the `mark` of the log; the run that is resumed from it
    uses `truncate_to` to cut off the lines of the updates that it will do again.
    """

    def __init__(
        self,
        folder: Path | str,
        trackers: Sequence[str] = (),
        total_updates: int | None = None,
        *,
        quiet: bool = False,
        main: bool = True,
        begin_at: int = 0,
    ) -> None:
        self.path = Path(folder) / FILE_NAME
        self.main = main
        self._stream: IO[str] | None = None
        self._trackers: list[Tracker] = []
        if main:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._trackers = open_trackers(trackers, self.path.parent, begin_at)
        self._time_left = TimeLeft(total_updates)
        self._display = progress_display(total_updates, begin_at) if main and not quiet else None

    def mark(self) -> int:
        """The size of the log in bytes, once all of it is on the disk: a checkpoint keeps it for `truncate_to`."""
        if not self.main or not self.path.exists():
            return 0
        stream = self._opened()
        stream.flush()
        with suppress(OSError):  # of a full disk the checkpoint will tell; a log that lost its end may be resumed too
            os.fsync(stream.fileno())
        return self.path.stat().st_size

    def truncate_to(self, size: int) -> None:
        """Cut off what was written after the checkpoint with this `mark`. A log that is shorter stays as it is."""
        if not self.main or not self.path.exists() or self.path.stat().st_size <= size:
            return
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        os.truncate(self.path, size)

    def header(self, facts: Mapping[str, Any]) -> None:
        """Write the facts of the run: parameters, hours, versions, hardware, seed. No paths and no names of users."""
        if self.main:
            fresh = not self.path.exists() or self.path.stat().st_size == 0
            self._append({"kind": "run" if fresh else "resume", **facts})

    def training(self, update: int, figures: Mapping[str, Any]) -> None:
        """Write the figures of training since the line before, up to this update."""
        self._figures("training", update, figures)

    def evaluation(self, update: int, figures: Mapping[str, Any]) -> None:
        """Write the figures of an evaluation after this update."""
        self._figures("evaluation", update, figures)

    def codes(self, update: int, counts: object) -> None:
        """Keep for the report how often each code was chosen (G groups, V entries), the newest counts alone."""
        if self.main:
            with replaced_file(self.path.with_name(CODES_FILE_NAME)) as stream:
                stream.write(json.dumps(_jsonable({"update": update, "counts": counts})).encode() + b"\n")

    def advance(self, update: int) -> None:
        """Show that so many updates are done. How long the rest takes is said once, as soon as it is known."""
        if self._display is None:
            return
        if self._time_left.advance(update):
            self._display.note(f"about {self._time_left.words}")
        self._display.advance(update, self._time_left.words)

    def note(self, text: str) -> None:
        """Show a sentence to whoever is watching; the log does not keep it."""
        if self._display is not None:
            self._display.note(text)

    def stop_display(self) -> None:
        """Leave the terminal as it was, of a process that is about to end."""
        if self._display is not None:
            self._display.close()

    def close(self) -> None:
        """Finish the bar, the trackers and the file."""
        if self._display is not None:
            self._display.close()
        for tracker in self._trackers:
            tracker.close()
        if self._stream is not None:
            self._stream.close()
        self._stream, self._display, self._trackers = None, None, []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _figures(self, kind: str, update: int, figures: Mapping[str, Any]) -> None:
        if not self.main:
            return
        self._append({"kind": kind, "update": update, **figures})
        for tracker in self._trackers:
            tracker.log(update, scalars(kind, figures))
        if self._display is not None:
            self._display.figures(kind, update, figures, self._time_left.words)

    def _append(self, line: Mapping[str, Any]) -> None:
        stream = self._opened()
        stream.write(json.dumps(_jsonable(line), ensure_ascii=False, allow_nan=False) + "\n")
        stream.flush()

    def _opened(self) -> IO[str]:
        if self._stream is None:
            with self.path.open("a+b") as written:
                written.seek(max(written.tell() - 1, 0))
                unfinished = written.read() not in (b"", b"\n")
            self._stream = self.path.open("a", encoding="utf-8", newline="\n")
            if unfinished:
                self._stream.write("\n")  # a line that a crash cut short must not spoil the next one
        return self._stream


def _jsonable(value: object) -> Any:
    """Mappings, lists and numbers as JSON has them; numbers of other libraries through their `item` or `tolist`."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    return str(value)


def scalars(kind: str, figures: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among the figures, those of a list one by one: `training/code_perplexity/0`.

    >>> scalars("training", {"loss": 6.5, "code_perplexity": [40.0, 60.0], "samples": ["a"], "bits": float("nan")})
    {'training/loss': 6.5, 'training/code_perplexity/0': 40.0, 'training/code_perplexity/1': 60.0}
    """
    found: dict[str, float] = {}
    for name, value in figures.items():
        parts = {f"/{i}": part for i, part in enumerate(value)} if isinstance(value, list | tuple) else {"": value}
        for suffix, part in parts.items():
            if isinstance(part, int | float) and not isinstance(part, bool) and math.isfinite(part):
                found[f"{kind}/{name}{suffix}"] = float(part)
    return found


def read_log(folder: Path | str) -> list[dict[str, Any]]:
    """All lines of a log, oldest first. A line that a crash cut short is left out."""
    path = Path(folder)
    path = path / FILE_NAME if path.is_dir() else path
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines
