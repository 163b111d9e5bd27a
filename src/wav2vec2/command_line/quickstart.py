"""`wav2vec2 quickstart`: the whole path in minutes, from audio to a model that transcribes."""

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything that is made.")] = Path(
        "quickstart"
    ),
    audio: Annotated[Path | None, typer.Option(help="Folder with your own recordings; needs --transcripts.")] = None,
    transcripts: Annotated[
        Path | None,
        typer.Option(help="Manifest with what is said in some of them: columns path and transcript, perhaps speaker."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over; without it, go on where it stopped.")] = False,
    minutes: Annotated[
        float, typer.Option(min=0.01, help="How long it may take on two cores: scales the updates of the trainings.")
    ] = 6.0,
    seed: Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")] = 1,
    traceback: Annotated[bool, typer.Option("--traceback", help="After an error, show where it happened.")] = False,
) -> None:
    """See everything work: make speech, pretrain, fine-tune, decode, measure, transcribe, write the model card.

    Needs no data and no network: the small pretrained model of the package goes on learning from sentences of a small
    grammar, spoken by synthetic voices, of which some are kept from training to measure on. Five minutes of them have
    labels; what the same labels give without pretraining is told too. With your own recordings:

        wav2vec2 quickstart --audio FOLDER --transcripts train.tsv --output mine
    """
    from transformers.utils import logging

    from wav2vec2.quickstart.resumable_stages import StoppedError
    from wav2vec2.quickstart.whole_path import Settings
    from wav2vec2.quickstart.whole_path import quickstart as run

    logging.disable_progress_bar()
    folder, texts = (None if path is None else str(path) for path in (audio, transcripts))
    try:
        run(Settings(seed, minutes, folder, texts), output, fresh, typer.echo)
    except (StoppedError, KeyboardInterrupt) as error:
        typer.echo(f"quickstart: {error or 'stopped; the same command goes on'}", err=True)
        raise typer.Exit(130) from error
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if traceback:
            raise
        typer.echo(f"quickstart: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(_next_steps(output, own=audio is not None))


def _next_steps(output: Path, own: bool) -> str:
    mine = "" if own else "\n  wav2vec2 quickstart --audio FOLDER --transcripts train.tsv --output mine"
    return f"""
Next, with your own audio:
  wav2vec2 transcribe YOUR_AUDIO --model {output / "model"}{mine}
  wav2vec2 pretrain tiny_cpu data.train.0.path=FOLDER
  wav2vec2 finetune ctc_base_1h model.checkpoint=facebook/wav2vec2-base data.train.0.path=train.tsv
  wav2vec2 evaluate --model {output / "model"} --data test.tsv
A model of 9 million parameters after minutes of training shows that everything works, and what pretraining is worth;
one that is of use starts from a larger checkpoint, as in the command with finetune."""
