"""`wav2vec2 build-lm`: an n-gram language model from text."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2.command_line.progress import work_progress
from wav2vec2.command_line.stopping import told
from wav2vec2.command_line.transcript_files import try_writing

if TYPE_CHECKING:
    from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def build_lm(
    texts: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help="Text files, plain or .gz, UTF-8, one sentence a line."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model to write: .arpa or .arpa.gz, else compact.")],
    order: Annotated[int, typer.Option(help="Length of the longest n-grams.")] = 5,
    prune: Annotated[str, typer.Option(help="For each order, leave out n-grams seen this often or less.")] = "0,0,1",
    memory: Annotated[str, typer.Option(help="Working memory, such as 500MB or 4GB.")] = "1GB",
) -> None:
    """Train an n-gram language model (interpolated modified Kneser-Ney) in bounded memory."""
    stopped = f"stopped; {output} was not written, and nothing is left of what was begun"
    with told("build-lm", stopped), work_progress("build-lm") as tell:
        thresholds, limit = _thresholds(prune), _bytes(memory)
        try_writing(output.parent)
        output.parent.mkdir(parents=True, exist_ok=True)
        model = _trained(texts, order, thresholds, limit, output, tell)
    sizes = model.trie.level_sizes
    counts = ", ".join(f"{size} {length}-grams" for length, size in enumerate(sizes, 1))
    if 0 in sizes:
        typer.echo(
            f"build-lm: no {list(sizes).index(0) + 1}-grams are left: --prune {prune} takes what is that rare away. "
            "Of so little text, --prune 0 keeps all",
            err=True,
        )
    typer.echo(f"{output}: {counts}")


def _trained(
    texts: list[Path],
    order: int,
    thresholds: list[int],
    memory: int,
    output: Path,
    tell: Callable[[str, float], None],
) -> "NgramLanguageModel":
    from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

    if not output.name.endswith((".arpa", ".arpa.gz")):
        return NgramLanguageModel.train(texts, order, thresholds, memory, output, tell)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        model = NgramLanguageModel.train(texts, order, thresholds, memory, Path(folder, "compact"), tell)
        model.to_arpa(output)
    return model


def _thresholds(text: str) -> list[int]:
    if not re.fullmatch(r"\d{1,9}([ ,]+\d{1,9})*", text.strip()):
        raise ValueError(f"prune={text!r}, expected numbers such as 0,0,1")
    return [int(number) for number in re.split(r"[ ,]+", text.strip())]


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})\s*([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"memory={text!r}, expected a size such as 500MB or 4GB")
    return int(match[1]) * _UNITS[match[2].upper()]
