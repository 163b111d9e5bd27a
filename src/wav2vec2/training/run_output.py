"""The output folder of a run: held while it is at work, with what the run was asked to be and what it gives in the
end; and where a run goes on from."""

import json
import os
import re
import shutil
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import typer
from accelerate import Accelerator

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.saving.main_process import told_by_main
from wav2vec2.training.saving.output_lock import take_output
from wav2vec2.training.saving.training_state import TrainingState
from wav2vec2.training.settings.run_config import Run, to_dict

RUN_FILE = "run.json"

#: What may change between two starts without a word: how often is looked, how much is kept, how fast it goes.
_FREE = (
    *("run.output", "run.log_every", "run.keep", "run.trackers", "run.report", "run.save"),
    *("data.workers", "data.cache", "origin."),
)

#: Of a source that came or went, its path says enough.
_DETAIL = re.compile(r"data\.(train|valid)\.\d+\.(?!path$).*")


class StartError(ValueError):
    """A run that cannot be started, and what would be right."""

    #: Every process of a run raises it, so one of them is enough to say it.
    on_all_processes = True


def require_output(output: Path) -> None:
    """Writing is tried, since permissions say little: a disk may be full, a file system read-only."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StartError(
            f"run.output={output}: cannot be written to ({error.strerror}); give another folder"
        ) from error


def enter_output(
    accelerator: Accelerator, checkpoints: Checkpoints, resume: bool
) -> tuple[AbstractContextManager[Any], Path | None]:
    """Hold the output folder, and say where to go on from, as the main process sees it.

    The checkpoints of another run are not written over. What is wrong is raised on all processes.
    """
    held: list[AbstractContextManager[Any] | None] = []

    def enter() -> Path | None:
        try:
            held.append(take_output(checkpoints.folder.parent))
            newest = checkpoints.newest()
        except ValueError as error:
            raise StartError(str(error)) from error
        if newest is not None and not resume:
            raise StartError(
                f"{checkpoints.folder} holds the checkpoints of a run: resume it, or choose another output"
            )
        return newest

    newest = told_by_main(accelerator, enter, lambda error: StartError(str(error)))
    return next(filter(None, held), nullcontext()), newest


def write_run(run: Run, output: Path) -> None:
    """The resolved run, whole or not at all, so that it can be repeated."""
    output.mkdir(parents=True, exist_ok=True)
    with replaced_file(output / RUN_FILE) as file:
        file.write((json.dumps(to_dict(run), indent=2) + "\n").encode())


def changes(run: Run, output: Path) -> list[str]:
    """How a run that goes on differs from the one that began, a sentence each."""
    path = output / RUN_FILE
    if not path.is_file():
        return []
    before, now = _leaves(json.loads(path.read_text(encoding="utf-8"))), _leaves(to_dict(run))
    return [
        f"changed since the run began: {key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(_FREE) and not _is_told_elsewhere(key, before, now)
    ]


def _is_told_elsewhere(key: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """An empty list or section that is filled, or the details of what fills it: the new value's main key tells."""
    empty = {repr(before.get(key)), repr(now.get(key))} in ({"[]", "None"}, {"{}", "None"})
    return empty or ((key not in before or key not in now) and _DETAIL.fullmatch(key) is not None)


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values."""
    if isinstance(tree, dict) and tree:
        items = tree.items()
    elif isinstance(tree, list) and tree:
        items = {str(index): value for index, value in enumerate(tree)}.items()
    else:
        return {prefix: tree}
    return {
        key: value for name, child in items for key, value in _leaves(child, f"{prefix}.{name}".lstrip(".")).items()
    }


def finish(run: Run, checkpoints: Checkpoints, output: Path, state: TrainingState) -> None:
    """The finished model and the report, and where they are."""
    if state.update >= run.run.updates:
        publish_model(checkpoints, output / "model")
        typer.echo(f"model: {output / 'model'}", err=True)
    if run.run.report:
        report(output)
    if (output / "unreadable.tsv").is_file():
        typer.echo(f"recordings that could not be read: {output / 'unreadable.tsv'}", err=True)


def report(output: Path) -> None:
    """The one-page report, where matplotlib is there to draw it."""
    from wav2vec2.training.progress.report import write_report

    try:
        typer.echo(f"report: {write_report(output)[0]}", err=True)
    except ImportError as error:
        typer.echo(f"no report: {error}", err=True)


def publish_model(checkpoints: Checkpoints, target: Path) -> None:
    """The best checkpoint, or without evaluations the last, as a model folder without the state of training."""
    source = checkpoints.best() or checkpoints.newest()
    if source is None:
        return
    fresh = target.with_name(f".{target.name}-being-written")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, ignore=shutil.ignore_patterns("training_state"))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
