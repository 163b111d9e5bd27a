"""Shards: the same clips out of tars, parquet and Shar; an index that is made once; damaged shards are passed over."""

import gzip
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from shard_files import Clips, count_reads, some_clips, write_shar, write_shard_parquet, write_tar
from training_audio import encoded
from typer.testing import CliRunner

from wav2vec2.command_line.app import app
from wav2vec2.shards.fragment_cache import FragmentCache
from wav2vec2.shards.indexing import IndexRequest, current_index, index_path, make_index
from wav2vec2.shards.shard_index import Group, ShardIndex
from wav2vec2.shards.shard_reader import ShardReader
from wav2vec2.shards.storage import ShardError, Storage

CLIPS = some_clips(24)
PARTS = [CLIPS[8 * number : 8 * number + 8] for number in range(3)]


def rows_of(clips: Clips) -> list[tuple[str, str, float, bytes]]:
    return sorted((clip["transcript"], clip["speaker"], round(clip["seconds"], 6), clip["audio"]) for clip in clips)


EXPECTED = rows_of(CLIPS)


@pytest.fixture(autouse=True)
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file system that counts, and caches that go away."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    count_reads()
    yield


def write(folder: Path, layout: str) -> None:
    for number, clips in enumerate(PARTS):
        if layout == "tar":
            write_tar(folder / f"{number:06d}.tar", clips)
        elif layout == "shar":
            write_shar(folder, number, clips)
        else:
            write_shard_parquet(folder / f"{number:06d}.parquet", clips, seconds=layout == "parquet")


def indexed(source: object, path: Path | None = None) -> ShardIndex:
    request = IndexRequest(str(source))
    return make_index(request, path or index_path(request))


def read(index: ShardIndex, cache: FragmentCache | None) -> list[tuple[str | None, str | None, float, bytes | Path]]:
    reader = ShardReader(index, cache)
    reader.fetch(range(len(index)))
    found = []
    for number in range(len(index)):
        clip = index.clip(number)
        found.append((clip.transcript, clip.speaker, round(clip.seconds, 6), reader.audio(number)))
    return sorted(found, key=str)


@pytest.mark.parametrize("layout", ["tar", "shar", "parquet", "parquet without seconds"])
def test_the_same_clips_whatever_they_lie_in(layout: str, tmp_path: Path) -> None:
    """Transcripts, speakers, seconds and every byte of audio: from the disk, from a store, with a cache and without."""
    write(tmp_path / "data", layout)
    for source in (tmp_path / "data", f"counted://{tmp_path / 'data'}"):
        index = indexed(source)
        for cache in (None, FragmentCache(tmp_path / "fragments", 10**7)):
            assert read(index, cache) == EXPECTED


@pytest.mark.parametrize("number", [0, None])
def test_shar_as_lhotse_writes_it(number: int | None, tmp_path: Path) -> None:
    """Cuts are found by their whole ids, whatever is in them; other fields of a cut are no clips, and a cut without
    audio is none. Segments are joined in the order of their times."""
    names = ["plain", "with.dots.1", "folder/in/it", "ümläut 3", "x" * 140, ".hidden", "a.json"]
    clips = [dict(clip, id=name, corpus="mine") for clip, name in zip(CLIPS, names, strict=False)]
    write_shar(tmp_path, number, [*clips[:3], dict(CLIPS[9], audio=None), *clips[3:]])
    index = indexed(tmp_path)
    assert (index.problems, index.groups) == ([], [Group("mine", "")])
    assert [index.clip(number).name for number in range(len(index))] == names
    assert read(index, None) == rows_of(clips)


