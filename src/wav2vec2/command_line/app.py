"""The command `wav2vec2`. Each command imports what it needs when it runs, so that `--help` is quick."""

import typer

from wav2vec2.command_line.align import align
from wav2vec2.command_line.build_lm import build_lm
from wav2vec2.command_line.transcribe import transcribe

app = typer.Typer(
    name="wav2vec2",
    help="Speech recognition with wav2vec 2.0: transcripts, word times, language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
for command in (transcribe, align, build_lm):
    app.command()(command)


def main() -> None:
    """What the installed command `wav2vec2` runs."""
    app(prog_name="wav2vec2")
