"""The manifests that the stages hand to each other, and what they hold together."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.tab_separated import table
from wav2vec2.processing.manifests import read_manifest

#: Recordings with text are used if they are between these two in seconds: an update has room for the longest.
SHORTEST, LONGEST = 0.1, 16.0


@dataclass(frozen=True)
class Utterance:
    """A recording of the corpus."""

    #: The audio file.
    path: Path
    #: How long it is.
    seconds: float
    #: Who speaks; None if that is not known.
    speaker: str | None
    #: What is said; None if that is not known.
    text: str | None


@dataclass(frozen=True)
class Corpus:
    """The folder with the manifests: all training audio, its labelled part, clips to choose by, clips to measure on."""

    folder: Path

    @property
    def audio(self) -> Path:
        """The manifest of what is pretrained on."""
        return self.folder / "pretrain.tsv"

    @property
    def labelled(self) -> Path:
        """The manifest of what is fine-tuned on."""
        return self.folder / "train.tsv"

    @property
    def development(self) -> Path:
        """The manifest of what checkpoints and the weights of the language model are chosen by."""
        return self.folder / "dev.tsv"

    @property
    def test(self) -> Path:
        """The manifest of what is measured on, and used for nothing else."""
        return self.folder / "test.tsv"

    def texts(self) -> list[str]:
        """The transcripts that are trained on."""
        return [one.transcript for one in read_manifest(self.labelled) if one.transcript]


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, with the files relative to it where that is possible."""
    rows: list[Sequence[str]] = [("path", "duration", "speaker", "transcript")]
    for one in utterances:
        rows.append((_relative(one.path, path.parent), f"{one.seconds:.4f}", one.speaker or "", one.text or ""))
    with replaced_file(path) as stream:
        stream.write(table(rows).encode("utf-8"))


def minutes_of(utterances: Iterable[Utterance]) -> float:
    """How many minutes the recordings have together."""
    return sum(one.seconds for one in utterances) / 60


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return str(path.resolve())
