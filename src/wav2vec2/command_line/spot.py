"""`wav2vec2 spot`: where are these keywords said?"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line.progress import progress_report
from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.shown_hits import HitFormat, ShownHits
from wav2vec2.command_line.stopping import STOPPED, Stop, stoppable, told
from wav2vec2.command_line.transcript_files import STANDARD_INPUT, audio_input, missing_files, try_writing

if TYPE_CHECKING:
    from wav2vec2.spotting.keyword_spotter import KeywordSpotter
    from wav2vec2.spotting.live_spotter import LiveSpotter
    from wav2vec2.spotting.thresholds import Thresholds

#: Of live audio, where the option is left out.
_LATENCY = 1.92

Keywords = Annotated[list[str] | None, typer.Option("--keyword", "-k", help="What to listen for; may be repeated.")]
Phones = Annotated[list[str] | None, typer.Option(help="The same in phones (IPA), for a model of phones.")]
TextLanguage = Annotated[
    str | None, typer.Option(help="espeak's name of the keywords' language, for a model of phones.")
]
Threshold = Annotated[
    str | None,
    typer.Option(help="The least score of a hit, or a file of --calibrate; by default the one beside the model."),
]
Calibrate = Annotated[
    list[Path] | None,
    typer.Option(help="Audio without the keywords, files or folders: choose thresholds on it, and save them."),
]
PerHour = Annotated[
    float, typer.Option("--false-alarms-per-hour", min=0.0, help="For --calibrate: at most so many of each keyword.")
]
Latency = Annotated[
    float | None,
    typer.Option(min=0.03, help="Seconds until a frame of live audio is final, 1.92; with it files are heard so too."),
]


@dataclass(frozen=True)
class Wanted:
    """What to listen for, and how."""

    model: Recogniser
    keywords: list[str]
    phones: list[str]
    text_language: str | None
    threshold: str | None
    latency: float | None

    def threshold_file(self) -> Path | None:
        """The file that was named."""
        return None if self.threshold is None or _number(self.threshold) is not None else Path(self.threshold)


def spot(
    audio: Annotated[
        list[Path] | None,
        typer.Argument(help="Audio files and folders; - is raw 16-bit samples on standard input; else a microphone."),
    ] = None,
    *,
    model: options.Model,
    keyword: Keywords = None,
    phones: Phones = None,
    text_language: TextLanguage = None,
    threshold: Threshold = None,
    calibrate: Calibrate = None,
    false_alarms_per_hour: PerHour = 1.0,
    latency: Latency = None,
    rate: Annotated[int, typer.Option(min=1000, help="Samples a second on standard input.")] = 16000,
    format: Annotated[HitFormat, typer.Option("--format", "-f", help="Text, a table, or JSON lines.")] = HitFormat.txt,
    language: options.Language = None,
    device: options.Device = None,
    dtype: options.DtypeOption = None,
    window: options.Window = None,
    batch_seconds: options.BatchSeconds = None,
) -> None:
    """Tell where keywords are said in recordings or live audio, with any CTC model, without training.

    Each hit is a line with its time and a score from 0 to 1. How high a score must be is chosen with --calibrate, on
    audio in which no keyword is said, by how many false alarms an hour may be.
    """
    audio = audio or []
    if calibrate and audio:
        raise typer.BadParameter("--calibrate listens to its own audio alone", param_hint="AUDIO")
    if STANDARD_INPUT in audio and len(audio) > 1:
        raise typer.BadParameter("standard input (-) goes alone", param_hint="AUDIO")
    recogniser = Recogniser(model, device, language, window=window, dtype=dtype, batch_seconds=batch_seconds)
    wanted = Wanted(recogniser, keyword or [], phones or [], text_language, threshold, latency)
    with told("spot"):
        if not wanted.keywords and not wanted.phones:
            raise ValueError("say with --keyword (or --phones) what to listen for")
        if calibrate:
            _calibrate(wanted, calibrate, false_alarms_per_hour)
        elif audio in ([], [STANDARD_INPUT]):
            _listen(wanted, bool(audio), rate, ShownHits(format, several=False))
        else:
            _spot(wanted, audio, format)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _loaded(wanted: Wanted, live: bool) -> "KeywordSpotter":
    """The spotter with its thresholds; what is doubtful of them is said."""
    from wav2vec2.spotting.keyword_spotter import UNCALIBRATED_THRESHOLD, KeywordSpotter
    from wav2vec2.spotting.keywords import token_names

    given = None if wanted.threshold is None else _number(wanted.threshold)
    if given is not None and not 0 < given <= 1:
        raise ValueError(f"--threshold {wanted.threshold}: must be above 0 and at most 1, or a file of --calibrate")
    spotter = _uncalibrated(wanted)
    if given is not None:
        return KeywordSpotter(spotter.transcriber, spotter.keywords, [given] * len(spotter.keywords))
    there, path = _thresholds(wanted, spotter)
    chosen: list[float | None] = []
    for keyword in spotter.keywords:
        found = there.of(token_names(spotter.transcriber.processor.tokenizer, keyword.tokens))
        chosen.append(None if found is None else found.threshold)
        if found is None and wanted.threshold is not None:
            raise ValueError(f"{path}: has no threshold of {keyword.text!r}: calibrate it, or give a number")
        if found is None:
            _say(f"{keyword.text}: threshold {UNCALIBRATED_THRESHOLD}, which is a guess: --calibrate chooses one")
        elif (found.latency is None) == live or (live and found.latency != (wanted.latency or _LATENCY)):
            how = "in windows" if found.latency is None else f"live with a latency of {found.latency:g} s"
            _say(f"{keyword.text}: its threshold was chosen on audio that was heard {how}; this is heard otherwise")
    return KeywordSpotter(spotter.transcriber, spotter.keywords, chosen)


def _uncalibrated(wanted: Wanted) -> "KeywordSpotter":
    from wav2vec2.spotting.keyword_spotter import KeywordSpotter
    from wav2vec2.spotting.keywords import keywords_for

    path = wanted.threshold_file()
    if path is not None and path.is_dir():
        raise ValueError(f"--threshold {path}: is a folder; name the file in it")
    wanted.model.check()
    transcriber = wanted.model.load()
    tokenizer = transcriber.processor.tokenizer
    return KeywordSpotter(transcriber, keywords_for(tokenizer, wanted.keywords, wanted.phones, wanted.text_language))


def _thresholds(wanted: Wanted, spotter: "KeywordSpotter") -> tuple["Thresholds", Path | None]:
    """Those of the file that was named, or of the one beside the model; none if there is none."""
    from wav2vec2.files.hub_files import local_path
    from wav2vec2.inference.checkpoint_check import reach
    from wav2vec2.pronunciation.assessing import head_sha256
    from wav2vec2.spotting.thresholds import THRESHOLDS_FILE, Thresholds, read_thresholds

    sha256, path = head_sha256(spotter.transcriber), wanted.threshold_file()
    if path is None:
        path = local_path(wanted.model.model, THRESHOLDS_FILE, reach(wanted.model.model))
    elif not path.is_file():
        raise FileNotFoundError(f"--threshold {path}: no such file, and no number; --calibrate makes one")
    return (Thresholds(sha256) if path is None else read_thresholds(path, sha256)), path


def _calibrate(wanted: Wanted, background: Sequence[Path], per_hour: float) -> None:
    """Choose thresholds, save them, and say what may be said of them."""
    from wav2vec2.pronunciation.assessing import head_sha256
    from wav2vec2.spotting.calibrating import TOLD, calibrate
    from wav2vec2.spotting.thresholds import THRESHOLDS_FILE, Thresholds, read_thresholds

    if per_hour <= 0:
        raise ValueError(f"--false-alarms-per-hour {per_hour:g}: must be above 0")
    target = wanted.threshold_file()
    if target is None:
        if wanted.threshold is not None:
            raise ValueError("--calibrate chooses the threshold: --threshold names the file for it, or is left out")
        if not Path(wanted.model.model).is_dir():
            raise ValueError(f"{wanted.model.model} is not a folder here: say with --threshold where the file goes")
        target = Path(wanted.model.model) / THRESHOLDS_FILE
    paths = _files(background)
    try_writing(target.parent)
    spotter = _uncalibrated(wanted)
    sha256 = head_sha256(spotter.transcriber)
    before = read_thresholds(target, sha256) if target.is_file() else Thresholds(sha256)
    name = ", ".join(path.name for path in background)
    with stoppable("spot: stopping; Ctrl-C again stops at once") as stop, _progress(paths, stop) as advance:
        inputs = [audio_input(path, stop) for path in paths]
        found = calibrate(spotter, inputs, name, per_hour, _live(spotter, wanted.latency), advance)
    before.with_others(found.thresholds.thresholds).save(target)
    for one in found.thresholds.thresholds:
        typer.echo(one.in_words())
        if (doubt := one.doubt()) is not None:
            _say(f"warning: {doubt}")
    for alarm in found.alarms[:TOLD]:
        hit = alarm.hit
        typer.echo(f"  false alarm: {hit.keyword}, {hit.score:.3f}, {alarm.name} at {hit.start:.2f} s; listen to it")
    typer.echo(f"saved in {target}")
    _end(found.faults, len(paths))


def _spot(wanted: Wanted, audio: Sequence[Path], format: HitFormat) -> None:
    """Files, each hit as it comes."""
    paths = _files(audio)
    spotter = _loaded(wanted, live=wanted.latency is not None)
    shown, faults = ShownHits(format, several=len(paths) > 1), []
    with stoppable("spot: stopping; Ctrl-C again stops at once") as stop, _progress(paths, stop) as advance:
        inputs = [audio_input(path, stop) for path in paths]
        for found in (_live(spotter, wanted.latency) or spotter).spot_each(inputs, advance):
            shown.show(found.name, found.hits)
            if found.error is not None:
                faults.append(
                    f"{found.name}: {found.error}" if found.name not in str(found.error) else str(found.error)
                )
    _end(faults, len(paths))


def _listen(wanted: Wanted, from_pipe: bool, rate: int, shown: ShownHits) -> None:
    """A pipe or a microphone, until it ends."""
    from wav2vec2.inference.streaming.live_sources import microphone, piped

    spotter = _loaded(wanted, live=True)
    live = _live(spotter, wanted.latency or _LATENCY)
    assert live is not None
    pipe: Any = sys.stdin.buffer
    heard = piped(pipe, rate, live.sampling_rate) if from_pipe else microphone(live.sampling_rate)
    name, stream = "standard input" if from_pipe else "microphone", live.open()
    try:
        for packet in heard:
            shown.show(name, stream.feed(packet))
    except KeyboardInterrupt as stop:
        raise typer.Exit(STOPPED) from stop
    finally:
        shown.show(name, stream.finish())


def _live(spotter: "KeywordSpotter", latency: float | None) -> "LiveSpotter | None":
    from wav2vec2.spotting.live_spotter import LiveSpotter

    return None if latency is None else LiveSpotter(spotter, latency)


def _files(given: Iterable[Path]) -> list[Path]:
    """The files, and those of folders. One that is not there is told before anything is loaded, if all are wrong."""
    from wav2vec2.inference.audio_inputs import audio_in

    paths = [path for one in given for path in (audio_in(one) if one.is_dir() else [one])]
    missing = missing_files(paths)
    if len(missing) == len(paths):
        raise FileNotFoundError(f"{missing[0]}: no such file")
    return list(dict.fromkeys(paths))


@contextmanager
def _progress(paths: Sequence[Path], stop: Stop) -> Iterator[Callable[[float], None]]:
    """What is to be called with the seconds that were heard; a stop that was asked for is taken there."""
    with progress_report(paths, line_for_each=False) as report:

        def advance(seconds: float) -> None:
            report.advance(seconds)
            stop.check()

        yield advance


def _end(faults: Sequence[str], files: int) -> None:
    if faults:
        _say(f"spot: {len(faults)} of {files} files failed:")
        for fault in faults:
            _say(f"  {fault}")
        raise typer.Exit(1)


def _say(line: str) -> None:
    typer.echo(line, err=True)
