"""`wav2vec2 evaluate`: how many errors does this model make on this data?"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line.evaluate_labels import evaluate_labels
from wav2vec2.command_line.evaluation_request import Request, Shown
from wav2vec2.command_line.progress import progress_report
from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.score import rate_line
from wav2vec2.command_line.stopping import told

if TYPE_CHECKING:
    from wav2vec2.evaluation.evaluation import Evaluation
    from wav2vec2.evaluation.evaluation_run import Evaluated, Setup
    from wav2vec2.inference.transcriber import Transcriber


def evaluate(
    model: options.Model,
    data: Annotated[
        Path, typer.Option("--data", "-d", exists=True, dir_okay=False, help="Manifest with path and transcript.")
    ],
    lm: options.Lm = None,
    beam: options.Beam = None,
    hotwords: options.Hotwords = None,
    lexicon: options.Lexicon = None,
    normalizer: Annotated[
        str, typer.Option(help="What is done to both texts: model (what its training did), none, casefold or basic.")
    ] = "model",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for evaluation.json, utterances.tsv, evaluation.html.")
    ] = None,
    language: options.Language = None,
    device: options.Device = None,
    window: options.Window = None,
    dtype: options.DtypeOption = None,
    batch_seconds: options.BatchSeconds = None,
    resamples: Annotated[int, typer.Option(min=1, help="Resamples for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    model_name: Annotated[str | None, typer.Option(help="What the model is called in the results.")] = None,
    dataset_name: Annotated[str | None, typer.Option(help="What the data is called, such as its Hub name.")] = None,
    dataset_config: Annotated[str | None, typer.Option(help="Its configuration.")] = None,
    dataset_split: Annotated[str | None, typer.Option(help="Its split, such as test.")] = None,
    dataset_revision: Annotated[str | None, typer.Option(help="Its revision.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print evaluation.json.")] = False,
) -> None:
    """Word and character error rates of a model, greedy and with a language model side by side; of one that gives
    labels, how many are right (its manifest has the column label).

    Recordings that cannot be read are listed, left out of the rates, and make the exit code 1.
    """
    from wav2vec2.evaluation.bootstrap import Resampling
    from wav2vec2.evaluation.evaluation_run import DataNames, Setup
    from wav2vec2.inference.checkpoint_check import reach
    from wav2vec2.inference.model_kinds import kind_of_model

    names = DataNames(dataset_name, dataset_config, dataset_split, dataset_revision)
    setup = Setup(normalizer, Resampling(resamples, seed), names, None if lm is None else lm.name)
    recogniser = Recogniser(model, device, language, lm, beam, hotwords, lexicon, window, dtype, batch_seconds)
    with told("evaluate"):
        kind = kind_of_model(model, reach(model))
        found = EVALUATIONS.get(kind, evaluate_text)(Request(recogniser, data, setup, model_name, output))
    typer.echo(found.json if as_json else found.lines, nl=not as_json)
    if found.failures:
        reasons = "".join(f"\n  {failure.reason}" for failure in found.failures)
        typer.echo(f"evaluate: {len(found.failures)} recordings failed:{reasons}", err=True)
        raise typer.Exit(1)


def evaluate_text(asked: Request) -> Shown:
    """Of a model that writes text."""
    from wav2vec2.evaluation.evaluation_files import save_evaluation

    recogniser = asked.recogniser
    recogniser.check()
    language = recogniser.language
    evaluated = _evaluated(recogniser.load(), recogniser.model, asked.data, language, asked.setup, asked.model_name)
    if asked.output is not None:
        save_evaluation(evaluated, asked.output)
    found = evaluated.evaluation
    return Shown(_lines(found), found.to_json(), found.failures)


#: What evaluates each kind of model (`inference.model_kinds`); a further kind is an entry here.
EVALUATIONS: dict[str, Callable[[Request], Shown]] = {"text": evaluate_text, "labels": evaluate_labels}


def _evaluated(
    transcriber: "Transcriber", checkpoint: str, data: Path, language: str | None, setup: "Setup", name: str | None
) -> "Evaluated":
    from dataclasses import replace

    from wav2vec2.evaluation.evaluation_run import evaluate_manifest, evaluated_model, named_recordings, ways
    from wav2vec2.evaluation.normalisers import normaliser_of, unwritable

    recordings, tokenizer = named_recordings(data).values(), transcriber.processor.tokenizer
    treat = normaliser_of(setup.normalizer, tokenizer)
    if warning := unwritable([one.transcript or "" for one in recordings], treat, tokenizer):
        typer.echo(f"evaluate: warning: {warning}", err=True)
    model = evaluated_model(checkpoint, transcriber, language)
    paths = [one.path for one in recordings] * len(ways(transcriber))
    with progress_report(paths, line_for_each=False) as report:
        return evaluate_manifest(transcriber, replace(model, name=name or model.name), data, setup, report)


def _lines(found: "Evaluation") -> str:
    from wav2vec2.evaluation.figures_in_words import length, times_as_fast

    treated = f"normaliser {found.normalizer} ({found.normalizer_steps})"
    lines = [f"{found.utterances} utterances, {length(found.hours)}, {treated}"]
    for one in found.decodings:
        lines.append(rate_line(f"{one.name} WER", one.wer, "words"))
        lines.append(rate_line(f"{one.name} CER", one.cer, "characters"))
        lines.append(
            f"{one.name} {times_as_fast(one.real_time_factor)} times as fast as speech: {one.seconds:.1f} s for "
            f"{one.audio_seconds:.1f} s of audio"
        )
    compared = found.comparison
    if compared is not None and compared.by_utterance is not None:
        sure = compared.by_utterance.probability
        lines.append(f"{compared.better} makes fewer word errors than {compared.than} with probability {sure:.3f}")
    return "\n".join(lines)
