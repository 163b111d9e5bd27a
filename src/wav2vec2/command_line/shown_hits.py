"""Hits as they are shown, a line for each as it comes: text, a table, or JSON lines."""

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from wav2vec2.files.tab_separated import table

if TYPE_CHECKING:
    from wav2vec2.spotting.keyword_spotter import Hit

_COLUMNS = ("audio", "start", "end", "keyword", "score")


class HitFormat(StrEnum):
    """What can be written."""

    txt = "txt"
    tsv = "tsv"
    jsonl = "jsonl"


class ShownHits:
    """Hits on standard output; in text the recording is named where there are `several`."""

    def __init__(self, format: HitFormat, several: bool) -> None:
        self._format, self._several = format, several
        if format is HitFormat.tsv:
            typer.echo(table([_COLUMNS]), nl=False)

    def show(self, name: str, hits: Iterable["Hit"]) -> None:
        """Print the hits of a recording."""
        for hit in hits:
            typer.echo(self._line(name, hit))

    def _line(self, name: str, hit: "Hit") -> str:
        start, end, score = f"{hit.start:.3f}", f"{hit.end:.3f}", f"{hit.score:.4f}"
        if self._format is HitFormat.tsv:
            return table([[name, start, end, hit.keyword, score]]).rstrip("\n")
        if self._format is HitFormat.jsonl:
            row = {"audio": name, "keyword": hit.keyword, "start": hit.start, "end": hit.end, "score": hit.score}
            rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
            return json.dumps(rounded, ensure_ascii=False)
        return f"{name}: " * self._several + f"{hit.start:.2f} s to {hit.end:.2f} s  {hit.score:.2f}  {hit.keyword}"
