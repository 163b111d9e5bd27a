"""`wav2vec2 average`: the mean of several checkpoints of a run, as a model."""

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2.command_line.stopping import told


def average(
    run: Annotated[Path, typer.Argument(help="Output folder of a run, finished or not.")],
    last: Annotated[int | None, typer.Option(min=2, help="Average so many of the newest checkpoints.")] = None,
    best: Annotated[int | None, typer.Option(min=2, help="So many of the best by the run's evaluations.")] = None,
    update: Annotated[list[int] | None, typer.Option(min=0, help="The one after this update; once for each.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New folder; by default average-last-5 or so in the run's.")
    ] = None,
) -> None:
    """Make one model of several checkpoints of a run: each weight is the mean of theirs.

    A run keeps as many checkpoints as run.keep_last and run.keep_best say. Nothing of the run is changed. Whether the
    mean is better than the best checkpoint, an evaluation tells.
    """
    from wav2vec2.training.checkpoint_average import average_checkpoints

    with told("average", errors=(ValueError, OSError, ImportError)):
        done = average_checkpoints(run, last, best, update or (), output)
    typer.echo(f"{done.folder}: the mean of the checkpoints after updates {', '.join(map(str, done.updates))}")
    for manifest in done.manifests:
        typer.echo(f"to evaluate it: wav2vec2 evaluate --model {done.folder} --data {manifest}", err=True)
