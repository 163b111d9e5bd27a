"""Global batches out of streams: data sets too large to download, read in order, shuffled a pool at a time.

A *pool* is the next `stream_pool` examples, or as many as an update takes, and then as many more as make a whole number
of updates. It is shuffled, cut into batches of clips of like length, and used up before the next is read. The position
of a run in its streams is where they stood when the pool began and how many batches of it were used, so that a resumed
run reads one pool again and nothing else.

Every process, and every worker of each, reads the same streams and decodes only what it has to: batches then do not
depend on how many there are. What is read (not what is decoded) is multiplied by their number, and each holds two pools
of encoded audio in memory, one in use and one being read: lower `workers` or `stream_pool` where the network or memory
is short.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.data.audio_clips import Clip, TrainingDataError
from wav2vec2.training.data.clip_tables import ClipTable, Columns, clip_of_row
from wav2vec2.training.data.dataset_reading import open_dataset
from wav2vec2.training.settings.random_seeds import seed_of

if TYPE_CHECKING:
    from wav2vec2.training.settings.run_config import Source


class ExampleStream(Protocol):
    """Examples in a fixed order, again from the first when they end. Its state is JSON."""

    name: str

    def state(self) -> dict[str, Any]:
        """Where the next example comes from."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""

    def next_clip(self) -> Clip:
        """The next example; `seconds` is NaN where only its header knows."""

    @property
    def epoch(self) -> int:
        """How often the stream has begun again."""


class DatasetStream:
    """A streaming data set of `datasets`, opened when the first example is asked for."""

    def __init__(self, source: "Source", kind: str, label: str, *, with_text: bool) -> None:
        self.name = source.path
        self._source, self._kind, self._label, self._with_text = source, kind, label, with_text
        self._state: dict[str, Any] = {"epoch": 0, "number": 0, "stream": None}
        self._opened: tuple[Any, Columns] | None = None
        self._iterator: Iterator[dict[str, Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What was opened stays with its process."""
        return {**self.__dict__, "_opened": None, "_iterator": None}

    def check(self) -> None:
        """Open the data set, so that what is wrong with it is said before the run begins."""
        self._dataset()

    @property
    def epoch(self) -> int:
        """How often the stream has begun again."""
        return int(self._state["epoch"])

    def state(self) -> dict[str, Any]:
        """Epoch, number of the next example, and what `datasets` itself remembers."""
        stream = None
        if self._iterator is not None:
            opened = self._dataset()[0]
            stream = opened.state_dict() if hasattr(opened, "state_dict") else None
        elif self._state["stream"] is not None:
            stream = self._state["stream"]
        return {**self._state, "stream": stream}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state: at once where `datasets` can, else by reading up to it."""
        self._state, self._opened, self._iterator = dict(state), None, None

    def next_clip(self) -> Clip:
        """The next example, with `seconds` if a column says them."""
        for _ in range(2):
            if self._iterator is None:
                self._iterator = self._begin()
            batch = next(self._iterator, None)
            if batch is not None:
                row = {name: values[0] for name, values in batch.items()}
                number = self._state["number"]
                self._state = {**self._state, "number": number + 1}  # copies of this stream share the old one
                columns = self._dataset()[1]
                seconds = row.get(columns.seconds) if columns.seconds else None
                clip = clip_of_row(row, columns, self._label, number, float("nan") if seconds is None else seconds)
                return clip
            self._state = {"epoch": self.epoch + 1, "number": 0, "stream": None}
            self._opened = self._iterator = None
        raise TrainingDataError(f"{self.name}: the stream is empty")

    def _begin(self) -> Iterator[dict[str, Any]]:
        """Examples from the present state on, as batches of one: `datasets` would give each DataLoader worker other
        shards if it were iterated over directly, and ours must all read the same."""
        opened = self._dataset()[0]
        if self._state["stream"] is not None:
            opened.load_state_dict(self._state["stream"])
        elif self._state["number"]:
            opened = opened.skip(self._state["number"])
        return iter(opened.iter(batch_size=1))

    def _dataset(self) -> tuple[Any, Columns]:
        if self._opened is None:
            self._opened = open_dataset(self._source, self._kind, with_text=self._with_text)
        return self._opened


class TableStream:
    """A source that is no stream, beside others that are: its clips in an order shuffled by seed and epoch."""

    def __init__(self, name: str, table: ClipTable, usable: NDArray[np.int64], seed: int) -> None:
        self.name, self._table, self._usable, self._seed = name, table, usable, seed
        self._epoch = self._number = 0
        self._order = self._shuffled()

    @property
    def epoch(self) -> int:
        """How often all clips have been given."""
        return self._epoch

    def state(self) -> dict[str, Any]:
        """Epoch and number of the next clip."""
        return {"epoch": self._epoch, "number": self._number}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._epoch, self._number = state["epoch"], state["number"]
        self._order = self._shuffled()

    def next_clip(self) -> Clip:
        """The next clip."""
        if self._number == len(self._order):
            self._epoch, self._number = self._epoch + 1, 0
            self._order = self._shuffled()
        self._number += 1
        return self._table.clip(int(self._order[self._number - 1]))

    def _shuffled(self) -> Any:
        seed = seed_of(self._seed, "stream of clips", self.name, self._epoch)
        return np.random.Generator(np.random.PCG64(seed)).permutation(self._usable)
