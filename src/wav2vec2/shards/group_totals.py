"""How much each corpus has in each language."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2vec2.shards.shard_index import ShardIndex


class GroupTotals(NamedTuple):
    """The clips (G,) and seconds (G,) of each group, and how many clips no one can read."""

    clips: NDArray[np.int64]
    seconds: NDArray[np.float64]
    unreadable: int


def totals_of(index: ShardIndex) -> GroupTotals:
    """Those of an index."""
    groups = len(index.groups)
    clips, seconds, unreadable = np.zeros(groups, np.int64), np.zeros(groups), 0
    for _, batch in index.batches(["group", "seconds"]):
        lengths = batch.column("seconds").to_numpy(zero_copy_only=False)
        known = ~np.isnan(lengths)
        of = batch.column("group").to_numpy()[known]
        clips += np.bincount(of, minlength=groups)
        seconds += np.bincount(of, lengths[known], minlength=groups)
        unreadable += int(np.count_nonzero(~known))
    return GroupTotals(clips, seconds, unreadable)
