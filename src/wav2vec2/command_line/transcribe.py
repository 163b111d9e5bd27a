"""`wav2vec2 transcribe`: what is said in these files, and when?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line import sound_options
from wav2vec2.command_line.progress import progress_report
from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.stopping import STOPPED, Stop, stoppable, told
from wav2vec2.command_line.transcribe_corpus import CorpusRun, is_corpus
from wav2vec2.command_line.transcript_files import (
    UNFINISHED,
    PrintedTranscripts,
    WrittenFiles,
    audio_input,
    is_finished,
    missing_files,
    transcript_files,
    try_writing,
)
from wav2vec2.evaluation.figures_in_words import duration

if TYPE_CHECKING:
    from wav2vec2.evaluation.evaluation_run import RecognitionReport
    from wav2vec2.inference.sound_events import SoundEventDetector
    from wav2vec2.inference.transcriber import Transcriber
    from wav2vec2.inference.transcript import Transcript
    from wav2vec2.inference.voice_activity import SilenceRules


class TranscriptFormat(StrEnum):
    """What can be written."""

    txt = "txt"
    json = "json"
    jsonl = "jsonl"
    srt = "srt"
    vtt = "vtt"
    tsv = "tsv"


class Times(StrEnum):
    """What the times that are wanted are of."""

    word = "word"
    char = "char"
    none = "none"


class FoundBy(StrEnum):
    """What finds the speech where silence is skipped."""

    level = "level"
    silero = "silero"


_TIMES: dict[Times, Literal["word", "char"] | None] = {Times.word: "word", Times.char: "char", Times.none: None}


Audio = Annotated[
    list[str],
    typer.Argument(
        help="Audio files, and folders of them; - is standard input. Or manifests (.tsv) and shards (.parquet, .tar), "
        "folders and patterns of them, also behind URLs."
    ),
]
Timed = Annotated[
    Times | None,
    typer.Option(help="Times of words, of characters as well, or none; by default word, of a corpus none."),
]
Format = Annotated[
    TranscriptFormat | None,
    typer.Option("--format", "-f", help="What to write; by default txt, of a corpus jsonl."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for the files; by default standard output.")
]
SkipSilence = Annotated[
    FoundBy | None,
    typer.Option(help="Hear only speech, found by its level or by silero-vad; times stay those of the file."),
]
Again = Annotated[bool, typer.Option("--again", help="Redo files whose transcript is finished.")]
Part = Annotated[
    str | None,
    typer.Option(metavar="K/N", help="Of a corpus, every N-th unit from the K-th on; by default what no other is at."),
]


def transcribe(
    audio: Audio,
    model: options.Model,
    timestamps: Timed = None,
    format: Format = None,
    output: Output = None,
    lm: options.Lm = None,
    beam: options.Beam = None,
    hotwords: options.Hotwords = None,
    lexicon: options.Lexicon = None,
    language: options.Language = None,
    device: options.Device = None,
    dtype: options.DtypeOption = None,
    window: options.Window = None,
    batch_seconds: options.BatchSeconds = None,
    skip_silence: SkipSilence = None,
    sounds: sound_options.Sounds = None,
    sound_names: sound_options.Names = None,
    sound_threshold: sound_options.Threshold = None,
    shortest_sound: sound_options.Shortest = None,
    again: Again = False,
    part: Part = None,
) -> None:
    """Transcribe audio files of any length; or a corpus of clips, on any number of processes and machines.

    With --output every file gets a transcript of its own as soon as it is finished, and files whose transcript is there
    already, and not older than the audio, are skipped; what a stopped run has found of a file is used. Files that
    cannot be used are listed at the end; the exit code is then 1.

    A corpus is manifests and shards; every shard, and every block of rows, gets a file of JSON lines in --output. Start
    the same command as often and wherever you like: each process takes what no other is at.
    """
    wanted = sound_options.Wanted(sounds, device, sound_names, sound_threshold, shortest_sound, batch_seconds)
    recogniser = Recogniser(model, device, language, lm, beam, hotwords, lexicon, window, dtype, batch_seconds)
    with told("transcribe"):
        if is_corpus(audio):
            run = CorpusRun(recogniser, _TIMES[timestamps or Times.none], output, part)
            run.refuse(format, {"--sounds": sounds is not None, "--again": again})
            run.execute(audio, _silence(skip_silence))
            return
        if part is not None:
            raise typer.BadParameter("divides manifests and shards, and these are files", param_hint="--part")
        files = [Path(one) for one in audio]
        chosen = _Chosen(format or TranscriptFormat.txt, timestamps or Times.word, output, skip_silence, again)
        _transcribe_files(files, chosen, recogniser, wanted)


@dataclass(frozen=True)
class _Chosen:
    """What the options say of the transcripts of files."""

    #: What to write.
    format: TranscriptFormat
    #: The times they have.
    timestamps: Times
    #: The folder; None is standard output.
    output: Path | None
    #: What finds speech.
    skip_silence: FoundBy | None
    #: Whether finished ones are redone.
    again: bool


def _transcribe_files(
    audio: Sequence[Path], chosen: _Chosen, recogniser: Recogniser, wanted: sound_options.Wanted
) -> None:
    several = len(audio) > 1 or audio[0].is_dir()
    _check_format(chosen.format, chosen.timestamps, several and chosen.output is None)
    wanted.check_options(chosen.format)
    targets = _targets(audio, chosen.output, chosen.format, chosen.again)
    if not targets:
        return
    recogniser.check()
    silence = _silence(chosen.skip_silence)
    detector = wanted.load()
    transcriber = recogniser.load()
    with stoppable("transcribe: stopping when this batch is done; Ctrl-C again stops at once") as stop:
        times = _TIMES[chosen.timestamps]
        run = _Run(transcriber, targets, chosen.format, times, several, stop, silence, detector)
        run.keep_parts(recogniser)
        run.execute()


def _check_format(format: TranscriptFormat, timestamps: Times, in_one: bool) -> None:
    """Bad options are said before anything is looked for."""
    from wav2vec2.inference.transcript import TIMED_FORMATS

    if timestamps is Times.none and format in TIMED_FORMATS:
        raise typer.BadParameter(f"{format.value} is made of times: take --timestamps word", param_hint="--timestamps")
    if in_one and format in TIMED_FORMATS:
        raise typer.BadParameter(f"{format.value} of several recordings is no one file", param_hint="--output")


def _targets(audio: Sequence[Path], output: Path | None, format: str, again: bool) -> dict[Path, Path | None]:
    """The files that are to be done, each with its transcript. What is missing is said before anything is loaded."""
    missing = missing_files(audio)
    if len(missing) == len(audio):
        raise FileNotFoundError(f"no such file: {', '.join(map(str, missing))}")
    if missing:
        typer.echo(f"transcribe: no such file: {', '.join(map(str, missing))}; going on with the others", err=True)
    targets = transcript_files(audio, output, format)
    wanted = {path: target for path, target in targets.items() if again or not is_finished(path, target)}
    if len(wanted) < len(targets):
        typer.echo(f"{len(targets) - len(wanted)} of {len(targets)} are finished (--again redoes them)", err=True)
    if wanted and output is not None:
        try_writing(output)
    return wanted


def _silence(found_by: FoundBy | None) -> "SilenceRules | None":
    """What is silence; what finds the speech must be there before the model is loaded."""
    from wav2vec2.inference.speech_by_silero import silero_file
    from wav2vec2.inference.voice_activity import SilenceRules

    if found_by is FoundBy.silero:
        silero_file()
    return None if found_by is None else SilenceRules(by=found_by.value)


class _Run:
    """The transcription of files, which can be stopped at any time."""

    def __init__(
        self,
        transcriber: "Transcriber",
        targets: Mapping[Path, Path | None],
        format: str,
        timestamps: Literal["word", "char"] | None,
        several: bool,
        stop: Stop,
        silence: "SilenceRules | None",
        detector: "SoundEventDetector | None",
    ) -> None:
        from wav2vec2.inference.kept_parts import KeptInMemory

        self.detector = detector

        self.transcriber, self.timestamps, self.stop, self.silence = transcriber, timestamps, stop, silence
        self.inputs = [audio_input(path, stop) for path in targets]
        self.by_name = {one.name: one for one in self.inputs}
        self.files = {
            one.name: target for one, target in zip(self.inputs, targets.values(), strict=True) if target is not None
        }
        written = WrittenFiles(self.files, format) if self.files else PrintedTranscripts(format, several)
        self.output: WrittenFiles | PrintedTranscripts = written
        self.keeper = KeptInMemory()
        self.faults: list[str] = []
        self.done = 0

    def keep_parts(self, recogniser: Recogniser) -> None:
        """Keep what is found of each file beside its transcript, if it has one."""
        from wav2vec2.inference.kept_parts import KeptInFiles

        if self.files:
            places = {name: target.with_name(target.name + UNFINISHED) for name, target in self.files.items()}
            skipped = {} if self.silence is None else {"skip_silence": asdict(self.silence)}
            self.keeper = KeptInFiles(places, recogniser.identity() | skipped)
            for name, parts in self.keeper.parts.items():
                if parts:
                    heard = duration(self.transcriber.transcript_of(name, parts).duration)
                    typer.echo(f"{name}: going on after {heard}, which a stopped run has found", err=True)

    def execute(self) -> None:
        """Transcribe and write all; exits with 1 if some files failed, with 130 after Ctrl-C."""
        already = sum(self.transcriber.transcript_of(*one).duration for one in self.keeper.parts.items())
        paths = [Path(one.name) for one in self.inputs if one.is_path]
        try:
            with progress_report(paths, files=len(self.inputs), already=already) as report:
                self._transcribe(report)
        except KeyboardInterrupt as stop:
            self._tell_stop()
            raise typer.Exit(STOPPED) from stop
        finally:
            self.output.close()
        if self.faults:
            typer.echo(f"transcribe: {len(self.faults)} of {len(self.inputs)} files failed:", err=True)
            for fault in self.faults:
                typer.echo(f"  {fault}", err=True)
            raise typer.Exit(1)

    def _transcribe(self, report: "RecognitionReport") -> None:
        def advance(seconds: float) -> None:
            report.advance(seconds)
            self.stop.check()

        skip = self.silence or False
        for found in self.transcriber.transcribe_each(self.inputs, self.timestamps, advance, self.keeper, skip):
            found = self._with_sounds(found)
            if found.error is not None:
                self.faults.append(found.error)
                report.finished("failed, see the end")
                continue
            self._write(found)
            self.keeper.finished(found.path)
            self.done += 1
            report.finished(f"{found.path} ({found.duration:.1f} s)")

    def _with_sounds(self, found: "Transcript") -> "Transcript":
        """The transcript with what else is heard, if that was asked for; the recording is read once more."""
        if self.detector is None or found.error is not None:
            return found
        try:
            sounds, _ = self.detector.detect(self.by_name[found.path], progress=lambda seconds: self.stop.check())
        except (ValueError, OSError) as error:
            reason = str(error) if found.path in str(error) else f"{found.path}: {error}"
            return replace(found, error=f"{reason} (--sounds)")
        return replace(found, sounds=sounds)

    def _write(self, found: "Transcript") -> None:
        try:
            self.output.add(found)
        except OSError as error:
            left = len(self.inputs) - self.done - len(self.faults)
            raise type(error)(
                f"{self.files.get(found.path, 'standard output')}: cannot be written: {error.strerror or error}; "
                f"stopped with {self.done} transcripts written and {left} to do, which the same command does"
            ) from error

    def _tell_stop(self) -> None:
        """Say what is there after Ctrl-C, and what the same command does next time."""
        unfinished = {name: parts for name, parts in self.keeper.parts.items() if parts}
        typer.echo(f"transcribe: stopped; {self.done} of {len(self.inputs)} files are finished", err=True)
        for name, parts in unfinished.items():
            beginning = self.transcriber.transcript_of(name, parts, self.timestamps)
            if self.files:
                where = "is kept: the same command goes on from there"
            else:
                where = "is printed; with --output the same command would go on from there"
                self.output.add(beginning)
            typer.echo(f"  {name}: what was found in its first {duration(beginning.duration)} {where}", err=True)
