"""`wav2vec2 evaluate` of models that fill slots."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wav2vec2.command_line.evaluate_labels import figure_line
from wav2vec2.command_line.evaluation_request import Request, Shown, reader_of
from wav2vec2.command_line.progress import progress_report

if TYPE_CHECKING:
    from wav2vec2.evaluation.slot_scoring import SlotScores


def evaluate_slots(asked: Request) -> Shown:
    """Of a model that gives slots of whole clips their values, or writes text with slots in it."""
    from wav2vec2.evaluation.evaluation_run import recordings_by_name
    from wav2vec2.evaluation.slot_evaluation import evaluate_slots_of, save_slot_evaluation
    from wav2vec2.inference.slot_reader import SlotReader

    reader, model = reader_of(asked, "slots", SlotReader)
    paths = [one.path for one in recordings_by_name(asked.data).values()]
    with progress_report(paths, line_for_each=False) as report:
        found = evaluate_slots_of(reader, model, asked.data, asked.setup.resampling, report)
    if asked.output is not None:
        save_slot_evaluation(found, asked.output)
    evaluation = found.evaluation
    return Shown("\n".join(_lines(evaluation.scores)), evaluation.to_json(), evaluation.failures)


def _lines(scores: "SlotScores") -> Iterator[str]:
    from wav2vec2.evaluation.figures_in_words import percent

    yield f"{scores.clips} clips, {scores.said} slots said, {scores.heard} heard"
    for name, figure in (
        ("slot F1", scores.slot_f1),
        ("macro slot F1", scores.macro_slot_f1),
        ("slot-type F1 (SUPERB)", scores.slot_type_f1),
        ("slot-value CER (SUPERB)", scores.slot_value_cer),
        ("clips entirely right", scores.whole),
    ):
        yield figure_line(name, figure)
    width = max(map(len, scores.f1_of_slots), default=0)
    for name, f1 in scores.f1_of_slots.items():
        yield f"{name:<{width}}  F1 {percent(f1)}"
