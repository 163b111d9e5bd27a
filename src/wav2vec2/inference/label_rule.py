"""From the probabilities of labels to an answer: which of them hold, or none of these.

The rule lies in `labels.json` beside the model. Transformers does not read it: to its pipelines the model is as any
other, and gives the probabilities alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2vec2.files.hub_files import local_path
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.shipped_checkpoints import located
from wav2vec2.files.strict_records import record_from_json, record_to_json

#: The file of the rule.
RULE_FILE = "labels.json"

#: The label of a clip to which none of the labels belongs, in tables and in answers.
NONE = "none"

#: What stands between the labels of a clip that has several.
BETWEEN = ";"

#: The form of the file.
_FORMAT = 1


def several_labels(text: str) -> list[str]:
    """The labels in a column that may hold several; `none` stays as it is.

    >>> several_labels("rain; wind"), several_labels("none")
    (['rain', 'wind'], ['none'])
    """
    labels = [label.strip() for label in text.split(BETWEEN) if label.strip()]
    if len(labels) > 1 and NONE in labels:
        raise ValueError(f"{text!r}: `{NONE}` says that no label belongs to the clip, and others stand beside it")
    return labels


@dataclass(frozen=True)
class LabelRule:
    """When a label is the answer.

    >>> LabelRule(1, False, 0.6, {}, "").answer({"cat": 0.7, "dog": 0.3})
    ['cat']
    >>> LabelRule(1, True, 0.5, {"dog": 0.2}, "").answer({"cat": 0.4, "dog": 0.3})
    ['dog']
    """

    #: The form of the file.
    format: int
    #: Whether a clip may have several labels.
    several: bool
    #: Probabilities below this are no answer; 0 where one label always is.
    threshold: float
    #: The thresholds of labels that have one of their own; where a clip may have several.
    thresholds: dict[str, float]
    #: How the thresholds were chosen, and on what.
    chosen: str

    def __post_init__(self) -> None:
        if self.format != _FORMAT:
            raise ValueError(f"format={self.format}: this version reads {_FORMAT}")
        for name, value in {"threshold": self.threshold, **self.thresholds}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: must be between 0 and 1")

    def answer(self, probabilities: Mapping[str, float]) -> list[str]:
        """The labels that hold, the most probable first; none of them is an empty list."""
        ordered = sorted(probabilities, key=lambda label: -probabilities[label])
        if not self.several:
            ordered = ordered[:1]
        return [
            label
            for label in ordered
            if label != NONE and probabilities[label] >= self.thresholds.get(label, self.threshold)
        ]

    def save(self, folder: Path) -> None:
        """Write it beside a model, whole or not at all."""
        with replaced_file(folder / RULE_FILE) as stream:
            stream.write(record_to_json(self).encode("utf-8"))


def plain_rule(several: bool, threshold: float | None = None) -> LabelRule:
    """The rule without a choice: the most probable label, or all above one half; or above `threshold`."""
    value = (0.5 if several else 0.0) if threshold is None else threshold
    return LabelRule(_FORMAT, several, value, {}, "nothing was chosen" if threshold is None else "given")


def chosen_rule(several: bool, threshold: float, thresholds: dict[str, float], chosen: str) -> LabelRule:
    """A rule whose thresholds were chosen, and how."""
    return LabelRule(_FORMAT, several, threshold, thresholds, chosen)


def read_rule(name: str | Path, labels: list[str], several: bool, hub: Mapping[str, Any]) -> LabelRule:
    """The rule that lies beside a model with these labels; without one, the plain one."""
    source = Path(located(str(name)))
    path = source / RULE_FILE if source.is_dir() else local_path(name, RULE_FILE, hub)
    if path is None or not path.is_file():
        return plain_rule(several)
    try:
        found = record_from_json(LabelRule, path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Delete it, or fine-tune again") from error
    if found.several != several or (unknown := sorted(set(found.thresholds) - set(labels))):
        odd = "another kind of task" if found.several != several else f"the label {unknown[0]!r}"
        raise ValueError(f"{path}: is of another model: it knows {odd}. Delete it, or fine-tune again")
    return found
