"""Lanes: the same clips in the same updates for any number of processes and workers, each byte read once."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from shard_files import count_reads, some_clips, write_tar
from training_audio import clips_of, joined

from wav2vec2.training.data import micro_batches
from wav2vec2.training.data.audio_clips import Clip, LoadedClip, TrainingDataError
from wav2vec2.training.data.batch_loading import Batch, TrainingData
from wav2vec2.training.data.division import divide_by_lane
from wav2vec2.training.data.lane_shares import LaneGroup, group_shares
from wav2vec2.training.data.micro_batches import PlannedUpdate
from wav2vec2.training.settings.run_config import DataSection, Source

SHARDS, CLIPS_OF_A_SHARD, LANES = 96, 3, 16


@dataclass(frozen=True)
class Shards:
    """Shards whose reads are counted, and the bytes of all of them."""

    folder: Path
    reads: Path
    size: int

    def section(self, where: str, **changes: Any) -> DataSection:
        chosen: dict[str, Any] = {
            "seconds_per_update": 6,
            "seconds_per_batch": 1,
            "min_seconds": 0,
            "max_seconds": 1,
            "lanes": LANES,
        }
        chosen |= {"bucket_updates": 1, "workers": 0, "cache": str(self.folder / "caches" / where)} | changes
        return DataSection(train=[Source(f"counted://{self.folder / 'data'}")], **chosen)

    def taken(self) -> int:
        """The bytes that were read since this was last asked."""
        read = sum(int(line.split("\t")[2]) for line in self.reads.read_text().splitlines())
        self.reads.write_text("")
        return read


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("lanes")
    like = some_clips(CLIPS_OF_A_SHARD)  # the sound of the first shard, under other names
    for number in range(SHARDS):
        named = [{**clip, "id": f"clip{number * CLIPS_OF_A_SHARD + index}"} for index, clip in enumerate(like)]
        write_tar(folder / "data" / f"{number:06d}.tar", named)
    (folder / "reads").write_text("")
    count_reads()
    return Shards(folder, folder / "reads", sum(path.stat().st_size for path in (folder / "data").iterdir()))


@pytest.fixture
def counting(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> Shards:
    """What is read is counted, and nothing is decoded."""
    monkeypatch.setenv("COUNTED_READS", str(shards.reads))
    monkeypatch.setattr(micro_batches, "load_clip", not_decoded)
    shards.taken()
    return shards


def not_decoded(clip: Clip, seed: int, *_: object, **__: object) -> LoadedClip:
    assert isinstance(clip.audio, bytes)
    assert clip.audio[:4] == b"RIFF"
    return LoadedClip(clip.id, np.zeros(1, np.float32), seed)


def heard(
    data: TrainingData,
    processes: int,
    workers: int,
    updates: range,
    monkeypatch: pytest.MonkeyPatch,
    position: dict[str, Any] | None = None,
    caches: Path | None = None,
) -> tuple[dict[int, list[tuple[str, int]]], dict[int, dict[str, Any]]]:
    """(id, seed) of the clips of each update over all processes, of which each has so many workers, and a cache of its
    own, as on another machine; and the positions after the updates."""
    found: dict[int, list[tuple[str, int]]] = defaultdict(list)
    positions: dict[int, dict[str, Any]] = {}
    for process in range(processes):
        for table in data._shards:
            if table.reader.cache is not None and caches is not None:
                table.reader.cache.folder = caches / f"{process} of {processes}"
        for worker in range(max(1, workers)):
            info = SimpleNamespace(id=worker, num_workers=workers) if workers else None
            monkeypatch.setattr(micro_batches, "get_worker_info", lambda info=info: info)
            how: dict[str, Any] = {"processes": processes, "process": process, "start_update": updates.start}
            for batch in data.batches(joined, position=position or {}, **how):
                if batch.update >= updates.stop:
                    break
                assert not batch.skipped
                found[batch.update] += zip(batch.ids, [clip.seed for clip in batch.clips], strict=True)
                positions[batch.update] = batch.position
                if batch.update == updates.stop - 1 and batch.part + max(1, workers) >= batch.parts:
                    break
    return {update: sorted(clips) for update, clips in found.items()}, positions


@pytest.mark.slow
def test_each_byte_is_read_once_whatever_the_number_of_processes(
    counting: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole epoch on 1, 2, 4 and 8 processes without workers and with two, each with a cache of its own as on another
    machine, or without any: the same clips with the same seeds in every update, and at most 1.1 times the data."""
    expected, most = None, {}
    for gib in (1.0, 0.0):
        data = TrainingData(counting.section("index", shard_cache_gib=gib), seed=1)
        updates = range(int(data.summary.updates_per_epoch or 0))
        for processes in (1, 2, 4, 8):
            for workers in (0,) if gib else (0, 2):
                counting.taken()
                caches = counting.folder / "caches" / f"{processes} {workers}"
                found, _ = heard(data, processes, workers, updates, monkeypatch, caches=caches)
                expected = expected or found
                assert found == expected
                most[processes, workers, gib] = counting.taken() / counting.size
    assert max(most.values()) <= 1.1, most
    assert expected is not None
    uses = Counter(name for clips in expected.values() for name, _ in clips)
    assert max(uses.values()) == 1
    assert len(uses) > 0.9 * SHARDS * CLIPS_OF_A_SHARD  # an epoch is no whole number of updates


