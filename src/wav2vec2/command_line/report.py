"""`wav2vec2 report`: how did, or does, this run go?"""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="Output folder of a run, finished or not.")],
) -> None:
    """Make report.html and report.png, one page each, from the log of a training run."""
    from wav2vec2.training.progress.report import write_report

    try:
        written = write_report(folder)
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"report: {error}", err=True)
        raise typer.Exit(1) from error
    for path in written:
        typer.echo(path)
