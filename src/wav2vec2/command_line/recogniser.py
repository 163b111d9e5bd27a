"""The model that `transcribe`, `align`, `evaluate` and `tune` are given: their common options, and what they say.

What is wrong with an option is said with its name, at once; loading a large model takes a while.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wav2vec2.inference.transcriber import Transcriber


class Dtype(StrEnum):
    """What numbers the model may compute with."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int8 = "int8"


Model = Annotated[str, typer.Option("--model", "-m", help="Folder or Hub name of a CTC checkpoint.")]
Language = Annotated[str | None, typer.Option(help="Language of a checkpoint with several, such as eng.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps ...; by default the best there is.")]
Lm = Annotated[
    Path | None,
    typer.Option(exists=True, help="Language model: a compact, ARPA or KenLM file, or a folder with a decoder."),
]
Beam = Annotated[int | None, typer.Option(min=1, help="Texts that beam search keeps; it needs no --lm.")]
Hotwords = Annotated[
    list[str] | None,
    typer.Option(help="Phrases to favour, between commas, each with a weight if wanted (mat=5); or a file of them."),
]
Lexicon = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="The only words there are: one a line, a TAB and its spelling."),
]
Window = Annotated[
    float | None, typer.Option(min=0.5, help="Seconds of a long file that the model looks at at once; 30 by default.")
]
DtypeOption = Annotated[
    Dtype | None,
    typer.Option(help="By default bfloat16 on a GPU that has it, else float32; int8: linear layers, on a CPU."),
]
BatchSeconds = Annotated[float | None, typer.Option(min=0.1, help="Seconds of audio in a batch.")]


@dataclass(frozen=True)
class Recogniser:
    """What the options say; `load` makes a transcriber of it. None stands for an option that was left out."""

    #: Folder or Hub name of the checkpoint.
    model: str
    #: Where to compute.
    device: str | None = None
    #: Which language of a checkpoint with several.
    language: str | None = None
    #: The language model, a file or a folder.
    lm: Path | None = None
    #: How many texts beam search keeps.
    beam: int | None = None
    #: Phrases to favour, or files of them, as they were given.
    hotwords: list[str] | None = None
    #: The file with the only words there are.
    lexicon: Path | None = None
    #: How many seconds of a long file the model looks at at once.
    window: float | None = None
    #: What numbers to compute with.
    dtype: Dtype | None = None
    #: How many seconds of audio a batch may have.
    batch_seconds: float | None = None

    def check(self) -> None:
        """Raise a ValueError or an OSError for what can be known to be wrong before the model is loaded."""
        from wav2vec2.inference.checkpoint_check import check_head_for_text, languages_of, reach

        if self.device is not None:
            check_device(self.device)
        self._words()
        hub = reach(self.model)
        check_head_for_text(self.model, hub)
        _check_language(self.language, languages_of(self.model, hub), self.model)

    def load(self) -> "Transcriber":
        """The transcriber, with its decoder."""
        import torch
        from transformers.utils import logging

        from wav2vec2.inference.transcriber import Transcriber

        logging.disable_progress_bar()
        windows: dict[str, float] = {}
        if self.window is not None:  # of a short window, less than four seconds on either side are context
            windows = {"window_seconds": self.window, "context_seconds": min(4.0, self.window / 4)}
        hotwords, lexicon = self._words()
        return Transcriber.from_pretrained(
            self.model,
            self.device,
            None if self.dtype is None else getattr(torch, self.dtype.value),
            self.language,
            self.lm,
            self.beam,
            hotwords=hotwords,
            lexicon=lexicon,
            batch_seconds=self.batch_seconds,
            **windows,
        )

    def _words(self) -> tuple[dict[str, float] | None, list[str] | dict[str, list[str]] | None]:
        """Hotwords with their weights, and the lexicon, as the decoder takes them."""
        hotwords = read_hotwords(self.hotwords) if self.hotwords else None
        return hotwords, None if self.lexicon is None else read_lexicon(self.lexicon)

    def identity(self) -> dict[str, object]:
        """All that the text depends on: the options, and when the files that they name were last changed."""
        named = {name: value for name, value in asdict(self).items() if name not in ("device", "batch_seconds")}
        files = [file for place in (self.model, self.lm, self.lexicon) if place for file in _files(Path(place))]
        changed = {str(file): file.stat().st_mtime_ns for file in files}
        return {name: None if value is None else str(value) for name, value in named.items()} | {"changed": changed}


def read_hotwords(values: Iterable[str]) -> dict[str, float]:
    """Phrases with their weights: between commas, "mat, North Sea=5"; or a file, a phrase a line, a TAB, its weight."""
    from wav2vec2.decoding.lexicon import HOTWORD_WEIGHT

    found: dict[str, float] = {}
    for value in values:
        if Path(value).suffix and Path(value).is_file():
            entries = [(line.partition("\t"), f"{value}, line {number}") for number, line in _lines(Path(value))]
        elif Path(value).suffix in (".txt", ".tsv"):
            raise FileNotFoundError(f"--hotwords {value}: no such file")
        else:
            entries = [(entry.partition("="), repr(entry)) for entry in value.split(",")]
        for (phrase, _, weight), place in entries:
            if not phrase.split():
                raise ValueError(f"--hotwords: {place}: no phrase in it")
            try:
                found[" ".join(phrase.split())] = float(weight) if weight.strip() else HOTWORD_WEIGHT
            except ValueError as error:
                raise ValueError(f"--hotwords: {place}: {weight.strip()!r} is no weight") from error
    return found


def read_lexicon(path: Path) -> list[str] | dict[str, list[str]]:
    """Words, one a line; or words with their spelling in tokens ("cat", a TAB, "k æ t"), as often as they have one."""
    words: list[str] = []
    spellings: dict[str, list[str]] = {}
    for number, line in _lines(path):
        word, tab, spelling = (part.strip() for part in line.partition("\t"))
        if len(word.split()) != 1 or (tab and not spelling):
            raise ValueError(f"--lexicon: {path}, line {number}: {line!r} is no word, nor a word, a TAB and its tokens")
        words.append(word)
        if spelling:
            spellings.setdefault(word, []).append(spelling)
    if spellings and len(set(words)) != len(spellings):
        lacking = next(word for word in words if word not in spellings)
        raise ValueError(f"--lexicon: {path}: some words have a spelling and others, such as {lacking!r}, have none")
    return spellings or words


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error})") from error
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _files(place: Path) -> list[Path]:
    return sorted(file for file in place.glob("*") if file.is_file()) if place.is_dir() else [place] * place.is_file()


def check_device(device: str) -> None:
    """A ValueError where there is no such device."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise ValueError(f"--device {device}: there is none here; there are: {', '.join(there)}") from error


def _check_language(language: str | None, there: list[str] | None, model: str) -> None:
    if there is None and language is not None:
        raise ValueError(f"--language {language}: {model} is a model of one language; leave the option out")
    if there is not None and language is not None and language not in there:
        shown = ", ".join(there[:20]) + (" ..." if len(there) > 20 else "")
        raise ValueError(f"--language {language}: not one of the {len(there)} languages of {model}: {shown}")