@pytest.mark.parametrize("bucket_updates, gib", [(1, 1.0), (3, 0.0)])
def test_a_run_goes_on_as_it_would_have(
    counting: Shards, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bucket_updates: int, gib: float
) -> None:
    """Killed anywhere and resumed on another number of processes, with an empty cache: the same following clips. What
    is read again is at most a shard of each lane."""

    data = TrainingData(counting.section("index", bucket_updates=bucket_updates, shard_cache_gib=gib), seed=2)
    whole, positions = heard(data, 1, 0, range(6), monkeypatch, caches=tmp_path / "whole")
    uninterrupted = counting.taken()
    for killed, processes in ((1, 4), (3, 8)):
        before, _ = heard(data, 2, 0, range(killed), monkeypatch, caches=tmp_path / f"before {killed}")
        after, _ = heard(
            data, processes, 0, range(killed, 6), monkeypatch, positions[killed - 1], tmp_path / f"after {killed}"
        )
        assert before | after == whole
        assert counting.taken() <= uninterrupted + LANES * counting.size / SHARDS


def test_updates_planned_together_read_less_than_a_shard_a_lane_again(
    counting: Shards, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed within updates that are planned together, and resumed without the cache: of a lane, fewer bytes are read
    twice than a shard has, where a shard has more fragments than those updates take of a lane."""
    monkeypatch.setattr("wav2vec2.shards.tar_shards.FRAGMENT_BYTES", 8000)
    for number in range(8):
        write_tar(tmp_path / "data" / f"{number:06d}.tar", some_clips(16, first=16 * number))
    section = counting.section("index", bucket_updates=3, seconds_per_update=0.8, lanes=4)
    section = replace(section, train=[Source(f"counted://{tmp_path / 'data'}")], cache=str(tmp_path / "index"))
    data, twice = TrainingData(section, seed=2), Counter[str]()
    whole, positions = heard(data, 1, 0, range(8), monkeypatch, caches=tmp_path / "whole")
    for killed in range(1, 7):
        counting.taken()
        before, _ = heard(data, 1, 0, range(killed), monkeypatch, caches=tmp_path / f"before {killed}")
        first = Counter(counting.reads.read_text().splitlines())
        counting.taken()
        caches = tmp_path / f"after {killed}"
        after, _ = heard(data, 2, 0, range(killed, 8), monkeypatch, positions[killed - 1], caches)
        assert before | after == whole
        again = first & Counter(counting.reads.read_text().splitlines())
        lanes = Counter[int]()
        for path, _, size in (line.split("\t") for line in again):
            lanes[int(Path(path).stem) % 4] += int(size)
            twice[path] += 1
        assert max(lanes.values(), default=0) < min(path.stat().st_size for path in (tmp_path / "data").iterdir())
    assert twice  # there was something to bound


@pytest.mark.slow
def test_what_real_workers_make_is_the_same(shards: Shards, tmp_path: Path) -> None:
    """Two worker processes, and none: the same samples, in the same micro-batches."""
    made = []
    for workers in (0, 2):
        data = TrainingData(shards.section("index", workers=workers, seconds_per_update=4), seed=3)
        batches = data.batches(joined, processes=1, process=0, start_update=0, position={})
        made.append(list(until(batches, 3)))
        batches.close()
    assert [batch.ids for batch in made[0]] == [batch.ids for batch in made[1]]
    assert clips_of(made[0]) == clips_of(made[1])


def until(batches: Iterator[Batch], update: int) -> Iterator[Batch]:
    for batch in batches:
        if batch.update >= update:
            return
        yield batch


def manifest(path: Path, languages: dict[tuple[str, str], tuple[int, float]]) -> Path:
    """A manifest of clips that are not there, with so many clips of so many seconds each of corpora and languages."""
    lines = ["path\tduration\tcorpus\tlanguage"]
    for (corpus, language), (count, seconds) in languages.items():
        lines += [f"{corpus}{language}{number}.wav\t{seconds}\t{corpus}\t{language}" for number in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def planned(
    section: DataSection, count: int, position: dict[str, Any] | None = None, start: int = 0
) -> list[PlannedUpdate]:
    data = TrainingData(section, seed=4)
    updates = iter(data._plan(start, position or {})())
    return [next(updates) for _ in range(count)]


#: Clips and seconds of each; all seconds differ, so that seconds say which clip is meant.
LANGUAGES = {
    ("books", "en"): (6000, 4.0),
    ("books", "fr"): (700, 4.5),
    ("news", "en"): (1500, 3.0),
    ("news", "sw"): (40, 3.5),
}


def laned(path: Path, **changes: Any) -> DataSection:
    chosen: dict[str, Any] = {
        "seconds_per_update": 400,
        "min_seconds": 0,
        "workers": 0,
        "cache": str(path.parent),
        "lanes": 8,
    }
    return DataSection(train=[Source(str(path), format="shards")], **(chosen | changes))


@pytest.mark.slow
@pytest.mark.parametrize("balance, language_balance", [(0.5, 0.5), (0.0, 1.0), (1.0, 0.3)])
def test_shares_follow_the_formula(tmp_path: Path, balance: float, language_balance: float) -> None:
    """100,000 draws: the audio of each corpus and language is within 1 % of (hours / total) ** beta at both levels."""
    path = manifest(tmp_path / "clips.tsv", LANGUAGES)
    got, draws = Counter[float](), 0
    data = TrainingData(laned(path, balance=balance, language_balance=language_balance), seed=4)
    for update in data._plan(0, {})():
        seconds, counts = np.unique(update.seconds, return_counts=True)
        got.update(dict(zip(seconds.tolist(), (seconds * counts).tolist(), strict=True)))
        draws += len(update.seconds)
        if draws >= 100_000:
            break
    hours = {one: count * length for one, (count, length) in LANGUAGES.items()}
    corpora = {corpus: sum(h for (c, _), h in hours.items() if c == corpus) for corpus in ("books", "news")}
    of_corpora = {corpus: (own / sum(corpora.values())) ** balance for corpus, own in corpora.items()}
    for (corpus, language), (_, length) in LANGUAGES.items():
        within = {lang: (h / corpora[c]) ** language_balance for (c, lang), h in hours.items() if c == corpus}
        wanted = of_corpora[corpus] / sum(of_corpora.values()) * within[language] / sum(within.values())
        assert got[length] / sum(got.values()) == pytest.approx(wanted, rel=0.01)


def test_sources_with_weights_share_what_the_weights_say() -> None:
    """The formula then holds within each source."""
    hours = {LaneGroup(0, "a", "x"): 9.0, LaneGroup(0, "a", "y"): 1.0, LaneGroup(1, "b", "x"): 90.0}
    shares = group_shares(hours, [3.0, 1.0], 1.0, 0.5)
    assert shares == pytest.approx(
        {LaneGroup(0, "a", "x"): 0.5625, LaneGroup(0, "a", "y"): 0.1875, LaneGroup(1, "b", "x"): 0.25}
    )


@pytest.mark.slow
def test_every_clip_is_used_once_before_any_is_used_twice(tmp_path: Path) -> None:
    """After x epochs each clip was used floor(x) or ceil(x) times, and updates have as much audio as was asked for."""
    path = manifest(tmp_path / "clips.tsv", {("a", "x"): (3000, 3.0), ("a", "y"): (1000, 5.0)})
    uses = Counter[str]()
    for update in planned(laned(path, bucket_updates=5), 90):
        uses.update(update.clip(index).id for index in range(len(update.seconds)))
        assert update.seconds.sum() == pytest.approx(400, rel=0.05)
        if (update.update + 1) % 5 == 0:  # a window ends, with x epochs
            lowest, highest = int(update.epoch + 1e-9), int(np.ceil(update.epoch - 1e-9))
            counts = set(uses.values()) | ({0} if len(uses) < 4000 else set())
            assert counts <= {lowest, highest}
    assert max(uses.values()) == 3


def test_other_shares_count_from_the_update_that_is_named(tmp_path: Path) -> None:
    """A run resumed with another balance ends its window as it would have, and then draws by the new shares."""
    path = manifest(tmp_path / "clips.tsv", LANGUAGES)
    before = planned(laned(path, bucket_updates=4), 12)
    other = laned(path, bucket_updates=4, balance=0.0, language_balance=0.0)
    data = TrainingData(replace(other), seed=4)
    with pytest.raises(TrainingDataError, match="other sources"):
        data.notes(6, {"pool": 1})
    single = laned(path, bucket_updates=4, balance=0.9)
    started = planned(single, 12)
    note = data.notes(6, started[5].position)
    assert note == ["other shares of corpora and languages than before count from update 9 on"]
    after = planned(other, 6, started[5].position, start=6)
    assert [one.seconds.tolist() for one in after[:2]] == [one.seconds.tolist() for one in started[6:8]]
    later = np.concatenate([one.seconds for one in after[2:]])
    assert later[later == 3.5].sum() / later.sum() == pytest.approx(0.25, rel=0.05)
    assert TrainingData(single, seed=4).notes(6, started[5].position) == []
    assert len(before) == 12


def test_a_process_keeps_to_its_lanes() -> None:
    """Every clip once, by the process that its lane belongs to, in groups that fit."""
    generator = np.random.default_rng(5)
    seconds, lanes = generator.uniform(1, 15, 300), generator.integers(0, 16, 300)
    for processes in (1, 2, 4, 8, 16):
        division = divide_by_lane(seconds, lanes, processes, 60)
        taken = [np.concatenate(groups) for groups in division.groups]
        assert sorted(np.concatenate(taken).tolist()) == list(range(300))
        assert all((lanes[own] % processes == number).all() for number, own in enumerate(taken))
        assert {len(groups) for groups in division.groups} == {division.parts}
        assert all(len(g) * seconds[g].max(initial=0) <= 60 for groups in division.groups for g in groups)


@pytest.mark.slow
def test_processes_have_about_as_much_to_do(tmp_path: Path) -> None:
    """Of clips of 2 to 15 s in 64 lanes, the busiest of 8 processes has at most 1.15 times the mean."""
    generator = np.random.default_rng(6)
    lengths = generator.uniform(2, 15, 40_000).round(2)
    rows = [f"{number}.wav\t{length}" for number, length in enumerate(lengths)]
    path = tmp_path / "clips.tsv"
    path.write_text("\n".join(["path\tduration", *rows]) + "\n", encoding="utf-8")
    worst = []
    for update in planned(laned(path, lanes=64, seconds_per_update=3000), 20):
        assert update.lanes is not None
        work = np.bincount(update.lanes % 8, update.seconds, 8)
        worst.append(work.max() / work.mean())
        assert np.ptp(update.seconds) < 13 / 4  # of like length
    assert np.mean(worst) <= 1.15


def test_what_cannot_be_is_refused(shards: Shards, tmp_path: Path) -> None:
    """In a line that says what would be right."""
    with pytest.raises(TrainingDataError, match=r"shards are not read beside other sources: index it"):
        path = manifest(tmp_path / "clips.tsv", LANGUAGES)
        section = shards.section("index")
        TrainingData(replace(section, train=[*section.train, Source(str(path))]), seed=1)
    with pytest.raises(TrainingDataError, match=r"data.shard_cache_gib=1e-05 has no room .*lower data.lanes"):
        TrainingData(shards.section("index", shard_cache_gib=0.00001), seed=1)
    with pytest.raises(TrainingDataError, match=r"data.lanes=8: the run began with 16"):
        position = planned(shards.section("index"), 1)[0].position
        planned(shards.section("index", lanes=8), 1, position, start=1)
    with pytest.raises(TrainingDataError, match=r"none of its clips can be used: 288 shorter than 2 s"):
        TrainingData(shards.section("index", min_seconds=2, max_seconds=3), seed=1)
