"""The model that `transcribe`, `align` and `tune` are given: their common options, checked before anything is loaded.

What is wrong with an option is said with its name, at once; loading a large model takes a while.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wav2vec2.inference.transcriber import Transcriber

#: Exit code of what Ctrl-C has ended: 128 and the number of the signal.
STOPPED = 130


class Dtype(StrEnum):
    """What numbers the model may compute with."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


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
DtypeOption = Annotated[Dtype | None, typer.Option(help="By default bfloat16 on a GPU that has it, else float32.")]
BatchSeconds = Annotated[float | None, typer.Option(min=0.1, help="Seconds of audio in a batch.")]


@dataclass(frozen=True)
class Recogniser:
    """What the options say; see `load`."""

    model: str
    device: str | None = None
    language: str | None = None
    lm: Path | None = None
    beam: int | None = None
    hotwords: list[str] | None = None
    lexicon: Path | None = None
    window: float | None = None
    dtype: Dtype | None = None
    batch_seconds: float | None = None

    def check(self) -> None:
        """A ValueError or an OSError for what can be known to be wrong before the model is loaded."""
        from wav2vec2.inference.checkpoint_check import check_head_for_text, languages_of, reach

        if self.device is not None:
            _check_device(self.device)
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
        windows: dict[str, Any] = {}
        if self.window is not None:  # of a short window, less than four seconds on either side are context
            windows = {"window_seconds": self.window, "context_seconds": min(4.0, self.window / 4)}
        return Transcriber.from_pretrained(
            self.model,
            self.device,
            None if self.dtype is None else getattr(torch, self.dtype.value),
            self.language,
            self.lm,
            self.beam,
            batch_seconds=self.batch_seconds,
            **self._words(),
            **windows,
        )

    def _words(self) -> dict[str, Any]:
        from wav2vec2.command_line.word_lists import read_hotwords, read_lexicon

        return {
            "hotwords": read_hotwords(self.hotwords) if self.hotwords else None,
            "lexicon": None if self.lexicon is None else read_lexicon(self.lexicon),
        }

    def identity(self) -> dict[str, Any]:
        """All that the text depends on: the options, and when the files that they name were last changed."""
        named = {name: value for name, value in asdict(self).items() if name not in ("device", "batch_seconds")}
        files = [file for place in (self.model, self.lm, self.lexicon) if place for file in _files(Path(place))]
        changed = {str(file): file.stat().st_mtime_ns for file in files}
        return {name: None if value is None else str(value) for name, value in named.items()} | {"changed": changed}


@contextmanager
def told(command: str, stopped: str = "stopped") -> Iterator[None]:
    """What goes wrong inside becomes one line on standard error and the exit code 1; Ctrl-C another, and 130."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt as stop:
        typer.echo(f"{command}: {stopped}", err=True)
        raise typer.Exit(STOPPED) from stop
    except (ValueError, OSError, ImportError, RuntimeError, AssertionError) as error:
        typer.echo(f"{command}: {error}", err=True)
        raise typer.Exit(1) from error


def _files(place: Path) -> list[Path]:
    return sorted(file for file in place.glob("*") if file.is_file()) if place.is_dir() else [place] * place.is_file()


def _check_device(device: str) -> None:
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
