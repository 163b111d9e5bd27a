"""`wav2vec2 build-lm`: an n-gram language model from text."""

import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def build_lm(
    texts: Annotated[list[Path], typer.Argument(help="Text files, plain or .gz, UTF-8, one sentence a line.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model to write: .arpa or .arpa.gz, else compact.")],
    order: Annotated[int, typer.Option(help="Length of the longest n-grams.")] = 5,
    prune: Annotated[str, typer.Option(help="For each order, leave out n-grams seen this often or less.")] = "0,0,1",
    memory: Annotated[str, typer.Option(help="Working memory, such as 500MB or 4GB.")] = "1GB",
) -> None:
    """Train an n-gram language model (interpolated modified Kneser-Ney) in bounded memory."""
    from wav2vec2.decoding.ngram_language_model import NgramLanguageModel

    try:
        thresholds, limit = _thresholds(prune), _bytes(memory)
        if output.name.endswith((".arpa", ".arpa.gz")):
            with tempfile.TemporaryDirectory(dir=output.parent) as folder:
                model = NgramLanguageModel.train(texts, order, thresholds, limit, Path(folder, "compact"))
                model.to_arpa(output)
        else:
            model = NgramLanguageModel.train(texts, order, thresholds, limit, output)
    except (ValueError, OSError) as error:
        typer.echo(f"build-lm: {error}", err=True)
        raise typer.Exit(1) from error
    counts = ", ".join(f"{size} {length}-grams" for length, size in enumerate(model.trie.level_sizes, 1))
    typer.echo(f"{output}: {counts}")


def _thresholds(text: str) -> list[int]:
    if not re.fullmatch(r"\d{1,9}([ ,]+\d{1,9})*", text.strip()):
        raise ValueError(f"prune={text!r}, expected numbers such as 0,0,1")
    return [int(number) for number in re.split(r"[ ,]+", text.strip())]


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})\s*([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"memory={text!r}, expected a size such as 500MB or 4GB")
    return int(match[1]) * _UNITS[match[2].upper()]
