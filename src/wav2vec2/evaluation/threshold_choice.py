"""Choosing when a label is the answer, on clips that were not trained on.

One label a clip, and clips to which none belongs are there: the threshold at which the share of labelled clips that are
rightly named and the share of the others that are rejected are highest together. Where no such clip is there, nothing
says how probable a wrong label becomes, and the threshold leaves a given share of the rightly named clips named.

Several labels a clip: for each label the threshold with the highest F1, of equals the nearest to one half.

Thresholds lie in the middle between two probabilities that occurred, so that rounding moves no clip over them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wav2vec2.inference.label_rule import NONE, LabelRule, chosen_rule

Numbers = NDArray[np.float64]


def choose_rule(
    true: Sequence[Sequence[str]], probabilities: Sequence[Mapping[str, float]], several: bool, kept: float, data: str
) -> LabelRule:
    """The rule for clips with their true labels (empty: none belongs) and the probabilities of all labels. `kept` is
    the share of rightly named clips that stays named; `data` is what the clips are called."""
    on = f"on {len(true)} clips of {data}"
    if several:
        labels = list(probabilities[0])
        has = {label: np.array([label in own for own in true]) for label in labels}
        of = {label: np.array([one[label] for one in probabilities]) for label in labels}
        thresholds = {label: best_f1(of[label], has[label]) for label in labels if has[label].any()}
        return chosen_rule(True, 0.5, thresholds, f"for each label, the highest F1 {on}")
    best = [max(one, key=lambda label: one[label]) for one in probabilities]
    top = np.array([one[label] for one, label in zip(probabilities, best, strict=True)])
    labelled = np.array([bool(own) for own in true])
    right = np.array([own == [label] for own, label in zip(true, best, strict=True)])
    rejected = np.array([label == NONE for label in best])  # whatever the threshold
    if not labelled.all() and labelled.any():
        threshold = best_of_both(top[right & labelled], np.where(rejected, -1.0, top)[~labelled], int(labelled.sum()))
        how = f"most labelled clips right and most of {int((~labelled).sum())} others rejected, {on}"
        return chosen_rule(False, threshold, {}, how)
    if kept == 1 or not right.any():
        return chosen_rule(False, 0.0, {}, f"nothing is rejected; looked at {on}")
    return chosen_rule(False, keeping(top[right], kept), {}, f"{kept:.0%} of the right answers are kept {on}")


def between(values: Numbers) -> Numbers:
    """The middles between neighbours of the values that occur (n,), below the lowest and above the highest."""
    return np.convolve(np.concatenate([[0.0], np.unique(values), [1.0]]), [0.5, 0.5], "valid")


def best_f1(values: Numbers, has: NDArray[np.bool_]) -> float:
    """The threshold of one label, from its probabilities (C,) and which clips have it (C,)."""
    candidates = between(values)
    given = values[None] >= candidates[:, None]
    f1 = 2 * (given & has).sum(1) / (given.sum(1) + has.sum())
    best = candidates[np.isclose(f1, f1.max())]
    return float(best[np.abs(best - 0.5).argmin()])


def best_of_both(right: Numbers, others: Numbers, labelled: int) -> float:
    """The threshold from the probabilities of labelled clips that are rightly named, of so many `labelled` in all, and
    of clips to which none belongs."""
    candidates = between(np.concatenate([right, others[others >= 0]]))
    named = (right[None] >= candidates[:, None]).sum(1) / labelled
    refused = (others[None] < candidates[:, None]).mean(1)
    best = candidates[np.isclose(named + refused, (named + refused).max())]
    return float(best[len(best) // 2])


def keeping(right: Numbers, kept: float) -> float:
    """The threshold that at least the share `kept` of these probabilities reaches, and as few more as may be."""
    ordered = np.concatenate([[0.0], np.sort(right)])
    below = int(np.floor((1 - kept) * len(right) + 1e-9))
    return float(ordered[below : below + 2].mean())
