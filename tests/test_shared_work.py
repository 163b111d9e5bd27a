"""Work divided through a folder: each unit once, units of dead processes taken over, nothing lost, nothing twice."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from wav2vec2.files.shared_work import Claims, FixedShare, LostClaimError

#: What a process does: each unit in three steps of a tenth of a second; a line in `begun` and one in its result.
WORKER = """
import os, sys, time
from pathlib import Path
from wav2vec2.files.shared_work import Claims

folder, count, lease = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
results = [folder / f"{number}.done" for number in range(count)]
for number, check in Claims(folder / "claims", lease, lambda units: None).units(results):
    with (folder / "begun").open("a") as file:
        file.write(f"{number} {os.getpid()}\\n")
    for _ in range(3):
        time.sleep(0.1)
        check()
    partial = folder / f"{number}.{os.getpid()}"
    partial.write_text(str(os.getpid()))
    partial.replace(results[number])
"""


@contextmanager
def workers(folder: Path, processes: int, units: int, lease: float) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes at work; none is left afterwards."""
    command = [sys.executable, "-c", WORKER, str(folder), str(units), str(lease)]
    started = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def begun(folder: Path) -> list[tuple[int, int]]:
    """Unit and process, in the order in which they were begun."""
    lines = (folder / "begun").read_text().splitlines() if (folder / "begun").exists() else []
    return [(int(number), int(process)) for number, process in map(str.split, lines)]


def wait_for(what: object, seconds: float = 60.0) -> None:
    """Until `what()` is true."""
    until = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


@pytest.mark.slow
def test_three_processes_do_each_unit_once(tmp_path: Path) -> None:
    """No unit is begun twice; all take part; nothing is left but the results."""
    with workers(tmp_path, 3, units=12, lease=30.0) as started:
        assert [process.wait(60) for process in started] == [0, 0, 0]
    done = begun(tmp_path)
    assert sorted(number for number, _ in done) == list(range(12))
    assert {process for _, process in done} == {process.pid for process in started}
    for number, process in done:
        assert (tmp_path / f"{number}.done").read_text() == str(process)
    assert list((tmp_path / "claims").iterdir()) == []


@pytest.mark.slow
def test_the_unit_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    """`kill -9` in the middle of a unit: another process does that unit again, and no other unit is done twice."""
    with workers(tmp_path, 2, units=8, lease=1.2) as started:
        victim = started[0]
        wait_for(lambda: any(process == victim.pid for _, process in begun(tmp_path)))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        assert started[1].wait(60) == 0
    done = begun(tmp_path)
    lost = [number for number, process in done if (tmp_path / f"{number}.done").read_text() != str(process)]
    assert len(lost) <= 1 and len(done) == 8 + len(lost)
    assert sorted({number for number, _ in done}) == list(range(8))
    assert not list((tmp_path / "claims").glob("*.[01]"))


def results_of(folder: Path, count: int) -> list[Path]:
    return [folder / f"{number}.done" for number in range(count)]


def claims(folder: Path, lease: float = 60.0) -> Claims:
    return Claims(folder / "claims", lease, lambda units: None)


def test_of_those_that_see_a_dead_claim_one_gets_it(tmp_path: Path) -> None:
    """Twenty threads at the same moment, again and again: always exactly one."""
    results = results_of(tmp_path, 1)
    (tmp_path / "claims").mkdir()
    for attempt in range(10):
        gate = threading.Barrier(20)
        got: list[object] = []

        def take(gate: threading.Barrier = gate, got: list[object] = got) -> None:
            one = claims(tmp_path)
            gate.wait()
            if (claim := one._claimed(results[0])) is not None:
                got.append(claim)

        threads = [threading.Thread(target=take) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        held = sorted((tmp_path / "claims").glob("*.[0-9]"))
        assert len(held) == attempt + 1
        os.utime(held[-1], (0, 0))  # it dies


def test_who_was_away_too_long_is_told(tmp_path: Path) -> None:
    """A process whose unit was taken over, and finished, by another does not go on with it, and may not write it."""
    results = results_of(tmp_path, 1)
    with closing(claims(tmp_path).units(results)) as first, closing(claims(tmp_path).units(results)) as second:
        _, check = next(first)
        check()
        for claim in (tmp_path / "claims").glob("*.0"):
            os.utime(claim, (0, 0))  # suspended for long
        _, other = next(second)
        other()
        with pytest.raises(LostClaimError):
            check()
        results[0].write_text("second")
        assert next(second, None) is None
        with pytest.raises(LostClaimError):
            check()
        assert next(first, None) is None


def numbers(units: Iterator[tuple[int, object]], results: Sequence[Path], write: bool = True) -> list[int]:
    found = []
    for number, _ in units:
        found.append(number)
        if write:
            results[number].write_text("")
    return found


def test_what_stops_gives_its_unit_back_at_once(tmp_path: Path) -> None:
    results = results_of(tmp_path, 3)
    with closing(claims(tmp_path).units(results)) as stopped:
        number, _ = next(stopped)
    assert sorted(numbers(claims(tmp_path).units(results), results)) == [0, 1, 2]
    assert results[number].exists()


def test_what_cannot_be_finished_is_tried_once(tmp_path: Path) -> None:
    """Units that this process fails to do do not keep it for ever."""
    results = results_of(tmp_path, 3)
    assert sorted(numbers(claims(tmp_path).units(results), results, write=False)) == [0, 1, 2]


def test_a_process_waits_for_what_others_are_at(tmp_path: Path) -> None:
    """It is told how many units, may leave there, and does not look at finished ones."""
    results = results_of(tmp_path, 4)
    results[2].write_text("")
    told: list[int] = []

    def waiting(units: int) -> None:
        told.append(units)
        raise KeyboardInterrupt

    with closing(claims(tmp_path).units(results)) as busy:
        mine, _ = next(busy)
        other = Claims(tmp_path / "claims", 60.0, waiting).units(results)
        found = []
        with pytest.raises(KeyboardInterrupt):
            for number, _ in other:
                found.append(number)
                results[number].write_text("")
        assert sorted([*found, mine, 2]) == [0, 1, 2, 3]
        assert told == [1]


def test_more_units_may_come_while_others_work(tmp_path: Path) -> None:
    """A claim is known by its result's name, whatever its number is in another process."""
    results = results_of(tmp_path, 3)
    with closing(claims(tmp_path).units(results[1:2])) as earlier:
        next(earlier)
        with closing(claims(tmp_path).units(results)) as later:
            assert sorted([next(later)[0], next(later)[0]]) == [0, 2]


@pytest.mark.parametrize("parts", [1, 3, 5])
def test_fixed_shares_are_a_partition(tmp_path: Path, parts: int) -> None:
    results = results_of(tmp_path, 7)
    results[3].write_text("")
    shares = [numbers(FixedShare(first, parts).units(results), results, write=False) for first in range(parts)]
    assert sorted(number for share in shares for number in share) == [0, 1, 2, 4, 5, 6]
