"""Slots and their values among the labels of a model: `size=small`, and `size=` where nothing is said of the size.

A model that fills slots gives one logit for each value of each slot, and their names are its configuration's labels, so
that whatever reads labels reads slots. The values of one slot stand together, the empty one first.

Shapes: B batch, N labels of all slots together, K slots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from wav2vec2.modeling.precision import full_precision

#: The label of a clip in which a slot has a value that the model does not know, and of a clip that counts for nothing.
UNKNOWN_VALUE, NO_CLIP = -1, -100


@dataclass(frozen=True)
class SlotValues:
    """`slots`: of each slot the values that can be said; that it is not said comes before them.

    >>> known = SlotValues({"size": ["large", "small"], "milk": ["soy milk"]})
    >>> known.labels
    ['size=', 'size=large', 'size=small', 'milk=', 'milk=soy milk']
    >>> SlotValues.of(known.labels) == known
    True
    >>> known.numbers({"size": "small"}), known.numbers({"milk": "oat milk"})
    ([2, 0], [0, -1])
    """

    slots: dict[str, list[str]]

    @classmethod
    def of(cls, labels: Sequence[str]) -> "SlotValues":
        """Out of the labels of a model; a `ValueError` where they are no slots and their values."""
        slots: dict[str, list[str]] = {}
        for label in labels:
            name, separated, value = label.partition("=")
            if not separated or not name or (not value) != (name not in slots) or (value and name != [*slots][-1]):
                raise ValueError(f"label {label!r}: must be a slot's name, '=' and a value, first the empty one")
            slots.setdefault(name, []).extend([value] if value else [])
        return cls(slots)

    @property
    def labels(self) -> list[str]:
        """One for each logit (N)."""
        return [f"{name}={value}" for name, values in self.slots.items() for value in ("", *values)]

    @cached_property
    def sizes(self) -> list[int]:
        """How many logits each slot has: its values, and one for when it is not said."""
        return [1 + len(values) for values in self.slots.values()]

    def of_each(self, logits: Tensor) -> dict[str, Tensor]:
        """Logits (B, N) by slots: (B, values) each."""
        return dict(zip(self.slots, logits.split(self.sizes, dim=-1), strict=True))

    def chosen(self, logits: Tensor) -> Tensor:
        """(B, N) -> (B, K) the number of the likeliest value of each slot; 0: it is not said."""
        return torch.stack([one.argmax(-1) for one in self.of_each(logits).values()], dim=-1)

    def numbers(self, said: Mapping[str, str]) -> list[int]:
        """(K) what was said as numbers of values; `UNKNOWN_VALUE` for one that is not known. A slot that is not known
        has none."""
        values = [(known, said.get(name, "")) for name, known in self.slots.items()]
        return [0 if not one else known.index(one) + 1 if one in known else UNKNOWN_VALUE for known, one in values]

    def named(self, numbers: Sequence[int]) -> dict[str, str]:
        """What numbers of values (K) say."""
        pairs = zip(self.slots.items(), numbers, strict=True)
        return {name: values[number - 1] for (name, values), number in pairs if number > 0}

    def loss(self, logits: Tensor, labels: Tensor, num_items: Tensor | int | None) -> Tensor:
        """Of logits (B, N) and labels (B, K): the sum of the slots' cross-entropies, as a mean over clips, or the sum
        over clips divided by `num_items`. Labels below 0 count for nothing."""
        parts = self.of_each(full_precision(logits)).values()
        lost = [
            F.cross_entropy(one, target.clamp(min=UNKNOWN_VALUE), ignore_index=UNKNOWN_VALUE, reduction="sum")
            for one, target in zip(parts, labels.unbind(-1), strict=True)
        ]
        clips = (labels != NO_CLIP).any(-1).sum().clamp(min=1) if num_items is None else num_items
        return torch.stack(lost).sum() / clips
