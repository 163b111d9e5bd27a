"""`wav2vec2 pretrain` and `wav2vec2 finetune`: read the recipe, show the run or start it, tell what is wrong."""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from wav2vec2.command_line.learnable import FinetuneTask, Learnable, learnable

#: Seconds that the first process of a launch has to say what is wrong with all of them.
_PATIENCE = 10.0

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


def pretrain(
    recipe: Recipe,
    overrides: Overrides = None,
    resume: Resume = True,
    dry_run: DryRun = False,
    traceback: Traceback = False,
) -> None:
    """Pretrain a model on audio without transcripts.

    A recipe says what is trained and how; shipped ones need only your audio:

        wav2vec2 pretrain tiny_cpu data.train.0.path=FOLDER

    Paths are relative to the current directory. On several GPUs, the same run:

        accelerate launch -m wav2vec2 pretrain tiny_cpu data.train.0.path=FOLDER
    """

    def chosen(said: object) -> Learnable:
        from wav2vec2.training.pretraining import pretrain
        from wav2vec2.training.settings.run_config import PretrainRun

        return Learnable(PretrainRun, None, pretrain)

    _execute("pretrain", chosen, recipe, overrides or [], resume, dry_run, traceback)


def finetune(
    recipe: Recipe,
    overrides: Overrides = None,
    task: Annotated[
        FinetuneTask | None, typer.Option(help="What is learnt; by default what the recipe says, else recognition.")
    ] = None,
    resume: Resume = True,
    dry_run: DryRun = False,
    traceback: Traceback = False,
) -> None:
    """Fine-tune a pretrained model on audio with transcripts, or with labels.

    A recipe says what is trained and how; shipped ones need only your audio and its transcripts or labels:

        wav2vec2 finetune ctc_tiny_cpu data.train.0.path=train.tsv

    Paths are relative to the current directory. On several GPUs, the same run:

        accelerate launch -m wav2vec2 finetune ctc_tiny_cpu data.train.0.path=train.tsv
    """
    _execute("finetune", partial(learnable, task), recipe, overrides or [], resume, dry_run, traceback)


def _execute(
    command: str,
    chosen: Callable[[object], Learnable],
    recipe: str,
    overrides: list[str],
    resume: bool,
    dry_run: bool,
    traceback: bool,
) -> None:
    """Read the run, of the kind that is `chosen` by the task it says, and start it. Errors go to standard error in one
    message, and the exit code is 1; that of a run that was stopped by a signal says by which."""
    from wav2vec2.training.saving.interruption import exit_code, left_early
    from wav2vec2.training.settings.recipe_files import listing
    from wav2vec2.training.settings.recipes import resolve, task_said

    reading = True
    try:
        said = task_said(recipe, overrides)
        task = chosen(said)
        others = [] if task.name in (None, said) else [f"task={task.name}"]
        resolved = resolve(task.kind, recipe, [*overrides, *others])
        if dry_run:
            typer.echo(listing(resolved.run, resolved.layers), nl=False)
            return
        reading = False
        left_early(None)
        task.start(resolved.run, resume)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if traceback:
            raise
        _tell(command, error, reading or getattr(error, "on_all_processes", False))
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:  # before the first update or after the last: in between, a run saves first
        typer.echo("stopped; the same command goes on from the last checkpoint, if there is one", err=True)
        raise typer.Exit(130) from error
    if code := exit_code():
        raise typer.Exit(code)


def _tell(command: str, error: Exception, on_all_processes: bool) -> None:
    """The message of an error; of one that all processes of a launch have, the first process says it for all.

    The others wait before they leave: a launcher ends all processes as soon as one of them has failed, and the first
    has to have spoken by then.
    """
    process = int(os.environ.get("RANK", "0"))
    if process and on_all_processes:
        time.sleep(_PATIENCE)
        return
    typer.echo(f"{command}{f' (process {process})' if process else ''}: {error}", err=True)
