"""The numbers of an evaluation of texts as a card states them: tables for the reader, `model-index` for the Hub.

Both come from the one `Evaluation`; nothing is computed here but percentages. What evaluations of labels have as well
is here too: on which data, with what, and the sums of the files.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2.evaluation.bootstrap import Interval
from wav2vec2.evaluation.evaluation import Decoding, ErrorRate, Evaluation
from wav2vec2.evaluation.figures_in_words import length, setting_text, times_as_fast
from wav2vec2.evaluation.label_evaluation import LabelEvaluation
from wav2vec2.evaluation.provenance import sha256_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_SPEED = "times as fast as speech"


def eval_results(evaluation: Evaluation) -> "list[EvalResult]":
    """WER and CER of each decoding, for `model-index`."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="automatic-speech-recognition",
            task_name="Speech Recognition",
            **dataset_of(evaluation),
            metric_type=name.lower(),
            metric_name=f"{name}, {_way(decoding)}",
            metric_value=round(100 * getattr(decoding, metric).rate, 4),
            metric_args={"normalizer": evaluation.normalizer, "decoder": _settings(decoding)},
        )
        for decoding in evaluation.decodings
        for metric, name, _ in evaluation.rates
    ]


def dataset_of(evaluation: Evaluation | LabelEvaluation) -> dict[str, str | None]:
    """What `model-index` says of the data."""
    data = evaluation.data
    return {
        "dataset_type": data.name,
        "dataset_name": " ".join(part for part in (data.name, data.config, data.split) if part),
        "dataset_config": data.config,
        "dataset_split": data.split,
        "dataset_revision": data.revision,
    }


def results_section(evaluation: Evaluation) -> str:
    """The measured figures with all they depend on."""
    parts = [
        data_sentence(evaluation, f"{evaluation.utterances} utterances"),
        _rates_table(evaluation),
        _errors_table(evaluation),
        _how(evaluation),
        sums(evaluation),
    ]
    return "\n\n".join(part for part in parts if part)


def not_measured(evaluation: Evaluation) -> list[str]:
    """What the evaluation does not tell."""
    unknown = []
    if "beam" not in {decoding.name for decoding in evaluation.decodings}:
        unknown.append("beam search and a language model")
    if evaluation.decodings[0].wer.speaker_interval is None:
        unknown.append("how much the error rate differs between speakers")
    return unknown


def data_sentence(evaluation: Evaluation | LabelEvaluation, recordings: str) -> str:
    """On what was measured."""
    data = evaluation.data
    named = [("config", data.config), ("split", data.split), ("revision", data.revision)]
    details = ", ".join(f"{name} {f'`{value}`' if value else 'not recorded'}" for name, value in named)
    speakers = "an unknown number of" if evaluation.speakers is None else str(evaluation.speakers)
    failures = len(evaluation.failures)
    lost = f" {failures} more could not be read and are in no figure." if failures else ""
    return f"Data: `{data.name}` ({details}); {recordings}, {length(evaluation.hours)}, {speakers} speakers.{lost}"


def _rates_table(evaluation: Evaluation) -> str:
    level = f"{100 * evaluation.resampling.level:g} %"
    (_, name, _), *others = evaluation.rates
    more = [column for _, other, _ in others for column in (f"{other} %", level)]
    columns = ("decoder", f"{name} %", f"{level}, other utterances", f"{level}, other speakers", *more, _SPEED)
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for one in evaluation.decodings:
        cells = [
            _way(one),
            f"**{100 * one.wer.rate:.2f}**",
            interval_text(one.wer.interval),
            interval_text(one.wer.speaker_interval),
            *(f"{100 * one.cer.rate:.2f}" for _ in others),
            *(interval_text(one.cer.interval) for _ in others),
            times_as_fast(one.real_time_factor) if one.audio_seconds else "not measured",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _errors_table(evaluation: Evaluation) -> str:
    rows = [
        "| decoder | of | in the references | right | substituted | deleted | inserted |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in evaluation.decodings:
        for metric, _, unit in evaluation.rates:
            rate: ErrorRate = getattr(one, metric)
            counts = (rate.reference, rate.hits, rate.substitutions, rate.deletions, rate.insertions)
            rows.append(f"| {_way(one)} | {unit} | {' | '.join(map(str, counts))} |")
    return "\n".join(rows)


def _how(evaluation: Evaluation) -> str:
    lines = [
        f"- Normaliser of references and transcripts: `{evaluation.normalizer}` ({evaluation.normalizer_steps}).",
        *(f"- Decoder {_way(one)}: {_settings(one)}." for one in evaluation.decodings),
        *measured_with(evaluation),
    ]
    if evaluation.comparison is not None and evaluation.comparison.by_utterance is not None:
        found = evaluation.comparison.by_utterance
        lines.append(
            f"- {evaluation.comparison.better} beside {evaluation.comparison.than}: "
            f"{100 * found.difference:+.2f} points of {evaluation.rates[0][1]}, interval "
            f"{interval_text(found.interval)}; fewer errors in {100 * found.probability:.1f} % of the resamples."
        )
    return "\n".join(lines)


def measured_with(evaluation: Evaluation | LabelEvaluation) -> list[str]:
    """How intervals were made, of which weights, on which machine."""
    how = evaluation.resampling
    weights = ", ".join(f"`{name}`" for name in evaluation.model.weights) or "not recorded"
    return [
        f"- Intervals: bootstrap, {how.resamples} resamples, seed {how.seed}; of one test set, not of other domains.",
        f"- Weights measured: {weights}; {evaluation.model.parameters} parameters in {evaluation.model.precision}.",
        f"- Measured on {evaluation.date}, on {evaluation.hardware}, in {evaluation.seconds:.0f} s, with "
        + ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
        + ".",
    ]


def sums(evaluation: Evaluation | LabelEvaluation) -> str:
    """The SHA-256 of each file as `sha256sum` prints and checks it; in a block, since it is too long for a sentence."""
    files = {**evaluation.model.weights, evaluation.data.manifest: evaluation.data.manifest_sha256}
    lines = [f"{sha}  {name}" for name, sha in files.items()]
    return "\n".join(["SHA-256 of the weights and of the manifest:", "", "```text", *lines, "```"])


def weights_problems(folder: Path, card: str) -> list[str]:
    """Weight files in the folder that are not those whose figures a card shows, by their SHA-256."""
    problems = []
    for sha, name in re.findall(r"^([0-9a-f]{64})  ([\w.-]+\.(?:safetensors|bin))$", card, re.MULTILINE):
        if (folder / name).is_file() and sha256_of(folder / name) != sha:
            problems.append(f"{name} is not the file that was measured: evaluate again, and write the card from that")
    return problems


def interval_text(interval: Interval | None) -> str:
    """In percent."""
    return "not measured" if interval is None else f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def _way(decoding: Decoding) -> str:
    """What a way of decoding is called: greedy, or beam search with or without a language model."""
    if decoding.name != "beam":
        return decoding.name
    return "beam search + LM" if decoding.settings.get("language_model") else "beam search"


def _settings(decoding: Decoding) -> str:
    settings = decoding.settings.items()
    told = [(name, value) for name, value in settings if value is not None and value is not False]
    return ", ".join(f"{name}={setting_text(value)}" for name, value in told)
