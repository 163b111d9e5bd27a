"""Mean and covariance of what is heard, without its future.

Offline, a clip is normalised by its own mean and variance, and models with a group norm normalise every channel of the
first convolution over the whole clip. Here both are taken of what was heard up to the block in question: of all of it
at first, and when more than `memory` rows have come the older ones are slowly forgotten, so that a stream of hours
follows its speaker and its microphone.

Shapes: n rows, K entries of a row.
"""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


class RunningMoments:
    """Mean (K,) and covariance (K, K) of rows that come piece by piece (Chan, Golub and LeVeque 1979), in float64."""

    def __init__(self, width: int, memory: int) -> None:
        self.memory = memory
        self.count = 0.0
        self.mean = np.zeros(width)
        self.products = np.zeros((width, width))

    @property
    def covariance(self) -> Rows:
        """Of all that counts; zero before the first row."""
        return self.products / max(self.count, 1.0)

    def add(self, rows: NDArray[np.float32]) -> None:
        """Count rows (n, K) in. What came long ago loses weight when there are more than fit in the memory."""
        if not len(rows):
            return
        wide = rows.astype(np.float64)
        mean = wide.mean(0)
        centred = wide - mean
        count, distance = self.count + len(rows), mean - self.mean
        self.products += centred.T @ centred + np.outer(distance, distance) * (self.count * len(rows) / count)
        self.mean = self.mean + distance * (len(rows) / count)
        self.count = count
        if count > self.memory:
            self.products *= self.memory / count
            self.count = float(self.memory)
