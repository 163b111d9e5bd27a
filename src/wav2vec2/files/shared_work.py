"""Work that many processes and machines divide among themselves through the files of one folder, without a coordinator.

A unit of work has the file of its result, and is finished when that is there. Who is at a unit says so by a file that
only one process can create, the claim, and renews the time of that file again and again. A claim that is not renewed is
that of a process that has died or was cut off: the next one creates the claim behind it, which again only one can.
Nothing is deleted or renamed to take a unit over, since another process may have looked at it just before. A process
that finds its unit taken over leaves its own result away; if both write one, it is one file, whole, all the same.

All times are those of the storage, read from files that this process has just renewed there, so that the clocks of
machines do not matter.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Protocol
from uuid import uuid4

#: How often a claim is renewed in the time after which it counts as left.
_RENEWALS = 6

#: Seconds after which a process that waits looks again, at first; then twice as many each time, up to a renewal's.
_FIRST_LOOK = 0.25


class LostClaimError(Exception):
    """Somebody else is at this unit now, since this process did not renew its claim for too long."""


class Claim:
    """What this process holds of a unit of work: a file, and the one by which another would take the unit over."""

    def __init__(self, file: Path, successor: Path) -> None:
        self._file, self._successor = file, successor

    @property
    def is_lost(self) -> bool:
        """Whether somebody else is at it, or was and is finished."""
        return self._successor.exists() or not self._file.exists()

    def check(self) -> None:
        """Raise `LostClaimError` if somebody else is at it: called where the work can be left."""
        if self.is_lost:
            raise LostClaimError

    @contextmanager
    def renewed(self, every: float) -> Iterator[None]:
        """Inside, a thread says again and again that this process is still at it."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(every):
                try:
                    os.utime(self._file)
                except OSError:  # the storage is away for a while, or the claim is lost: `check` says which
                    continue

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def give_up(self) -> None:
        """Whoever looks next may take it over at once."""
        if not self.is_lost:
            os.utime(self._file, (0, 0))


class Division(Protocol):
    """How the units of work are divided among processes."""

    def units(self, results: Sequence[Path]) -> Generator[tuple[int, Callable[[], None]]]:
        """The numbers of the units that this process is to do, one after the other, and what to call now and then: it
        raises `LostClaimError` where another process has taken the unit over."""


class FixedShare:
    """Every `of`-th unit, from number `first` on: for machines without a folder in which all can claim files."""

    def __init__(self, first: int, of: int) -> None:
        self._first, self._of = first, of

    def units(self, results: Sequence[Path]) -> Generator[tuple[int, Callable[[], None]]]:
        """Those of this share that have no result."""
        for number in range(self._first, len(results), self._of):
            if not results[number].exists():
                yield number, lambda: None


class Claims:
    """The next unit that nobody is at; one whose claim is not renewed for `lease` seconds is free again.

    `folder` holds the claims. Processes begin at different places, so that they seldom try for the same unit. When none
    is free this process waits until all are finished or one is free, and calls `waiting` now and then with how many
    there are. A unit that it was given and did not finish it is not given again, unless another has taken it over.
    """

    def __init__(self, folder: Path, lease: float, waiting: Callable[[int], None]) -> None:
        self._folder, self._lease, self._waiting = folder, lease, waiting
        self._token = uuid4().hex
        self._clock = folder / f"{self._token}.now"

    def units(self, results: Sequence[Path]) -> Generator[tuple[int, Callable[[], None]]]:
        """Units until every one has a result, or was tried here."""
        self._folder.mkdir(parents=True, exist_ok=True)
        begin = Random(self._token).randrange(max(len(results), 1))
        left = [number % len(results) for number in range(begin, begin + len(results))]
        pause = _FIRST_LOOK
        try:
            while left := [number for number in left if not results[number].exists()]:
                tried: set[int] = set()
                for number in left:
                    claim = self._claimed(results[number])
                    if claim is not None:
                        with self._held(claim, results[number]):
                            yield number, claim.check
                            tried |= set() if claim.is_lost else {number}
                left = [number for number in left if number not in tried and not results[number].exists()]
                pause = _FIRST_LOOK if tried else min(2 * pause, self._lease / _RENEWALS)
                self._wait(len(left), pause)
        finally:
            self._clock.unlink(missing_ok=True)

    def _wait(self, units: int, pause: float) -> None:
        until = time.monotonic() + pause
        while units and (seconds := until - time.monotonic()) > 0:
            self._waiting(units)
            time.sleep(min(seconds, 1.0))

    @contextmanager
    def _held(self, claim: Claim, result: Path) -> Iterator[None]:
        """Renewed inside; afterwards nothing is kept of a finished unit but its result, and others are free."""
        try:
            with claim.renewed(self._lease / _RENEWALS):
                yield
        finally:
            if result.exists():
                self._clear(result)
            else:
                claim.give_up()

    def _claimed(self, result: Path) -> Claim | None:
        """The claim of a unit, if it is free."""
        before = 0
        while (there := self._file(result, before)).exists():
            if not self._file(result, before + 1).exists() and not self._is_left(there):
                return None
            before += 1
        try:
            there.touch(exist_ok=False)
        except FileExistsError:  # another was quicker
            return None
        if result.exists():  # finished, and its claims deleted, while this process looked
            there.unlink(missing_ok=True)
            return None
        return Claim(there, self._file(result, before + 1))

    def _clear(self, result: Path) -> None:
        number = 0
        while (file := self._file(result, number)).exists():
            file.unlink(missing_ok=True)
            number += 1

    def _is_left(self, claim: Path) -> bool:
        """Whether nobody has renewed a claim for too long, by the storage's own clock."""
        self._clock.touch()
        try:
            return self._clock.stat().st_mtime - claim.stat().st_mtime > self._lease
        except FileNotFoundError:  # finished just now
            return False

    def _file(self, result: Path, number: int) -> Path:
        """The claims of a unit, by the name of its result, since other processes may know of more units."""
        name = os.path.relpath(result, self._folder)
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:20]}.{number}"
