"""A full disk and a kill at any instant: what had been saved is there, and nothing half written is taken for whole."""

import builtins
import errno
import io
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from checkpointed_runs import Run, new_run, restore, save, save_without_end

from wav2vec2.training.saving import checkpoint_folders as folders
from wav2vec2.training.saving.checkpoints import Checkpoints, CheckpointWriteError

pytestmark = pytest.mark.slow

KILLS = 20


@pytest.fixture
def run() -> Iterator[Run]:
    """A run after one update."""
    run = new_run()
    run.train(0, 1)
    yield run
    AcceleratorState._reset_state(reset_partial_state=True)


class HalfWritten:
    """A file on a disk that becomes full in the middle of what is written."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, text: Any) -> None:
        self.file.write(text[: len(text) // 2])
        self.file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> "HalfWritten":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


@contextmanager
def watched_disk(at_each: Callable[[], bool]) -> Iterator[None]:
    """Ask `at_each` before every call that changes the disk; True: the disk is full now, and the call fails."""
    with pytest.MonkeyPatch.context() as patch:

        def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
            def fails_when_full(*args: Any, **kwargs: Any) -> Any:
                if at_each():
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return call(*args, **kwargs)

            return fails_when_full

        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            writes = "w" in mode
            if writes and at_each():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            result = real_open(file, mode, *args, **kwargs)
            return HalfWritten(result) if writes and at_each() else result

        real_open = io.open
        for call in ("mkdir", "rename", "fsync"):
            patch.setattr(os, call, guarded(getattr(os, call)))
        patch.setattr(shutil, "rmtree", guarded(shutil.rmtree))
        patch.setattr(builtins, "open", opened)
        patch.setattr(io, "open", opened)
        yield


def assert_nothing_partial(folder: Path) -> None:
    """Every entry is a whole checkpoint."""
    for entry in folder.iterdir():
        assert entry.name.startswith("update-") and folders.problem_with(entry) is None, entry


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["a new update", "the same update"])
def test_a_disk_that_is_full_at_any_call_costs_nothing_saved(again: bool, run: Run, tmp_path: Path) -> None:
    """The n-th call that writes fails, for every n until there is none to fail."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_last=2, keep_best=0)
    save(run, checkpoints, 1)
    errors = 0
    for n in range(1, 200):
        calls = iter(range(1, 10_000))
        failed: list[int] = []

        def full(n: int = n, calls: Iterator[int] = calls, failed: list[int] = failed) -> bool:
            if (number := next(calls)) == n:
                failed.append(number)
            return number == n

        update = 1 if again else n + 1
        before = checkpoints.newest()
        try:
            with watched_disk(full):
                save(run, checkpoints, update)
        except CheckpointWriteError as error:
            errors += 1
            assert error.__cause__ is not None and "No space left" in str(error) and "GiB were free" in str(error)
        newest = checkpoints.newest()
        assert newest is not None and newest in (before, checkpoints.folder / folders.name_of(update))
        assert restore(run, checkpoints).update in (update, folders.update_of(before) if before else None)
        leftovers = [entry.name for entry in checkpoints.folder.iterdir() if entry.name.startswith(".writing")]
        assert leftovers == []
        if not failed:
            break
    else:
        pytest.fail("there is always one more call to fail")
    assert errors >= 15
    save(run, checkpoints, update)
    assert_nothing_partial(checkpoints.folder)


def test_a_file_that_cannot_grow_costs_nothing_saved(run: Run, tmp_path: Path) -> None:
    """The system itself refuses to write past a size, for sizes that cut each file, those of tensors too."""
    resource = pytest.importorskip("resource")
    checkpoints = Checkpoints(tmp_path)
    first = save(run, checkpoints, 1)
    sizes = sorted({path.stat().st_size for path in first.rglob("*") if path.is_file()})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, *(size - 1 for size in sizes)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        try:
            with pytest.raises(CheckpointWriteError, match="File too large"):
                save(run, checkpoints, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert [path for path in tmp_path.iterdir()] == [first]
        assert checkpoints.newest() == first


@pytest.mark.parametrize("again", [False, True], ids=["a new update", "the same update"])
def test_a_kill_between_any_two_calls_costs_nothing_saved(again: bool, run: Run, tmp_path: Path) -> None:
    """The folder as it is at each call that changes the disk, which is what a kill there would leave."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_last=1, keep_best=0)
    save(run, checkpoints, 1)
    copies: list[Path] = []
    copying = False

    def copy() -> bool:
        nonlocal copying
        if not copying:
            copying = True
            copies.append(tmp_path / f"copy {len(copies)}")
            shutil.copytree(checkpoints.folder, copies[-1])
            copying = False
        return False

    with watched_disk(copy):
        save(run, checkpoints, 1 if again else 2)
    seen = set()
    for folder in copies:
        left = Checkpoints(folder, keep_last=1, keep_best=0)
        seen |= {entry.name.split("-")[0] for entry in folder.iterdir()}
        assert restore(run, left).update in (1, 2)
        save(run, left, 3)
        assert [entry.name for entry in folder.iterdir()] == ["update-00000003"]
    assert seen == {"update", ".writing", ".deleting"} | ({".replaced"} if again else set())


@pytest.mark.slow
def test_twenty_kills_lose_nothing_that_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does nothing but save is killed at random instants, and goes on from where it was."""
    context, folder, report = get_context("forkserver"), tmp_path / "checkpoints", tmp_path / "checkpoints.txt"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # where the server that forks looks for what it imports
    context.set_forkserver_preload(["checkpointed_runs"])
    rng, saved, leftovers = random.Random(0), 0, 0
    checkpoints = Checkpoints(folder, keep_last=1)
    for kill in range(KILLS):
        lines = 1 + kill % 2  # before anything was saved, or after something was, however slow the machine
        report.unlink(missing_ok=True)
        process = context.Process(target=save_without_end, args=(folder,))
        process.start()
        assert process.pid is not None
        wait_for_lines(report, lines)
        time.sleep(rng.uniform(0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        saved = max([saved, *(int(line) for line in report.read_text().split("\n")[1:-1])])
        leftovers += any(entry.name.startswith(".") for entry in folder.iterdir()) if folder.exists() else 0
        newest = checkpoints.newest()
        found = folders.update_of(newest) if newest else 0
        assert found in (saved, saved + 1)  # one may have been saved, but not been reported yet
        saved = found
    run = new_run(seed=1)
    update = restore(run, checkpoints).update
    straight = new_run()
    straight.train(0, update)
    assert update >= KILLS // 2 and leftovers > 0
    assert all(torch.equal(value, straight.state()[name]) for name, value in run.state().items())
    AcceleratorState._reset_state(reset_partial_state=True)


def wait_for_lines(path: Path, lines: int) -> None:
    """Until a file has so many, or a minute has passed."""
    end = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < end, "the process did not start"
        time.sleep(0.005)
