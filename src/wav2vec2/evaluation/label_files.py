"""The files of an evaluation of labels: `evaluation.json`, `clips.tsv`, and `evaluation.html`, a page for people."""

from html import escape
from pathlib import Path

from wav2vec2.evaluation.bootstrap import Interval
from wav2vec2.evaluation.figures_in_words import length, percent
from wav2vec2.evaluation.label_evaluation import EvaluatedClip, EvaluatedLabels, LabelEvaluation
from wav2vec2.evaluation.label_scoring import Figure
from wav2vec2.files.html_page import page, table
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.tab_separated import table as tab_separated
from wav2vec2.inference.label_rule import BETWEEN, NONE, LabelRule

#: Clips that the page lists.
_WORST = 40

_STYLE = """
h2 { border-bottom: 1px solid #ccc; }
table { margin: 0 0 .6rem; } .origin td { overflow-wrap: anywhere; min-width: 5rem; }
"""


def save_label_evaluation(found: EvaluatedLabels, folder: Path) -> None:
    """Write all three files into the folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "evaluation.json": found.evaluation.to_json(),
        "clips.tsv": clip_table(found),
        "evaluation.html": label_page(found),
    }
    for name, content in contents.items():
        with replaced_file(folder / name) as stream:
            stream.write(content.encode("utf-8"))


def clip_table(found: EvaluatedLabels) -> str:
    """One line for each clip: its labels, the answer, and the probability of each label."""
    labels = list(found.clips[0].found.probabilities)
    lines = [["id", "speaker", "seconds", "label", "answer", *(f"p({label})" for label in labels)]]
    for one in found.clips:
        probabilities = [f"{one.found.probabilities[label]:.4f}" for label in labels]
        texts = [one.id, one.speaker or "", f"{one.found.duration:.2f}", _text(one.true), _text(one.found.labels)]
        lines.append([*texts, *probabilities])
    return tab_separated(lines)


def rule_in_words(rule: LabelRule) -> str:
    """When a label is the answer, in a sentence."""
    if rule.several:
        own = f", {len(rule.thresholds)} labels at thresholds of their own" if rule.thresholds else ""
        return f"every label of a probability of at least {rule.threshold:.2f} is an answer{own} ({rule.chosen})"
    if rule.threshold == 0:
        return f"the most probable label is the answer ({rule.chosen})"
    return f"the most probable label is the answer, below {rule.threshold:.2f} none is ({rule.chosen})"


def label_page(found: EvaluatedLabels) -> str:
    """The page: figures, labels, what was taken for what, the clips that went wrong, how it was measured."""
    evaluation = found.evaluation
    data = ", ".join(part for part in (evaluation.data.name, evaluation.data.config, evaluation.data.split) if part)
    parts = [_summary(evaluation), _labels(evaluation), _confusion(evaluation), _worst(found), _failures(evaluation)]
    return page(f"{evaluation.model.name} on {data}", [*parts, _origin(evaluation)], _STYLE)


def _summary(evaluation: LabelEvaluation) -> str:
    scores = evaluation.scores
    speakers = "" if evaluation.speakers is None else f" of {evaluation.speakers} speakers"
    rows: list[tuple[str, Figure | None]] = [
        ("Accuracy", scores.accuracy),
        ("Accuracy without the threshold, of clips with a label", evaluation.accuracy_without_threshold),
        ("Rejected", scores.rejected),
        ("Rejected of the clips with no label", scores.rejected_of_none),
        *((f"{way} {name}", getattr(scores, f"{way}_{name}".lower())) for way in ("Macro", "Micro")
          for name in ("precision", "recall", "F1")),
    ]  # fmt: skip
    level, how = f"{evaluation.resampling.level:.0%}".replace("%", " %"), evaluation.resampling
    rates = table(
        [[name, percent(one.value), _interval(one.interval), _interval(one.speaker_interval)]
         for name, one in rows if one is not None],
        ["", "Rate", f"{level}, clips", f"{level}, speakers"],
        f"{level} intervals from {how.resamples} resamples of clips, and of whole speakers. Macro is the mean over "
        "labels that occur, micro counts every clip and label alike.",
        numbers_from=1,
    )  # fmt: skip
    rule = escape(rule_in_words(evaluation.rule))
    return f"<p>{evaluation.clips} clips{speakers}, {length(evaluation.hours)}; {rule}.</p>{rates}"


def _labels(evaluation: LabelEvaluation) -> str:
    rule = evaluation.rule
    rows = [
        [one.label, str(one.clips), str(one.given), str(one.right), _share(one.precision, one.given),
         _share(one.recall, one.clips), _share(one.f1, one.given + one.clips),
         f"{rule.thresholds.get(one.label, rule.threshold):.2f}"]
        for one in evaluation.scores.labels
    ]  # fmt: skip
    head = ["Label", "Clips", "Given", "Right", "Precision", "Recall", "F1", "Threshold"]
    return f"<h2>Labels</h2>{table(rows, head, numbers_from=1, named_rows=True)}"


def _share(value: float, of: int) -> str:
    """Of nothing there is none."""
    return percent(value) if of else "–"


def _confusion(evaluation: LabelEvaluation) -> str:
    if evaluation.confusion is None:
        return ""
    names = [*(one.label for one in evaluation.scores.labels), NONE]
    rows = [[name, *map(str, row)] for name, row in zip(names, evaluation.confusion, strict=True)]
    caption = "A row for each label that clips have, a column for each answer."
    return "<h2>What was taken for what</h2>" + table(rows, ["", *names], caption, numbers_from=1, named_rows=True)


def _worst(found: EvaluatedLabels) -> str:
    def sure(one: EvaluatedClip) -> float:
        return max(one.found.probabilities.values())

    wrong = sorted((one for one in found.clips if set(one.true) != set(one.found.labels)), key=sure, reverse=True)
    if not wrong:
        return "<h2>Wrong answers</h2><p>Every answer is right.</p>"
    rows = []
    for one in wrong[:_WORST]:
        likely = sorted(one.found.probabilities.items(), key=lambda pair: -pair[1])[:3]
        shown = ", ".join(f"{label} {value:.2f}" for label, value in likely)
        rows.append([one.id, _text(one.true), _text(one.found.labels), shown])
    caption = f"{len(wrong)} of {len(found.clips)}, those that the model was surest of first, up to {_WORST}."
    return "<h2>Wrong answers</h2>" + table(rows, ["Clip", "Label", "Answer", "Most probable"], caption)


def _failures(evaluation: LabelEvaluation) -> str:
    if not evaluation.failures:
        return ""
    rows = [[one.id, one.reason] for one in evaluation.failures]
    return "<h2>Recordings that could not be read</h2>" + table(rows, ["Recording", "Reason"], "They are in no rate.")


def _origin(evaluation: LabelEvaluation) -> str:
    model, data, how = evaluation.model, evaluation.data, evaluation.resampling
    rows = [
        ["Model", f"{model.name}, {model.parameters:,} parameters, {model.precision}"],
        *([f"SHA-256 of {name}", digest] for name, digest in model.weights.items()),
        ["Data", data.name + ("" if data.revision is None else f", revision {data.revision}")],
        [f"SHA-256 of {data.manifest}", data.manifest_sha256],
        ["Resampling", f"{how.resamples} resamples, seed {how.seed}"],
        ["Versions", ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())],
        ["Hardware", evaluation.hardware],
        ["Date", f"{evaluation.date}, {evaluation.seconds:.1f} s in all"],
    ]
    return f'<h2>How it was measured</h2><div class="origin">{table(rows)}</div>'


def _text(labels: list[str]) -> str:
    return BETWEEN.join(labels) or NONE


def _interval(found: Interval | None) -> str:
    return "–" if found is None else f"{percent(found.low)[:-2]} to {percent(found.high)}"
