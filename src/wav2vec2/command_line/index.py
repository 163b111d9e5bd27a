"""`wav2vec2 index`: an index of shards, made once, for runs over data of any size."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2.command_line.progress import work_progress
from wav2vec2.command_line.stopping import told

if TYPE_CHECKING:
    from wav2vec2.shards.shard_index import ShardIndex

#: So many shards that were passed over are named; the index has all of them.
_NAMED = 10


def index(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder, pattern or address (s3:// gs:// hf:// http:// ...) of parquet, WebDataset tars or Shar, or a "
            "manifest (.tsv)."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Index to write: .arrow. Default: beside the source.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of folders split=NAME, those of this one.")] = None,
    audio_column: Annotated[str, typer.Option(help="Column of parquet with the audio.")] = "audio",
    text_column: Annotated[str | None, typer.Option(help="Column of parquet with the transcript.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for an index that cannot lie beside its source.")] = None,
) -> None:
    """Read shards once and write where each clip begins, how long it is and what is said of it; exits with 1 if shards
    or clips had to be passed over."""
    with told("index", "stopped; the index was not written"), work_progress("index") as tell:
        if output is not None and output.suffix != ".arrow":
            raise ValueError(f"{output}: the name of an index ends in .arrow")
        from wav2vec2.shards.indexing import IndexRequest, index_path, make_index

        request = IndexRequest(source, split, audio_column, text_column)
        path = output or index_path(request, cache)
        found = make_index(request, path, tell)
    unreadable = _tell(path, found)
    faults = _faults(found, unreadable)
    if faults:
        typer.echo("\n".join(faults), err=True)
        raise typer.Exit(1)


def _tell(path: Path, found: "ShardIndex") -> int:
    """Say what was indexed, by corpus and language where there are several; how many clips no one can read."""
    from wav2vec2.shards.group_totals import totals_of

    totals = totals_of(found)
    lines = [
        f"{path}: {totals.clips.sum():,} clips, {totals.seconds.sum() / 3600:,.2f} h in "
        f"{len(found.shards) - len(found.problems):,} shards"
    ]
    if len(found.groups) > 1:
        for group, clips, seconds in zip(found.groups, totals.clips, totals.seconds, strict=True):
            lines.append(f"  {group.corpus or '-'} {group.language or '-'}: {clips:,} clips, {seconds / 3600:,.2f} h")
    typer.echo("\n".join(lines))
    return totals.unreadable


def _faults(found: "ShardIndex", unreadable: int) -> list[str]:
    """What is not in the index."""
    lines, problems = [], found.problems
    if unreadable:
        lines.append(f"index: {unreadable:,} clips cannot be read: their headers are damaged")
    if problems:
        lines.append(f"index: {len(problems):,} shards cannot be read and are passed over:")
        lines += [f"  {url}: {reason}" for url, reason in problems[:_NAMED]]
        lines += [f"  and {len(problems) - _NAMED:,} more"] if len(problems) > _NAMED else []
    return lines
