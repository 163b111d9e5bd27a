"""What an index of millions of clips costs a process, and what is read of shards by any number of processes.

    python benchmarks/shards.py memory --rows 10000000     # two processes over an index of so many clips
    python benchmarks/shards.py bytes --shards 1000        # a counting file system; N = 1, 2, 4, 8 processes

`memory` writes an index of clips that are not there (a shard for each thousand), and starts two processes one after the
other which both stay: each opens the index as a run does and plans its first update. Private memory is what only that
process has (/proc/self/smaps_rollup), beside what it had before the run's data were opened; mapped pages of the index
are shared. `bytes` reads one epoch with each number of processes, each with a cache of its own as on another machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from wav2vec2.shards.shard_index import ShardIndex

ROWS_OF_A_SHARD = 1000


def written_index(path: Path, rows: int) -> Path:
    """An index of so many clips of 2 to 16 s with transcripts, in the columns that `wav2vec2 index` writes."""
    from wav2vec2.shards.shard_index import CLIPS, SHARDS, Group, about

    shards = -(-rows // ROWS_OF_A_SHARD)
    counts = np.full(shards, ROWS_OF_A_SHARD)
    counts[-1] = rows - ROWS_OF_A_SHARD * (shards - 1)
    columns = [
        [f"{path.parent}/{number:07d}.tar" for number in range(shards)],
        ["tar"] * shards,
        [10**8] * shards,
        ["1"] * shards,
        counts,
        [None] * shards,
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SHARDS, strict=True)]
    metadata = about(str(path.parent), "audio", [Group("", "")], pa.table(arrays, SHARDS))
    generator = np.random.default_rng(1)
    with pa.ipc.new_file(str(path), CLIPS.with_metadata(metadata)) as writer:
        for begin in range(0, rows, 2**17):
            some = np.arange(begin, min(rows, begin + 2**17))
            offset = some % ROWS_OF_A_SHARD * 100_000
            texts = pa.array([f"clip{number:09d}" for number in some.tolist()])
            told = pa.array(
                [f"what is said in a sentence of usual length, number {number}" for number in some.tolist()]
            )
            values = {
                "name": texts,
                "group": np.zeros(len(some)),
                "fragment": offset // 2**24,
                "offset": offset,
                "size": np.full(len(some), 100_000),
                "seconds": generator.uniform(2, 16, len(some)),
                "speaker": texts,
                "transcript": told,
                "label": [None] * len(told),
            }
            writer.write_batch(pa.record_batch([pa.array(values[f.name], f.type) for f in CLIPS], schema=CLIPS))
    return path


def memory_of_this() -> Counter[str]:
    """Megabytes of this process by the names of /proc/self/smaps_rollup."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kilobytes = {name.rstrip(":"): int(value) for name, value, *_ in (line.split() for line in lines)}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return Counter({"rss": kilobytes["Rss"] // 1024, "private": private // 1024, "pss": kilobytes["Pss"] // 1024})


def one_process(path: str) -> None:
    """Open the index as a run does, plan an update, tell what that took, and stay until standard input ends."""
    begun = time.perf_counter()
    from wav2vec2.training.data.batch_loading import TrainingData
    from wav2vec2.training.settings.run_config import DataSection, Source

    imported, before, computing = time.perf_counter(), memory_of_this(), time.process_time()
    section = DataSection(train=[Source(path)], workers=0, cache=str(Path(path).parent))
    data = TrainingData(section, seed=1, with_text=True)
    update = next(iter(data._plan(0, {})()))
    planned = time.perf_counter()
    after = memory_of_this()
    computing = time.process_time() - computing
    told = {
        "processor_s": computing,
        "import_s": imported - begun,
        "first_update_s": planned - imported,
        "clips": len(update.seconds),
    }
    print(json.dumps(told | {"before": before, "after": after}), flush=True)
    sys.stdin.readline()
    print(json.dumps({"beside_another": memory_of_this()}), flush=True)
    sys.stdin.readline()


