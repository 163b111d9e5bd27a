"""The output folder of a run: held while it is at work, where the run goes on from, and what it gives in the end."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import typer
from accelerate import Accelerator

from wav2vec2.training.saving.checkpoint_folders import written_aside
from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.saving.consolidation import write_model
from wav2vec2.training.saving.main_process import told_by_main
from wav2vec2.training.saving.training_state import TrainingState
from wav2vec2.training.settings.run_config import Run


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


def take_output(folder: Path) -> IO[bytes] | None:
    """Hold the folder until the returned file is closed, or the process ends in whatever way: of two runs in it, each
    would write over the other's log and checkpoints.

    None where the system or the disk knows no locks (Windows, some network shares): there, care is the user's.
    """
    try:
        import fcntl
    except ImportError:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".running").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StartError(f"{folder}: another run is at work in it; wait for it, or choose another output") from None
    except OSError:
        file.close()
        return None
    return file


@dataclass
class RunOutput:
    """The output folder of a run that is at work in it."""

    #: Where it is.
    folder: Path
    #: Whether this process is the one that writes into it.
    main: bool
    #: The checkpoints in it.
    checkpoints: Checkpoints
    #: The newest whole checkpoint of the start, None of a new run.
    newest: Path | None
    #: Where the run stands, once its newest checkpoint is restored.
    state: TrainingState = field(default_factory=TrainingState)


@contextmanager
def held_output(run: Run, accelerator: Accelerator, resume: bool) -> Iterator[RunOutput]:
    """Hold the output folder, and say where to go on from, as the main process sees it.

    The checkpoints of another run are not written over. What is wrong is raised on all processes. When the context is
    left without an error, the finished model lies in the folder `model`, with the report beside it.
    """
    folder, main = Path(run.run.output), accelerator.is_main_process
    kept, in_parts = (run.run.keep_last, run.run.keep_best), run.run.save_in_parts
    checkpoints = Checkpoints(folder / "checkpoints", *kept, in_parts=in_parts)

    with ExitStack() as held:

        def enter() -> Path | None:
            require_output(folder)
            lock = take_output(folder)
            if lock is not None:
                held.enter_context(lock)
            newest = checkpoints.newest()
            if newest is not None and not resume:
                raise StartError(
                    f"{checkpoints.folder} holds the checkpoints of a run: resume it, or choose another output"
                )
            return newest

        newest = told_by_main(accelerator, enter, lambda error: StartError(str(error)))
        output = RunOutput(folder, main, checkpoints, newest)
        yield output
    if main and output.state.update >= run.run.updates:
        publish_model(checkpoints, folder / "model")
        typer.echo(f"model: {folder / 'model'}", err=True)
    if main and run.run.report:
        report(folder)
    if main and (folder / "unreadable.tsv").is_file():
        typer.echo(f"recordings that could not be read: {folder / 'unreadable.tsv'}", err=True)
    accelerator.wait_for_everyone()


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
    with written_aside(target) as fresh:
        write_model(source, fresh)
        shutil.rmtree(target, ignore_errors=True)
