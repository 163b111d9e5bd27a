"""The command `wav2vec2`. Each command imports what it needs when it runs, so that `--help` is quick."""

import os
from importlib.metadata import version
from typing import Annotated

import typer

from wav2vec2.command_line.align import align
from wav2vec2.command_line.average import average
from wav2vec2.command_line.build_lm import build_lm
from wav2vec2.command_line.card import card
from wav2vec2.command_line.consolidate import consolidate
from wav2vec2.command_line.convert import convert
from wav2vec2.command_line.evaluate import evaluate
from wav2vec2.command_line.export import export
from wav2vec2.command_line.index import index
from wav2vec2.command_line.listen import listen
from wav2vec2.command_line.predict import predict
from wav2vec2.command_line.pronounce import pronounce
from wav2vec2.command_line.push import push
from wav2vec2.command_line.quickstart import quickstart
from wav2vec2.command_line.report import report
from wav2vec2.command_line.score import score
from wav2vec2.command_line.serve import serve
from wav2vec2.command_line.spot import spot
from wav2vec2.command_line.training import finetune, pretrain
from wav2vec2.command_line.transcribe import transcribe
from wav2vec2.command_line.tune import tune

app = typer.Typer(
    name="wav2vec2",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
COMMANDS = (
    *(transcribe, listen, spot, serve, align, predict, pronounce, build_lm, tune, evaluate, score),
    *(index, pretrain, finetune, average, consolidate, report, card, push, convert, export, quickstart),
)
for command in COMMANDS:
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wav2vec2 {version('wav2vec2')}")
        raise typer.Exit


@app.callback()
def options(
    show: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and end.")
    ] = False,
) -> None:
    """Speech recognition with wav2vec 2.0: transcripts, word times, language models, training."""


def main() -> None:
    """What the installed command `wav2vec2` runs."""
    let_threads_sleep()
    use_huge_pages()
    app(prog_name="wav2vec2")


def let_threads_sleep() -> None:
    """Threads that wait for each other do so in a loop for tens of microseconds, then sleep, unless the environment
    says otherwise. OpenMP (GCC's, which torch's wheels for Linux bring) reads this once, when torch is imported.

    By default they stay in the loop for milliseconds. With much else at work on the same cores, the one that is waited
    for then gets no core until the others' time is up, at each of an update's many operations: ten times slower and
    more. To sleep at once would cost half as much again where nothing else is at work (docs/performance.md).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def use_huge_pages() -> None:
    """Torch asks the system for pages of 2 MiB for large tensors, unless the environment says otherwise; it reads this
    when it first allocates one. Up to a tenth of a pass of base over 10 s would else go into asking for pages of 4 KiB,
    anew for every tall tensor (docs/performance.md). A system without them, or told never to give them, ignores it.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
