"""The best path through frames, slow and obvious."""

import numpy as np
from numpy.typing import NDArray

Runs = list[tuple[int, int, int]]


def runs_of(labels: tuple[int, ...]) -> Runs:
    edges = [0, *(place for place in range(1, len(labels)) if labels[place] != labels[place - 1]), len(labels)]
    return [(labels[start], start, end) for start, end in zip(edges, edges[1:], strict=False)]


def by_expanded_states(log_probs: NDArray[np.float64], minimum: list[int], cost: float) -> Runs:
    """Viterbi, slow and obvious: a state for each label and each number of frames that it has lasted so far."""
    states = [(label, age) for label, least in enumerate(minimum) for age in range(1, least + 1)]
    scores = {(label, age): log_probs[0, label] if age == minimum[label] else -np.inf for label, age in states}
    origins: list[dict[tuple[int, int], tuple[int, int]]] = []
    for row in log_probs[1:]:
        new, came = {}, {}
        for label, age in states:
            least = minimum[label]
            ways = [(scores[label, age - 1], (label, age - 1))] if age > 1 else []
            if age == least:  # a stretch that has lasted long enough goes on
                ways.append((scores[label, age], (label, age)))
            if age == 1:
                ways += [
                    (scores[one, minimum[one]] - cost, (one, minimum[one]))
                    for one in range(len(minimum))
                    if one != label
                ]
            score, came[label, age] = max(ways)
            new[label, age] = score + row[label]
        scores = new
        origins.append(came)
    state = max(scores, key=lambda one: scores[one])
    path = [state]
    for came in reversed(origins):
        path.append(came[path[-1]])
    return runs_of(tuple(label for label, _ in reversed(path)))
