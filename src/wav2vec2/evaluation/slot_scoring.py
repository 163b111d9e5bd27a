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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2vec2.evaluation.bootstrap import Resampling, percentiles, resampled_sums
from wav2vec2.evaluation.label_scoring import Figure
from wav2vec2.evaluation.scoring import error_rates

#: The values of each slot of one clip.
Slots = Mapping[str, Sequence[str]]

#: A clip's slot-type F1 is a fraction, and what is drawn again are whole numbers.
_PARTS = 10**6

#: Counts of clips, or their sums in resamples.
Sums = NDArray[np.int64] | NDArray[np.float64]


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

    def figure(value: Callable[[Sums], NDArray[np.float64]]) -> Figure:
        whole = value(counts.sum(0)[None])[0]
        drawn = None if len(counts) < 2 else percentiles(value(resampled_sums(counts.T, how).T), how.level)
        return Figure(float(whole), drawn, None)

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


def _counts(names: Sequence[str], said: Slots, heard: Slots) -> list[int]:
    """What sums over clips are made of: for each slot how often it is right, said, heard; then whether all is right,
    the slot-type F1, edits, characters, and 1."""
    said, heard = _plain(said), _plain(heard)
    right = [sum((Counter(said.get(name, [])) & Counter(heard.get(name, []))).values()) for name in names]
    asked, got = ([len(slots.get(name, [])) for name in names] for slots in (said, heard))
    edits = sum(_edits(value, heard.get(name, [])) for name, values in said.items() for value in values)
    characters = sum(len(value) for values in said.values() for value in values)
    types = len(said) + len(heard)
    type_f1 = 2 * len(said.keys() & heard.keys()) / types if types else 1.0
    whole = sum(right) == sum(asked) == sum(got)
    return [*right, *asked, *got, int(whole), round(type_f1 * _PARTS), edits, characters, 1]


def _plain(slots: Slots) -> dict[str, list[str]]:
    """The slots that have a value, with single spaces."""
    values = {name: [" ".join(one.split()) for one in found] for name, found in slots.items()}
    return {name: found for name, found in values.items() if found}


def _edits(value: str, heard: Sequence[str]) -> int:
    """Of a value into the nearest of those that were heard; all of it where there is none."""
    found = [error_rates([value], [one]).characters.errors for one in heard]
    return min(found, default=len(value))


def _by_slot(sums: Sums, slots: int) -> tuple[Sums, Sums, Sums]:
    """Right, said and heard (R, slots) out of sums of counts (R, C)."""
    return sums[:, :slots], sums[:, slots : 2 * slots], sums[:, 2 * slots : 3 * slots]


def _f1(right: Sums, said: Sums, heard: Sums) -> NDArray[np.float64]:
    """1 where nothing was said and nothing heard."""
    both = said + heard
    return np.where(both > 0, 2 * right / np.maximum(both, 1), 1.0)
