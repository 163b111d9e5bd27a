"""Where the transcript of each file goes, which are finished already, and how all of them are read and written."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wav2vec2.command_line.stopping import Stop
from wav2vec2.files.replaced_file import replaced_file

if TYPE_CHECKING:
    from wav2vec2.inference.audio_inputs import AudioInput
    from wav2vec2.inference.transcript import Transcript

#: How standard input is written where a file is meant.
STANDARD_INPUT = Path("-")

#: Behind the name of a transcript: what was found of a recording that is not finished.
UNFINISHED = ".unfinished"


def transcript_files(audio: Sequence[Path], folder: Path | None, format: str) -> dict[Path, Path | None]:
    """Each audio file with the file of its transcript in `folder`; with None if there is no folder.

    `audio` holds files and folders; of a folder its sub-folders are kept. `a/talk.wav` becomes `talk.txt`, but where
    `talk.mp3` is there as well `talk.wav.txt`. Two files that still have one name are a ValueError.
    """
    placed = _placed(audio)
    return dict.fromkeys(placed) if folder is None else dict(files_for(placed, folder, format))


def files_for(placed: Mapping[Path, Path], folder: Path, ending: str) -> dict[Path, Path]:
    """The file in `folder` for each audio file with its place there: with another ending, or one more if that name is
    taken. Two files that still have one name are a ValueError."""
    stems = Counter(name.with_suffix("") for name in placed.values())
    taken: dict[Path, Path] = {}
    for path, name in placed.items():
        stem = name.with_suffix("") if stems[name.with_suffix("")] == 1 else name
        target = folder / stem.with_name(f"{stem.name}.{ending}")
        if target in taken:
            raise ValueError(f"{taken[target]} and {path}: both transcripts would be {target}; do them in two runs")
        taken[target] = path
    return {path: target for target, path in taken.items()}


def _placed(audio: Sequence[Path]) -> dict[Path, Path]:
    """Each audio file with its place: in the folder that was given, or its name if it was given itself.

    Standard input is called stdin there.
    """
    from wav2vec2.inference.audio_inputs import audio_in

    placed: dict[Path, Path] = {}
    for given in audio:
        for path in audio_in(given) if given.is_dir() else [given]:
            name = Path("stdin" if path == STANDARD_INPUT else path.name)
            placed.setdefault(path, path.relative_to(given) if given.is_dir() else name)
    return placed


def missing_files(audio: Sequence[Path]) -> list[Path]:
    """Those of the files that are not there."""
    return [path for path in audio if path != STANDARD_INPUT and not path.exists()]


def try_writing(folder: Path) -> None:
    """Raise an OSError if nothing can be written into the folder, which may have to be made first. No trace is left."""
    made: list[Path] = []
    place = folder
    while not place.exists():
        made.append(place)
        place = place.parent
    probe = folder / ".wav2vec2-writes-here"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(1 << 16))
    except OSError as error:
        raise type(error)(f"--output {folder}: cannot be written to: {error.strerror or error}") from error
    finally:
        if folder.is_dir():
            probe.unlink(missing_ok=True)
        for one in made:
            if one.is_dir():
                one.rmdir()


def is_finished(audio: Path, transcript: Path | None) -> bool:
    """Whether a transcript is there that is not older than its audio."""
    if not (transcript is not None and transcript.is_file() and audio.is_file()):
        return False
    return transcript.stat().st_mtime >= audio.stat().st_mtime


def audio_input(path: Path, stop: Stop) -> "AudioInput":
    """A file, or standard input, which is left where it is being read once a stop is asked for."""
    from wav2vec2.inference.audio_inputs import AudioInput

    if path == STANDARD_INPUT:
        return AudioInput("standard input", sys.stdin.buffer.read(), check=stop.check)
    return AudioInput(str(path), path, check=stop.check)


def write_transcript(path: Path, content: str) -> None:
    """Write a whole file, or leave none: a run that is stopped has no half transcripts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as stream:
        stream.write(content.encode("utf-8"))


class WrittenFiles:
    """A file for each transcript, by the name of its recording."""

    def __init__(self, targets: Mapping[str, Path], format: str) -> None:
        self._targets, self._format = targets, format

    def add(self, transcript: "Transcript") -> None:
        """Write one; an OSError where that is not possible."""
        from wav2vec2.inference.transcript import transcript_as

        write_transcript(self._targets[transcript.path], transcript_as(transcript, self._format))

    def close(self) -> None:
        """Nothing is left to do."""


class PrintedTranscripts:
    """All transcripts on standard output; those of several recordings in one array, if they are JSON."""

    def __init__(self, format: str, several: bool) -> None:
        self._format, self._array, self._count = format, several and format == "json", 0

    def add(self, transcript: "Transcript") -> None:
        """Print one."""
        from wav2vec2.inference.transcript import transcript_as

        content = transcript_as(transcript, self._format)
        if self._array:
            content = ("," if self._count else "[") + "\n" + content.rstrip("\n")
        typer.echo(content, nl=False)
        self._count += 1

    def close(self) -> None:
        """End what is printed, also where a run has ended early, so that it can be read."""
        if self._array:
            typer.echo("\n]" if self._count else "[]")
