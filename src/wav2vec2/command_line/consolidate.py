"""`wav2vec2 consolidate`: a model folder of a checkpoint whose weights every process wrote in parts."""

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2.command_line.stopping import told


def consolidate(
    source: Annotated[Path, typer.Argument(help="Output folder of a run, or one of its checkpoints/update-*.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder.")],
) -> None:
    """Make a model folder of a checkpoint that was saved in parts (run.save_in_parts), finished run or not.

    Of a run it is the best checkpoint, without evaluations the newest. Nothing of the run is changed, and at most one
    gigabyte of the model is held at once.
    """
    from wav2vec2.training.saving.consolidation import consolidate as write

    with told("consolidate", errors=(ValueError, OSError)):
        checkpoint = write(source, output)
    typer.echo(f"{output}: the model of {checkpoint}")