def line_of(process: "subprocess.Popen[str]") -> str:
    """The next line that a process writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def measure_memory(rows: int) -> None:
    """Two processes over one index."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        path = written_index(Path(folder, "clips.arrow"), rows)
        size = path.stat().st_size / 2**20
        print(f"{rows:,} rows, {size:,.0f} MiB, written in {time.perf_counter() - begun:.0f} s")
        command = [sys.executable, __file__, "process", str(path)]
        both: list[subprocess.Popen[str]] = []
        for number in range(2):
            both.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            print(f"process {number + 1}: {line_of(both[number])}")
        for process in both:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for number, process in enumerate(both):
            print(f"process {number + 1}: {line_of(process)}")
        for process in both:
            process.communicate()


def epoch_of(where: Path, processes: int, workers: int, gib: float) -> dict[int, list[str]]:
    """The ids of each update of an epoch, over all processes."""
    from training_audio import joined

    from wav2vec2.training.data.batch_loading import TrainingData
    from wav2vec2.training.settings.run_config import DataSection, Source

    found: dict[int, list[str]] = {}
    for process in range(processes):
        section = DataSection(
            train=[Source(f"counted://{where / 'data'}")],
            min_seconds=0,
            max_seconds=1,
            seconds_per_update=30,
            seconds_per_batch=4,
            bucket_updates=4,
            workers=workers,
            cache=str(where / "index"),
            lanes=16,
            shard_cache_gib=gib,
        )
        data = TrainingData(section, seed=1)
        for table in data._shards:
            if table.reader.cache is not None:
                table.reader.cache.folder = where / f"cache {processes} {workers} {process}"
        last = int(data.summary.updates_per_epoch or 0) - 1
        batches = data.batches(joined, processes=processes, process=process, start_update=0, position={})
        for batch in batches:
            found.setdefault(batch.update, []).extend(batch.ids)
            if batch.update == last and batch.part == batch.parts - 1:
                break
        batches.close()
    return found


def indexed(where: Path) -> "ShardIndex":
    """The index of the shards, made where the runs look for it."""
    from wav2vec2.shards.indexing import IndexRequest, current_index, index_path
    from wav2vec2.training.settings.run_config import Source

    source = Source(f"counted://{where / 'data'}")
    request = IndexRequest(source.path, source.split, source.audio_column, source.text_column)
    return current_index(request, index_path(request, str(where / "index")))


def bytes_read(where: Path) -> int:
    """What was read since the count began."""
    return sum(int(line.split("\t")[2]) for line in (where / "reads").read_text(encoding="utf-8").splitlines())


def measure_bytes(shards: int) -> None:
    """Bytes read and ids of an epoch on several numbers of processes."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    import shard_files

    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        for number in range(shards):
            shard_files.write_tar(where / "data" / f"{number:06d}.tar", shard_files.some_clips(3, first=3 * number))
        shard_files.count_reads()
        size = sum(path.stat().st_size for path in (where / "data").iterdir())
        expected: dict[int, list[str]] = {}
        shard_files.counted_in(where / "reads")
        print(f"indexing: {len(indexed(where).shards)} shards, {bytes_read(where) / size:.3f} x the data", flush=True)
        for gib in (1.0, 0.0):
            for processes in (1, 2, 4, 8):
                for workers in (0, 2):
                    shard_files.counted_in(where / "reads")
                    found = epoch_of(where, processes, workers, gib)
                    told = {update: sorted(ids) for update, ids in found.items()}
                    expected = expected or told
                    times = bytes_read(where) / size
                    print(
                        f"{processes} processes x {workers} workers, cache {gib:g} GiB: {times:.3f} x the data, "
                        f"ids of {len(told)} updates {'the same' if told == expected else 'DIFFERENT'}",
                        flush=True,
                    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["memory", "bytes", "process"])
    parser.add_argument("path", nargs="?")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=1000)
    asked = parser.parse_args()
    if asked.what == "process":
        one_process(asked.path)
    elif asked.what == "memory":
        measure_memory(asked.rows)
    else:
        measure_bytes(asked.shards)
