"""`wav2vec2 transcribe` of manifests and shards: this process's share of a corpus, and what became of it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.stopping import STOPPED, Stop, stoppable
from wav2vec2.command_line.transcript_files import try_writing
from wav2vec2.evaluation.figures_in_words import duration
from wav2vec2.files.replaced_file import replaced_file

if TYPE_CHECKING:
    from wav2vec2.files.shared_work import Division
    from wav2vec2.inference.corpus_transcripts import UnitReport
    from wav2vec2.inference.transcript import Timestamps
    from wav2vec2.inference.voice_activity import SilenceRules
    from wav2vec2.shards.clip_collections import Unit

#: Seconds after which a unit whose process does not renew its claim is free for others: more than a network file system
#: may show old times of files (a minute, by default of NFS).
LEASE = 120.0

#: Files in the folder of the results: what they were found with, and the claims.
CONDITIONS, CLAIMS = "conditions.json", ".claims"

#: Faults that are listed at the end; all are in the files.
_LISTED = 20


def is_corpus(given: Sequence[str]) -> bool:
    """Whether these name manifests and shards, and not files of audio."""
    from wav2vec2.shards.clip_collections import are_collections

    return are_collections(given)


class CorpusRun:
    """What one process does of a corpus: the `part` (K/N) that it is told, or what no other process is at."""

    def __init__(self, recogniser: Recogniser, timestamps: "Timestamps", output: Path | None, part: str | None) -> None:
        self._recogniser, self._timestamps = recogniser, timestamps
        self._output = output or Path()
        self._has_output, self._part = output is not None, _part_of(part)
        self._reports: list[UnitReport] = []
        self._told_of = 0

    def refuse(self, format: str | None, others: Mapping[str, bool]) -> None:
        """What a corpus does not have is a bad option; so are `others` that were given."""
        if not self._has_output:
            raise typer.BadParameter("transcripts of a corpus need a folder", param_hint="--output")
        if format not in (None, "jsonl"):
            raise typer.BadParameter(f"a corpus is written as jsonl, not as {format}", param_hint="--format")
        for option, given in others.items():
            if given:
                raise typer.BadParameter("is for files of audio, not for manifests and shards", param_hint=option)

    def execute(self, given: Sequence[str], silence: "SilenceRules | None") -> None:
        """Do this process's share; exits with 1 if clips or shards could not be used, with 130 after Ctrl-C."""
        from wav2vec2.inference.corpus_transcripts import Wanted, transcribe_units
        from wav2vec2.shards.clip_collections import units_of

        units = units_of(given)
        results = [self._output / f"{unit.place}.jsonl" for unit in units]
        _check_unchanged(units, results)
        if not (left := self._left(results)):
            typer.echo(f"all {len(units)} units are finished: {self._output}", err=True)
            return
        try_writing(self._output)
        self._recogniser.check()
        self._keep_conditions(silence)
        typer.echo(f"{left} of {len(units)} units are left to do", err=True)
        transcriber = self._recogniser.load()
        begun = time.monotonic()
        with stoppable("transcribe: stopping when this batch is done; Ctrl-C again stops at once") as stop:
            wanted = Wanted(self._timestamps, silence or False)
            division = self._division(stop)
            try:
                for report in transcribe_units(transcriber, units, results, division, wanted, lambda _: stop.check()):
                    self._tell(report, time.monotonic() - begun)
            except KeyboardInterrupt as stopped:
                done = len(self._reports)
                typer.echo(f"transcribe: stopped after {done} units; the same command does the rest", err=True)
                raise typer.Exit(STOPPED) from stopped
        self._conclude(results)

    def _division(self, stop: Stop) -> "Division":
        from wav2vec2.files.shared_work import Claims, FixedShare

        if self._part is not None:
            return FixedShare(*self._part)

        def waiting(units: int) -> None:
            stop.check()
            if units != self._told_of:
                typer.echo(f"waiting for {units} units that other processes are at", err=True)
            self._told_of = units

        return Claims(self._output / CLAIMS, LEASE, waiting)

    def _keep_conditions(self, silence: "SilenceRules | None") -> None:
        """Write down what the texts depend on; a ValueError if those that are there were found in another way."""
        named = {name: value for name, value in self._recogniser.identity().items() if name != "changed"}
        skipped = None if silence is None else asdict(silence)
        wanted: dict[str, Any] = {**named, "timestamps": self._timestamps, "skip_silence": skipped}
        file = self._output / CONDITIONS
        if not file.exists():
            self._output.mkdir(parents=True, exist_ok=True)
            with replaced_file(file, shared=True) as stream:
                stream.write(json.dumps(wanted, indent=1, ensure_ascii=False).encode())
        there = json.loads(file.read_bytes())
        for name, value in wanted.items():
            if there.get(name) != value:
                raise ValueError(
                    f"{file}: was begun with {name}={there.get(name)}, not {name}={value}: take another --output"
                )

    def _left(self, results: Sequence[Path]) -> int:
        """How many units of this process's part have no file."""
        first, of = self._part or (0, 1)
        return sum(not result.exists() for result in results[first::of])

    def _tell(self, report: "UnitReport", passed: float) -> None:
        self._reports.append(report)
        if report.unfinished is not None:
            typer.echo(f"{report.unit.place}: not done: {report.unfinished}", err=True)
            return
        seconds = sum(one.seconds for one in self._reports)
        failed = f", {len(report.faults)} failed" if report.faults else ""
        typer.echo(
            f"{report.unit.place}: {report.clips} clips, {duration(report.seconds)}{failed}; "
            f"{seconds / passed:.1f} times as fast as speech",
            err=True,
        )

    def _conclude(self, results: Sequence[Path]) -> None:
        faults = [fault for one in self._reports for fault in one.faults]
        done = [one for one in self._reports if one.unfinished is None]
        left = self._left(results)
        clips, seconds = sum(one.clips for one in done), sum(one.seconds for one in done)
        typer.echo(f"transcribe: {len(done)} units here: {clips} clips, {duration(seconds)}", err=True)
        if faults:
            shown = [f"  {fault}" for fault in faults[:_LISTED]]
            shown += [f"  and {len(faults) - _LISTED} more"] * (len(faults) > _LISTED)
            what = "could not be used (rows with `error` in the files)"
            typer.echo("\n".join([f"transcribe: {len(faults)} clips or shards {what}:", *shown]), err=True)
        if left:
            typer.echo(f"transcribe: {left} units have no file yet; the same command tries them again", err=True)
        if faults or left:
            raise typer.Exit(1)


def _part_of(text: str | None) -> tuple[int, int] | None:
    """K/N as the number of the first unit, and the distance to the next one."""
    if text is None:
        return None
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise typer.BadParameter(f"{text!r}: must be K/N, with K from 1 to N, such as 3/16", param_hint="--part")
    return int(number) - 1, int(of)


def _check_unchanged(units: Sequence["Unit"], results: Sequence[Path]) -> None:
    """A ValueError if a manifest had another last line when it was transcribed: its rows would be done twice."""
    last = {unit.source: (unit, result) for unit, result in zip(units, results, strict=True) if unit.block is not None}
    for unit, result in last.values():
        begin = unit.place.rpartition("-")[0]
        others = [one for one in result.parent.glob(f"{begin}-*.jsonl") if one != result]
        if others:
            raise ValueError(
                f"{unit.source}: has other lines than when {others[0]} was made of it: take another --output, "
                "or put new rows into a manifest of their own"
            )
