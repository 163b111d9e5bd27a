"""Stages that are done once: each leaves a marker with what it found and what it took, so that a second start goes on.

A stage that was interrupted leaves what it took so far, which is added when it is taken up again.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wav2vec2.files.replaced_file import replaced_file

Say = Callable[[str], None]


class StoppedError(RuntimeError):
    """A stage was asked to stop and has saved where it is."""


@dataclass(frozen=True)
class StageRecord:
    """What is kept of a stage."""

    #: What it took by the clock.
    wall_seconds: float = 0.0
    #: What it took of all processors together.
    cpu_seconds: float = 0.0
    #: False as long as it was only interrupted.
    done: bool = False
    #: What it has to say.
    lines: list[str] = field(default_factory=list)


class ResumableStages:
    """Runs stages one after the other and keeps their records in `folder`."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder, self.say = folder, say
        self.records: dict[str, StageRecord] = {}

    def run(self, name: str, work: Callable[[], list[str]]) -> None:
        """Do the work unless it is done; say what it found."""
        record = self._read(name)
        if record.done:
            self.say(f"\n{name}: done before, in {record.wall_seconds:.0f} s")
        else:
            self.say(f"\n{name} ...")
            record = self._carried_out(name, record, work)
        for line in record.lines:
            self.say(f"  {line}")
        self.records[name] = record

    def times(self) -> list[str]:
        """A table of what each stage took."""
        rows = [(name, one.wall_seconds, one.cpu_seconds) for name, one in self.records.items()]
        rows.append(("together", sum(row[1] for row in rows), sum(row[2] for row in rows)))
        return [f"{'':24}{'clock':>8}{'processors':>12}", *(f"{name:24}{a:>6.0f} s{b:>10.0f} s" for name, a, b in rows)]

    def _carried_out(self, name: str, before: StageRecord, work: Callable[[], list[str]]) -> StageRecord:
        clock = _Clock()
        try:
            lines = work()
        except BaseException:
            self._write(name, clock.record(before))
            raise
        record = clock.record(before, done=True, lines=lines)
        self._write(name, record)
        return record

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '_')}.json"

    def _read(self, name: str) -> StageRecord:
        try:
            return StageRecord(**json.loads(self._path(name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return StageRecord()
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self._path(name)}: is no record of a stage ({error}); start over with --fresh"
            ) from error

    def _write(self, name: str, record: StageRecord) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with replaced_file(self._path(name)) as stream:
            stream.write((json.dumps(asdict(record), indent=1) + "\n").encode("utf-8"))


class _Clock:
    """Measures the time since it was made."""

    def __init__(self) -> None:
        self._wall, self._processors = time.perf_counter(), _processor_seconds()

    def record(self, before: StageRecord, done: bool = False, lines: Sequence[str] = ()) -> StageRecord:
        """What was taken since, on top of what was taken before."""
        wall, processors = time.perf_counter() - self._wall, _processor_seconds() - self._processors
        return StageRecord(before.wall_seconds + wall, before.cpu_seconds + processors, done, list(lines))


def _processor_seconds() -> float:
    """Of this process and of those it has started and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
