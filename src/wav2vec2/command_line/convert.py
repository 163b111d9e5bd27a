"""`wav2vec2 convert`: checkpoints of fairseq, fairseq2 and torchaudio to Transformers' format, and back."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wav2vec2.command_line.stopping import told


def convert(
    source: Annotated[str, typer.Argument(help="A .pt file of fairseq, fairseq2, torchaudio; or a model folder.")],
    destination: Annotated[Path, typer.Argument(help="New folder.")],
    to: Annotated[str, typer.Option(help="transformers, fairseq, fairseq2 or torchaudio.")] = "transformers",
    dictionary: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Tokens of the head: dict.ltr.txt, .model, vocab.json, labels."),
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the configuration; once for each.", metavar="NAME=VALUE")
    ] = None,
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--no-normalize", help="Whether waveforms are normalised.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Of a model with languages, the one to put in place.")] = None,
) -> None:
    """Convert a checkpoint, without the framework that wrote it.

    What the source is, its tensors say. A pickle in it runs nothing. Names that are missing or unknown are listed and
    refused. One tensor at a time is in memory.
    """
    from wav2vec2.sharing.converters.conversion import convert_checkpoint

    with told("convert", errors=(ValueError, OSError)):
        done = convert_checkpoint(
            source,
            destination,
            to,
            dictionary=dictionary,
            config=_fields(config or []),
            normalize=normalize,
            language=language,
        )
    for note in done.notes:
        typer.echo(note, err=True)
    typer.echo(f"{done.folder}: {done.architecture} of {done.parameters:,} parameters, from {done.origin} to {to}")


def _fields(written: list[str]) -> dict[str, Any]:
    """Each value as YAML reads it: a number, true or false, a list."""
    import yaml

    fields = {}
    for one in written:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{one!r}: must be NAME=VALUE, as num_attention_heads=16")
        try:
            fields[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"{one!r}: its value cannot be read ({error})") from error
    return fields