def test_shar_whose_cuts_were_edited_is_passed_over(tmp_path: Path) -> None:
    """A cut that has become a part of what is stored, or another one: its length and text would be false."""
    for number, (name, value) in enumerate([("start", 0.05), ("duration", 0.05), ("id", "another")]):
        write_shar(tmp_path, number, PARTS[0][:4])
        cuts = tmp_path / f"cuts.{number:06d}.jsonl.gz"
        lines = gzip.decompress(cuts.read_bytes()).decode().splitlines()
        lines[1] = json.dumps(json.loads(lines[1]) | {name: value})
        cuts.write_bytes(gzip.compress("\n".join(lines).encode()))
    write_shar(tmp_path, 3, PARTS[1])
    index = indexed(tmp_path)
    reasons = [reason for _, reason in index.problems]
    assert ["a part of its recording" in reason for reason in reasons] == [True, True, False]
    assert reasons[2].startswith("has clip00001.wav where its cuts have another")
    assert read(index, None) == rows_of(PARTS[1])


def test_a_manifest_is_shards_too(tmp_path: Path) -> None:
    """Its clips are files, whose lengths are read where it does not say them; columns say corpus and language."""
    for clip in CLIPS:
        (tmp_path / f"{clip['id']}.wav").write_bytes(clip["audio"])
    rows = [f"{clip['id']}.wav\t{clip['transcript']}\t{clip['speaker']}\tfr" for clip in CLIPS]
    manifest = tmp_path / "clips.tsv"
    manifest.write_text("\n".join(["path\ttranscript\tspeaker\tlanguage", *rows]) + "\n", encoding="utf-8")
    index = indexed(manifest)
    paths = read(index, None)
    assert [(*one[:3], Path(str(one[3])).read_bytes()) for one in paths] == EXPECTED
    assert index.groups == [Group("", "fr")]


def test_folders_say_corpus_and_language(tmp_path: Path) -> None:
    """As in `corpus=X/language=Y/`; a split that is named is the only one that is read."""
    for number, (language, split) in enumerate([("de", "train"), ("fr", "train"), ("fr", "dev")]):
        folder = tmp_path / "data" / "corpus=news" / f"language={language}" / f"split={split}"
        write_shard_parquet(folder / "a.parquet", PARTS[number])
    index = make_index(IndexRequest(str(tmp_path / "data"), split="train"), tmp_path / "index.arrow")
    assert index.groups == [Group("news", "de"), Group("news", "fr")]
    assert len(index) == 16


