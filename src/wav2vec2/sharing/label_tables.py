"""The numbers of an evaluation of labels as a card states them: tables for the reader, `model-index` for the Hub."""

from typing import TYPE_CHECKING

from wav2vec2.evaluation.label_evaluation import LabelEvaluation
from wav2vec2.evaluation.label_files import rule_in_words
from wav2vec2.evaluation.label_scoring import Figure
from wav2vec2.sharing.evaluation_tables import data_sentence, dataset_of, interval_text, measured_with, sums

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


def eval_results(evaluation: LabelEvaluation) -> "list[EvalResult]":
    """Accuracy and the macro F1, for `model-index`."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Audio Classification",
            **dataset_of(evaluation),
            metric_type=kind,
            metric_name=name,
            metric_value=round(100 * figure.value, 4),
        )
        for kind, name, figure in (
            ("accuracy", "Accuracy", evaluation.scores.accuracy),
            ("f1", "Macro F1", evaluation.scores.macro_f1),
        )
    ]


def results_section(evaluation: LabelEvaluation) -> str:
    """The measured figures with all they depend on."""
    parts = [data_sentence(evaluation, f"{evaluation.clips} clips"), _figures(evaluation), _labels(evaluation)]
    how = [f"- Answers: {rule_in_words(evaluation.rule)}.", *measured_with(evaluation)]
    return "\n\n".join([*parts, "\n".join(how), sums(evaluation)])


def not_measured(evaluation: LabelEvaluation) -> list[str]:
    """What the evaluation does not tell."""
    unknown = []
    if evaluation.scores.rejected_of_none is None:
        unknown.append("what is answered to sounds that are none of the labels")
    if evaluation.scores.accuracy.speaker_interval is None:
        unknown.append("how much the accuracy differs between speakers")
    return unknown


def _figures(evaluation: LabelEvaluation) -> str:
    scores, level = evaluation.scores, f"{100 * evaluation.resampling.level:g} %"
    figures: list[tuple[str, Figure | None]] = [
        ("accuracy", scores.accuracy),
        ("macro F1", scores.macro_f1),
        ("micro F1", scores.micro_f1),
        ("rejected of the clips with no label", scores.rejected_of_none),
    ]
    rows = [f"| | % | {level}, other clips | {level}, other speakers |", "|---|---|---|---|"]
    for name, one in figures:
        if one is not None:
            intervals = f"{interval_text(one.interval)} | {interval_text(one.speaker_interval)}"
            rows.append(f"| {name} | **{100 * one.value:.2f}** | {intervals} |")
    return "\n".join(rows)


def _labels(evaluation: LabelEvaluation) -> str:
    rows = ["| label | clips | given | right |", "|---|---|---|---|"]
    rows += [f"| {one.label} | {one.clips} | {one.given} | {one.right} |" for one in evaluation.scores.labels]
    return "\n".join(rows)
