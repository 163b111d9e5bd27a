"""`wav2vec2 push`: a model folder to the Hub, after everything that can be checked was checked."""

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2.command_line.stopping import told


def push(
    folder: Annotated[Path, typer.Argument(help="Folder with model, processor and card (README.md).")],
    name: Annotated[str, typer.Argument(help="Name on the Hub: USER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; made if it is not there.")] = None,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    clip: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Audio file to transcribe before; by default a made sound."),
    ] = None,
) -> None:
    """Publish a model: create its repository, or update it, with one commit.

    Before anything leaves, the files are loaded by this package and by stock Transformers in processes of their own, a
    clip is transcribed, the card's metadata is validated, and the files are searched for paths, user names and tokens.
    A failure sends nothing. The token comes from the environment variable HF_TOKEN, or from `hf auth login`.
    """
    from wav2vec2.sharing.push import push_folder

    def say(line: str) -> None:
        typer.echo(line, err=True)

    with told("push", errors=(ValueError, OSError)):
        done = push_folder(
            folder, name, private=True if private else None, revision=revision, message=message, clip=clip, say=say
        )
    for path, reason in done.left_out.items():
        say(f"not published: {path} ({reason})")
    if done.loaded is not None:
        if done.loaded.text is not None:
            say(f"the clip says: {done.loaded.text!r}")
        say(f"outputs differ from stock Transformers' by {done.loaded.difference:.1g} of the largest")
        if done.loaded.note:
            say(done.loaded.note)
    what = f"{len(done.files)} files, commit {done.commit}" if done.changed else "everything was there already"
    typer.echo(f"{done.url}: {what}")
