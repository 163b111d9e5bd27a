"""Shards in a store that speaks S3, a server on this machine that fails again and again: every clip, and as it is."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shard_files import some_clips, write_tar

from wav2vec2.shards.fragment_cache import FragmentCache
from wav2vec2.shards.indexing import IndexRequest, make_index
from wav2vec2.shards.shard_reader import ShardReader

s3fs = pytest.importorskip("s3fs", reason="the extra `cloud` is not installed")
moto_server = pytest.importorskip("moto.server", reason="moto, a server that speaks S3, is not installed")
werkzeug = pytest.importorskip("werkzeug.serving", reason="moto's server needs it")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(botocore|aiobotocore|moto|boto3|dateutil)"),
]


class Faulty:
    """The store behind a bad network: where it is `on`, files are in turn an error, cut off, late and right."""

    def __init__(self, store: Callable[..., Iterable[bytes]]) -> None:
        self.store, self.turn, self.faults, self.lock = store, 0, Counter[str](), threading.Lock()
        self.on = False

    def __call__(self, request: dict[str, Any], answer: Callable[..., Any]) -> Iterable[bytes]:
        of_file = request["REQUEST_METHOD"] == "GET" and request["PATH_INFO"].endswith(".tar")
        if not (self.on and of_file):
            return self.store(request, answer)
        with self.lock:
            self.turn += 1
            fault = ("error", "cut", "late", "")[self.turn % 4]
            self.faults[fault] += 1
        if fault == "error":
            answer("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]
        if fault == "late":
            time.sleep(0.05)
        content = b"".join(self.store(request, answer))
        return [content[: len(content) // 2]] if fault == "cut" else [content]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """The server that `s3://` is."""
    faulty = Faulty(moto_server.DomainDispatcherApplication(moto_server.create_backend_app))
    server = werkzeug.make_server("127.0.0.1", 0, faulty, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield faulty
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("cached", [True, False])
def test_nothing_is_lost_or_twice_in_a_store_that_fails(
    store: Faulty, cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a pattern; through the cache of fragments, and clip by clip."""
    monkeypatch.setattr("wav2vec2.shards.storage._WAITS", (0.01,) * 5)
    clips = some_clips(24)
    for number in range(3):
        write_tar(tmp_path / "data" / f"{number:06d}.tar", clips[8 * number : 8 * number + 8])
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    bucket = "cached" if cached else "plain"
    files.mkdir(bucket)
    files.put(str(tmp_path / "data") + "/", f"{bucket}/", recursive=True)
    store.on = True
    index = make_index(IndexRequest(f"s3://{bucket}/*.tar"), tmp_path / "index.arrow")
    assert index.problems == []
    reader = ShardReader(index, FragmentCache(tmp_path / "fragments", 10**7) if cached else None)
    reader.fetch(range(len(index)))
    found = [(index.clip(number).transcript, reader.audio(number)) for number in range(len(index))]
    assert sorted(found) == sorted((clip["transcript"], clip["audio"]) for clip in clips)
    assert min(store.faults[fault] for fault in ("error", "cut", "late")) >= 1
    by_names = make_index(IndexRequest(f"s3://{bucket}/{{000000..000003}}.tar"), tmp_path / "by_names.arrow")
    assert (by_names.problems, len(by_names)) == ([(f"s3://{bucket}/000003.tar", "is not there")], 24)
