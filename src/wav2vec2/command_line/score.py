"""`wav2vec2 score`: how wrong are these texts? No model, no audio."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2.command_line.stopping import told
from wav2vec2.command_line.transcript_files import write_transcript

if TYPE_CHECKING:
    from wav2vec2.evaluation.evaluation import ErrorRate


def score(
    references: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Texts that are right: id TAB text, text (id), a manifest."),
    ],
    hypotheses: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Texts that were recognised, with the same ids.")
    ],
    normalizer: Annotated[str, typer.Option(help="What is done to both before: none, casefold or basic.")] = "none",
    resamples: Annotated[int, typer.Option(min=1, help="Resamples for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    table: Annotated[Path | None, typer.Option(help="TAB separated file to write, a line for each utterance.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Word and character error rates of texts, with 95 % intervals.

    Ids must be the same on both sides, each once.
    """
    from wav2vec2.evaluation.bootstrap import Resampling
    from wav2vec2.evaluation.text_tables import score_files, text_table

    with told("score", errors=(ValueError, OSError)):
        scored = score_files(references, hypotheses, normalizer, Resampling(resamples, seed))
        if table is not None:
            write_transcript(table, text_table(scored))
    if as_json:
        content = {"utterances": len(scored.ids), "normalizer": scored.normalizer}
        content |= {name: asdict(getattr(scored, name)) for name in ("resampling", "wer", "cer")}
        typer.echo(json.dumps(content, indent=2))
    else:
        typer.echo(f"{len(scored.ids)} utterances, normaliser {scored.normalizer}")
        typer.echo(rate_line("WER", scored.wer, "words"))
        typer.echo(rate_line("CER", scored.cer, "characters"))


def rate_line(name: str, rate: "ErrorRate", unit: str) -> str:
    """A rate with all that belongs to it on one line."""
    drawn = [("", rate.interval), (" by speaker", rate.speaker_interval)]
    intervals = [f"{one.low:.4%} to {one.high:.4%}{how}" for how, one in drawn if one is not None]
    shown = f" (95 %: {'; '.join(intervals)})" if intervals else ""
    return (
        f"{name} {rate.rate:.4%}{shown}: {rate.substitutions} substitutions, {rate.deletions} deletions, "
        f"{rate.insertions} insertions in {rate.reference} {unit}"
    )
