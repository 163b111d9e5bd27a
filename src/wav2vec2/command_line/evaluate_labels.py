"""`wav2vec2 evaluate` of models that give labels."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wav2vec2.command_line.evaluation_request import Request, Shown, reader_of
from wav2vec2.command_line.progress import progress_report

if TYPE_CHECKING:
    from wav2vec2.evaluation.label_evaluation import LabelEvaluation
    from wav2vec2.evaluation.label_scoring import Figure


def evaluate_labels(asked: Request) -> Shown:
    """Of a model that gives labels to whole clips."""
    from wav2vec2.evaluation.evaluation_run import recordings_by_name
    from wav2vec2.evaluation.label_evaluation import evaluate_labels_of
    from wav2vec2.evaluation.label_files import save_label_evaluation
    from wav2vec2.inference.labeller import Labeller

    labeller, model = reader_of(asked, "labels", Labeller)
    paths = [one.path for one in recordings_by_name(asked.data).values()]
    with progress_report(paths, line_for_each=False) as report:
        found = evaluate_labels_of(labeller, model, asked.data, asked.setup.names, asked.setup.resampling, report)
    if asked.output is not None:
        save_label_evaluation(found, asked.output)
    return Shown("\n".join(_lines(found.evaluation)), found.evaluation.to_json(), found.evaluation.failures)


def _lines(found: "LabelEvaluation") -> Iterator[str]:
    from wav2vec2.evaluation.figures_in_words import length, percent
    from wav2vec2.evaluation.label_files import rule_in_words

    scores = found.scores
    speakers = "" if found.speakers is None else f" of {found.speakers} speakers"
    yield f"{found.clips} clips{speakers}, {length(found.hours)}; {rule_in_words(found.rule)}"
    yield figure_line("accuracy", scores.accuracy)
    if found.accuracy_without_threshold is not None:
        yield figure_line("accuracy without the threshold, of clips with a label", found.accuracy_without_threshold)
    yield figure_line("rejected", scores.rejected)
    if scores.rejected_of_none is not None:
        yield figure_line("rejected of those with no label", scores.rejected_of_none)
    for way in ("macro", "micro"):
        for name in ("precision", "recall", "f1"):
            yield figure_line(f"{way} {name}", getattr(scores, f"{way}_{name}"))
    width = max(len(one.label) for one in scores.labels)
    for one in scores.labels:
        rates = f"precision {percent(one.precision)}, recall {percent(one.recall)}, F1 {percent(one.f1)}"
        yield f"{one.label:<{width}}  {one.right} of {one.clips} found, {one.given} given: {rates}"
    if found.confusion is not None:
        names = [*(one.label for one in scores.labels), "none"]
        for name, row in zip(names, found.confusion, strict=True):
            if taken := ", ".join(f"{other} {n}" for other, n in zip(names, row, strict=True) if n and other != name):
                yield f"{name} was taken for: {taken}"


def figure_line(name: str, figure: "Figure") -> str:
    """A figure and where it lies, as a line for people."""
    from wav2vec2.evaluation.figures_in_words import percent

    found = f"{name} {percent(figure.value)}"
    for interval, unit in ((figure.interval, "clips"), (figure.speaker_interval, "speakers")):
        if interval is not None:
            found += f", {percent(interval.low)[:-2]} to {percent(interval.high)} for other {unit}"
    return found
