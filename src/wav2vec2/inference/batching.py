"""Windows of similar length side by side, so that little of a batch is padding."""

from collections.abc import Sequence

from wav2vec2.inference.windows import Window


def batches(windows: Sequence[Window], most_samples: int) -> list[list[int]]:
    """The numbers of the windows in batches, longest first, of `most_samples` at most with the padding.

    A window that is longer than that is a batch of its own.

    >>> import numpy as np
    >>> batches([Window(np.zeros(n), 0, 0) for n in (2, 5, 4, 1)], most_samples=10)
    [[1, 2], [0, 3]]
    """
    found: list[list[int]] = []
    longest = 0
    for number in sorted(range(len(windows)), key=lambda number: -len(windows[number].samples)):
        if not found or longest * (len(found[-1]) + 1) > most_samples:
            found.append([])
            longest = len(windows[number].samples)
        found[-1].append(number)
    return found