@pytest.mark.parametrize("layout", ["tar", "shar", "parquet"])
def test_a_truncated_shard_is_listed_and_passed_over(layout: str, tmp_path: Path) -> None:
    """Cut anywhere, also between two members; the other shards are as they were."""
    folder = tmp_path / "data"
    write(folder, layout)
    shard = folder / {"tar": "000001.tar", "shar": "recording.000001.tar", "parquet": "000001.parquet"}[layout]
    whole, others = (
        shard.read_bytes(),
        sorted(one for one in EXPECTED if one[0] not in {c["transcript"] for c in PARTS[1]}),
    )
    cuts = [0, 100, len(whole) // 2, 512 * (len(whole) // 1024)]
    for length in cuts:
        shard.write_bytes(whole[:length])
        index = indexed(folder)
        assert [url for url, _ in index.problems] == [str(shard)], length
        assert read(index, FragmentCache(tmp_path / f"fragments{length}", 10**7)) == others
    shard.write_bytes(whole)
    assert read(indexed(folder), FragmentCache(tmp_path / "fragments", 10**7)) == EXPECTED


def test_a_shard_that_is_named_and_missing_is_listed(tmp_path: Path) -> None:
    """One of a range; it is read when it has come. Where nothing is, that is said."""
    write(tmp_path / "data", "tar")
    last = tmp_path / "data" / "000002.tar"
    last.rename(tmp_path / "last")
    request = IndexRequest(f"{tmp_path}/data/{{000000..000002}}.tar")
    index = current_index(request, tmp_path / "index.arrow")
    assert (index.problems, len(index)) == ([(str(last), "is not there")], 16)
    (tmp_path / "last").rename(last)
    again = current_index(request, tmp_path / "index.arrow")
    assert (again.problems, len(again)) == ([], 24)
    for source in ("nowhere", "data/{3..9}.tar"):
        with pytest.raises(ShardError, match="no such file or folder"):
            indexed(tmp_path / source)


def test_a_compressed_tar_is_listed_and_passed_over(tmp_path: Path) -> None:
    """Nothing in it can be read without what is before it."""
    write(tmp_path, "tar")
    (tmp_path / "packed.tar.gz").write_bytes(gzip.compress((tmp_path / "000001.tar").read_bytes()))
    index = indexed(tmp_path)
    (problem,) = index.problems
    assert problem[0].endswith("packed.tar.gz")
    assert problem[1] == "is compressed, and clips of it cannot be read one by one: unpack it into a .tar"
    assert read(index, None) == EXPECTED


def test_the_command_passes_over_what_is_bad_and_exits_with_1(tmp_path: Path) -> None:
    """The index is there all the same; once the shard is whole, the exit code is 0."""
    write(tmp_path / "data", "tar")
    shard, path = tmp_path / "data" / "000001.tar", tmp_path / "index.arrow"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:5000])
    command = ["index", str(tmp_path / "data"), "-o", str(path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert f"{path}: 16 clips, 0.00 h in 2 shards\n" == result.stdout
    assert "1 shards cannot be read and are passed over:" in result.stderr and f"{shard}: " in result.stderr
    assert len(ShardIndex(path)) == 16
    shard.write_bytes(whole)
    assert CliRunner().invoke(app, command).exit_code == 0
    broken = [{**PARTS[0][0], "audio": b"no audio"}, *PARTS[0][1:]]
    write_shard_parquet(tmp_path / "header" / "a.parquet", broken, seconds=False)
    result = CliRunner().invoke(app, ["index", str(tmp_path / "header"), "-o", str(path)])
    assert (result.exit_code, "1 clips cannot be read: their headers are damaged" in result.stderr) == (1, True)


def test_a_clip_with_a_damaged_header_stays_alone(tmp_path: Path) -> None:
    """Its seconds are not a number; its neighbours are as they were."""
    clips = [dict(clip) for clip in PARTS[0]]
    clips[3]["audio"] = b"no audio"
    write_shard_parquet(tmp_path / "data" / "a.parquet", clips, seconds=False)
    index = indexed(tmp_path / "data")
    assert np.isnan(index.seconds(0, 8)).tolist() == [number == 3 for number in range(8)]


def test_unchanged_shards_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three shards one changes and one comes: two are read, and an index that is current is left as it is."""
    write(tmp_path / "data", "tar")
    opened: list[str] = []
    real = Storage.open

    def watched(storage: Storage, url: str) -> BinaryIO:
        opened.append(Path(url).name)
        return real(storage, url)

    monkeypatch.setattr(Storage, "open", watched)
    path = tmp_path / "index.arrow"
    indexed(tmp_path / "data", path)
    assert sorted(opened) == ["000000.tar", "000001.tar", "000002.tar"]
    opened.clear()
    assert len(current_index(IndexRequest(str(tmp_path / "data")), path)) == 24
    assert opened == []
    write_tar(tmp_path / "data" / "000001.tar", PARTS[1][:4])
    write_tar(tmp_path / "data" / "000003.tar", some_clips(2, first=50))
    index = current_index(IndexRequest(str(tmp_path / "data")), path)
    assert sorted(opened) == ["000001.tar", "000003.tar"]
    assert {index.clip(number).transcript for number in range(len(index))} == {
        f"WORD {number}" for number in [*range(12), *range(16, 24), 50, 51]
    }


def test_the_cache_keeps_to_its_limit_and_fetches_once(tmp_path: Path) -> None:
    """Eight threads that ask for the same fragments at once: each is fetched once. The one used longest ago goes."""
    cache = FragmentCache(tmp_path, 4000)
    fetched: list[int] = []

    def fetch(number: int) -> list[bytes]:
        fetched.append(number)
        return [bytes([number]) * 400, b"", bytes([number + 100]) * 500]

    def ask() -> None:
        for number in range(4):
            assert cache.clip(f"{number:040x}", 2, partial(fetch, number)) == bytes([number + 100]) * 500
            assert cache.clip(f"{number:040x}", 1, partial(fetch, number)) == b""

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == [0, 1, 2, 3]
    os.utime(tmp_path / f"{2:040x}.clips", ns=(1, 1))
    cache.clip(f"{4:040x}", 0, lambda: fetch(4))
    names = {path.name for path in tmp_path.glob("*.clips")}
    assert names == {f"{number:040x}.clips" for number in (0, 1, 3, 4)}
    assert sum(path.stat().st_size for path in tmp_path.glob("*.clips")) <= 4000


def test_a_damaged_fragment_is_fetched_again(tmp_path: Path) -> None:
    """One that the power failed under."""
    cache = FragmentCache(tmp_path, 4000)
    key = "ab" * 20
    assert cache.clip(key, 0, lambda: [b"one", b"two"]) == b"one"
    for length in (0, 5, 20):
        path = tmp_path / f"{key}.clips"
        path.write_bytes(path.read_bytes()[:length])
        assert cache.clip(key, 1, lambda: [b"one", b"two"]) == b"two"


def test_what_is_no_index_or_no_source_is_said_in_a_line(tmp_path: Path) -> None:
    """What, where, and what would be right."""
    (tmp_path / "notes.arrow").write_bytes(b"no arrow")
    with pytest.raises(ShardError, match=r"notes.arrow: is no index of shards .*wav2vec2 index SOURCE"):
        ShardIndex(tmp_path / "notes.arrow")
    with pytest.raises(ShardError, match="no shards there"):
        indexed(tmp_path)
    with pytest.raises(ShardError, match="Protocol not known: nowhere"):
        indexed("nowhere://bucket")
    with pytest.raises(ShardError, match=r"no column `sound` \(its columns: audio"):
        write_shard_parquet(tmp_path / "a.parquet", [{"id": "a", "audio": encoded(1, 0.1), "seconds": 0.1}])
        make_index(IndexRequest(str(tmp_path), audio_column="sound"), tmp_path / "index.arrow")


def test_an_index_is_one_file_that_can_be_moved(tmp_path: Path) -> None:
    """The shards stay where they are."""
    write(tmp_path / "data", "tar")
    index = indexed(tmp_path / "data")
    assert index.path == tmp_path / "data" / "wav2vec2.index.arrow"
    shutil.move(index.path, tmp_path / "elsewhere.arrow")
    assert read(ShardIndex(tmp_path / "elsewhere.arrow"), None) == EXPECTED
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["000000.tar", "000001.tar", "000002.tar"]


class FaultyServer(ThreadingHTTPServer):
    """A folder over HTTP, whose answers are, in turn, an error, cut off, late, and right."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), FaultyAnswer)
        self.folder, self.turn, self.faults = folder, 0, Counter[str]()


class FaultyAnswer(BaseHTTPRequestHandler):
    """One answer, of a range of bytes where one is asked for."""

    server: FaultyServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        self.server.turn += body
        fault = ("error", "cut", "late", "")[self.server.turn % 4] if body else ""
        self.server.faults[fault] += 1
        if fault == "error":
            self.send_error(500)
            return
        if fault == "late":
            time.sleep(0.05)
        start, end = 0, len(content)
        asked = self.headers.get("Range", "")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(end, int(last) + 1 if last else end)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{len(content)}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.end_headers()
        if body:
            piece = content[start:end]
            self.wfile.write(piece[: len(piece) // 2] if fault == "cut" else piece)
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("cached", [True, False])
def test_nothing_is_lost_or_twice_where_a_server_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """Errors, connections that are cut and late answers of a server on this machine: the clips are what they are."""
    pytest.importorskip("aiohttp", reason="fsspec reads http:// with aiohttp")
    monkeypatch.setattr("wav2vec2.shards.storage._WAITS", (0.01,) * 5)
    write(tmp_path / "data", "tar")
    server = FaultyServer(tmp_path / "data")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        index = indexed(f"http://127.0.0.1:{server.server_port}/{{000000..000003}}.tar", tmp_path / "index.arrow")
        assert [(url[-10:], reason) for url, reason in index.problems] == [("000003.tar", "is not there")]
        cache = FragmentCache(tmp_path / "fragments", 10**7) if cached else None
        assert read(index, cache) == EXPECTED
        assert min(server.faults[fault] for fault in ("error", "cut", "late")) >= 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
