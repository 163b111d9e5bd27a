"""`wav2vec2 tune`: how much should the language model count?"""

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line.progress import progress_report, work_progress
from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.stopping import told
from wav2vec2.command_line.transcript_files import try_writing


def tune(
    model: options.Model,
    data: Annotated[
        Path,
        typer.Option(
            "--data", "-d", exists=True, dir_okay=False, help="Manifest with path and transcript; not the test set."
        ),
    ],
    lm: options.Lm = None,
    beam: options.Beam = None,
    hotwords: options.Hotwords = None,
    lexicon: options.Lexicon = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the decoder; by default the model's own.")
    ] = None,
    language: options.Language = None,
    device: options.Device = None,
    dtype: options.DtypeOption = None,
    batch_seconds: options.BatchSeconds = None,
) -> None:
    """Find the weights of the language model (alpha, beta) that make the fewest word errors on a development set.

    They are saved with the language model and the other settings of the search: in the model's folder, where
    `transcribe` and `evaluate` find them by themselves, or in --output, which is then what their --lm is given.
    """
    recogniser = Recogniser(model, device, language, lm, beam, hotwords, lexicon, None, dtype, batch_seconds)
    with told("tune"):
        if output is None and not Path(model).is_dir():
            raise ValueError(f"{model} is not a folder here: say with --output where the decoder is to be saved")
        folder = Path(model) if output is None else output
        recogniser.check()
        try_writing(folder)
        faults = _tuned(recogniser, data, folder)
    if faults:
        typer.echo(f"tune: {len(faults)} recordings were left out:", err=True)
        for fault in faults:
            typer.echo(f"  {fault}", err=True)
        raise typer.Exit(1)


def _tuned(recogniser: Recogniser, data: Path, folder: Path) -> list[str]:
    """Find the weights, save the decoder and tell both; what could not be used is given back."""
    from wav2vec2.inference.audio_inputs import AudioInput
    from wav2vec2.inference.tuning import check_tunable, hear, tune
    from wav2vec2.processing.manifests import read_manifest

    recordings = list(read_manifest(data))
    if not any(one.transcript for one in recordings):
        raise ValueError(f"--data {data}: no recording has a transcript, in a column of that name")
    transcriber = recogniser.load()
    check_tunable(transcriber, recogniser.model)
    pairs = [(AudioInput(str(one.path), one.path), one.transcript or "") for one in recordings]
    with progress_report([one.path for one in recordings], line_for_each=False) as report:
        heard = hear(transcriber, pairs, report.advance)
    with work_progress("tune") as tell:
        found = tune(transcriber, heard, tell)
    assert transcriber.decoder is not None
    transcriber.decoder.save_pretrained(folder)
    rates = f"WER {found.error_rate_before:.2%} -> {found.error_rate:.2%}"
    typer.echo(f"alpha {found.alpha:.2f}, beta {found.beta:.2f}: {rates} on the {len(heard.references)} recordings")
    typer.echo(f"saved in {folder}")
    return heard.faults
