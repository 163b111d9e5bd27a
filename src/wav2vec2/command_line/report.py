"""`wav2vec2 report`: how did, or does, this run go?"""

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2.command_line.stopping import told


def report(
    folder: Annotated[Path, typer.Argument(help="Output folder of a run, finished or not.")],
) -> None:
    """Make report.html and report.png, one page each, from the log of a training run."""
    from wav2vec2.training.progress.report import write_report

    with told("report", errors=(ValueError, OSError, ImportError)):
        for path in write_report(folder):
            typer.echo(path)
