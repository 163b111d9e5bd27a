"""A run over shards: which clips, by which shares, and whether what is open at once fits into the cache."""

from collections.abc import Callable, Sequence

from wav2vec2.training.data.audio_clips import LengthLimits, TrainingDataError
from wav2vec2.training.data.clip_selection import DataSummary, SourceSummary
from wav2vec2.training.data.lane_pieces import Pieces, Usable, pieces_of
from wav2vec2.training.data.lane_shares import group_shares
from wav2vec2.training.data.lanes import LanedBatches
from wav2vec2.training.data.shard_table import ShardTable
from wav2vec2.training.settings.run_config import DataSection, FinetuneDataSection


def laned_run(
    tables: Sequence[ShardTable],
    section: DataSection,
    limits: LengthLimits,
    seed: int,
    *,
    with_text: bool,
    spelled: Callable[[str], bool] | None,
) -> tuple[LanedBatches, DataSummary, float]:
    """The batches of a run over shards, what is said of its data, and how long the longest clip is."""
    weights = [source.weight for source in section.train]
    by_language = section.balance < 1 or section.language_balance < 1
    speeds = section.speeds if isinstance(section, FinetuneDataSection) else []
    usable = Usable(limits, with_text, (1.0, *speeds))
    pieces = pieces_of(tables, [source.path for source in section.train], usable, by_language=by_language)
    _require_clips(pieces, limits)
    hours = dict(zip(pieces.groups, (pieces.seconds_of_groups / 3600).tolist(), strict=True))
    try:
        shares = group_shares(hours, weights, section.balance, section.language_balance)
    except ValueError as error:
        raise TrainingDataError(str(error)) from error
    batches = LanedBatches(
        tables,
        pieces,
        shares,
        usable,
        lanes=section.lanes,
        seed=seed,
        seconds_per_update=section.seconds_per_update,
        bucket_updates=section.bucket_updates,
        can_be_spelled=spelled,
    )
    _require_cache(tables, batches.open_at_once, section)
    clips = pieces.clips_of_groups.tolist()
    sources = [
        SourceSummary(
            " ".join(part for part in (group.corpus, group.language) if part),
            "shards",
            count,
            hours[group],
            share,
            None,
        )
        for (group, share), count in zip(shares.items(), clips, strict=True)
    ]
    updates = float(pieces.seconds.sum()) / section.seconds_per_update
    return batches, DataSummary(sources, pieces.left_out, updates), pieces.longest


def _require_clips(pieces: Pieces, limits: LengthLimits) -> None:
    """Refuse data of which nothing is used."""
    if not len(pieces.clips):
        reasons = ", ".join(f"{count} {reason}" for reason, count in pieces.left_out.items())
        allowed = f"data.min_seconds={limits.shortest:g}, data.max_seconds={limits.longest:g}"
        raise TrainingDataError(f"data.train: none of its clips can be used: {reasons}; {allowed}")


def _require_cache(tables: Sequence[ShardTable], open_at_once: int, section: DataSection) -> None:
    """Refuse a cache that would throw out what is still in use: it would be fetched again and again."""
    cached = [table.reader.cached() for table in tables]
    wanted = min(sum(whole for whole, _ in cached), 2 * open_at_once * max(one for _, one in cached)) / 2**30
    if section.shard_cache_gib and section.shard_cache_gib < wanted:
        raise TrainingDataError(
            f"data.shard_cache_gib={section.shard_cache_gib:g} has no room for what is in use at once, up to "
            f"{wanted:.3g} GiB in {open_at_once:,} lanes of corpora and languages: raise it, lower data.lanes, or set "
            "it to 0 for none"
        )
