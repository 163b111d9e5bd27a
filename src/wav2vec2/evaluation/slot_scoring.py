"""How well slots are filled. A clip has values of slots that were said, and others that were heard.

* slot-type F1, as SUPERB counts it: of each clip the F1 of which slots are there, whatever their values; the mean over
  clips. Nothing heard where nothing was said is 1.
* slot-value CER, as SUPERB counts it: to each value that was said belongs the nearest that was heard in a slot of the
  same name, or nothing; their edits in characters divided by the characters that were said. What was heard beyond that
  costs nothing.
* slot F1: a slot is right with its value; of all clips together, and as the mean over the slots' own (macro). This is
  the stricter figure, in which what was heard and not said is wrong.
* whole: the share of clips in which all is right and nothing else was heard.

Values are compared as they are given, but for white space.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2vec2.evaluation.bootstrap import Interval, Resampling, interval_of
from wav2vec2.evaluation.scoring import error_rates

#: The values of each slot of one clip.
Slots = Mapping[str, Sequence[str]]

#: A clip's slot-type F1 is a fraction, and what is drawn again are whole numbers.
_PARTS = 10**6


@dataclass(frozen=True)
class Figure:
    """A share (0.9 for 90 %), and where it lies when clips are drawn again; None for fewer than two."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class SlotScores:
    """How well the slots of some clips were filled."""

    #: How many clips there were.
    clips: int
    #: How many slots were said in them.
    said: int
    #: How many were heard.
    heard: int
    #: F1 of slots with their values.
    slot_f1: Figure
    #: The mean of the slots' own.
    macro_slot_f1: Figure
    #: That of each slot.
    f1_of_slots: dict[str, float]
    #: SUPERB's F1 of which slots are there.
    slot_type_f1: Figure
    #: SUPERB's error rate of values in characters.
    slot_value_cer: Figure
    #: The share of clips in which all is right.
    whole: Figure


def slot_scores(said: Sequence[Slots], heard: Sequence[Slots], how: Resampling | None = None) -> SlotScores:
    """The scores of clips.

    >>> found = slot_scores([{"size": ["small"], "milk": ["soy milk"]}, {}], [{"size": ["smell"]}, {}])
    >>> found.slot_f1.value, round(found.slot_type_f1.value, 3), round(found.slot_value_cer.value, 3)
    (0.0, 0.833, 0.692)
    """
    if len(said) != len(heard) or not said:
        raise ValueError(f"{len(said)} references, but {len(heard)} answers: need one for each, and at least one")
    how = how or Resampling()
    names = sorted({name for slots in (*said, *heard) for name in slots})
    counts = np.array([_counts(names, *pair) for pair in zip(said, heard, strict=True)], np.int64)
    slots = len(names)

    def figure(value: object) -> Figure:
        whole = value(counts.sum(0)[None])[0]
        return Figure(float(whole), interval_of(counts, value, how))

    each = _f1(*_by_slot(counts.sum(0)[None], slots))[0]
    totals = counts.sum(0)
    return SlotScores(
        clips=len(said),
        said=int(totals[slots : 2 * slots].sum()),
        heard=int(totals[2 * slots : 3 * slots].sum()),
        slot_f1=figure(lambda sums: _f1(*(part.sum(1) for part in _by_slot(sums, slots)))),
        macro_slot_f1=figure(lambda sums: _f1(*_by_slot(sums, slots)).mean(1) if slots else np.ones(len(sums))),
        f1_of_slots=dict(zip(names, map(float, each), strict=True)),
        slot_type_f1=figure(lambda sums: sums[:, -4] / _PARTS / sums[:, -1]),
        slot_value_cer=figure(lambda sums: sums[:, -3] / np.maximum(sums[:, -2], 1)),
        whole=figure(lambda sums: sums[:, -5] / sums[:, -1]),
    )
