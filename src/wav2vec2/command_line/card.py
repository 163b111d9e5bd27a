"""`wav2vec2 card`: the model card of a folder, from what was measured and what the log of the run holds."""

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2.command_line.stopping import told


def card(
    folder: Annotated[Path, typer.Argument(help="Folder of the model; its README.md is written.")],
    licence: Annotated[str, typer.Option("--license", help="Of the weights, as the Hub names it: apache-2.0.")],
    license_name: Annotated[str | None, typer.Option(help="What it is called, for --license other.")] = None,
    license_link: Annotated[str | None, typer.Option(help="Where it can be read, for --license other.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="ISO 639 code, such as en; once for each.")] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="evaluation.json of `wav2vec2 evaluate`, of these weights."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Output folder of the run: its log.jsonl is read, its report.png copied."
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="What the audio is, in a sentence.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Name on the Hub of what it was trained on.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Name on the Hub of what it was trained from.")] = None,
    title: Annotated[str | None, typer.Option(help="By default the name of the folder.")] = None,
    limitation: Annotated[list[str] | None, typer.Option(help="What it should not be used for; a sentence.")] = None,
) -> None:
    """Write the card of a model, which `wav2vec2 push` wants.

    Every figure is from the evaluation or the log; what was not measured or recorded is said not to be. Metadata that
    the Hub would refuse, paths of this machine and an evaluation of other weights are refused.
    """
    from wav2vec2.sharing.model_card import CardFacts, write_card_from_files

    facts = CardFacts(
        license=licence,
        license_name=license_name,
        license_link=license_link,
        languages=tuple(language or ()),
        title=title,
        datasets=tuple(dataset or ()),
        base_model=base_model,
        limitations=tuple(limitation or ()),
    )
    with told("card", errors=(ValueError, OSError)):
        typer.echo(str(write_card_from_files(folder, facts, evaluation, run, data)))
