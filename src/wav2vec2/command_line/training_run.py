"""What `wav2vec2 pretrain` and `wav2vec2 finetune` share: read the recipe, show it or run it, tell what is wrong."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from wav2vec2.training.settings.run_config import FinetuneRun, PretrainRun

    T = TypeVar("T", PretrainRun, FinetuneRun)

Recipe = Annotated[
    str,
    typer.Argument(help="YAML file of the run, or the name of a shipped recipe, such as tiny_cpu.", metavar="RECIPE"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Values that replace the recipe's: data.train.0.path=FOLDER optimizer.learning_rate=3e-4",
        metavar="KEY=VALUE",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on from the newest checkpoint in run.output, if there is one.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show every value of the run and where it comes from; start nothing.")
]
Traceback = Annotated[bool, typer.Option("--traceback", help="After an error, show where in the code it happened.")]


def execute(
    kind: "type[T]", recipe: str, overrides: list[str], dry_run: bool, traceback: bool, start: "Callable[[T], Any]"
) -> None:
    """Read the run and start it. Errors go to standard error in one message, and the exit code is 1."""
    from wav2vec2.training.settings.recipes import resolve
    from wav2vec2.training.settings.run_listing import listing

    try:
        resolved = resolve(kind, recipe, overrides)
        if dry_run:
            typer.echo(listing(resolved.run, resolved.layers), nl=False)
        else:
            start(resolved.run)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if traceback:
            raise
        typer.echo(f"{kind.__name__.removesuffix('Run').lower()}: {error}", err=True)
        raise typer.Exit(1) from error
