"""`examples/transcribe_with_ray.py`: the rows of `wav2vec2 transcribe`, of a unit and on a Ray of one machine."""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from recognition_checkpoints import save_checkpoint
from shard_files import some_clips, write_tar
from training_audio import encoded, write_parquet

from wav2vec2 import Transcriber
from wav2vec2.shards.clip_collections import units_of

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def plain(checkpoint: Path, audio: bytes) -> object:
    return Transcriber.from_pretrained(checkpoint).transcribe(audio).text  # type: ignore[union-attr]


def shard(path: Path, clips: dict[str, bytes]) -> Path:
    write_parquet(path, ({"id": name, "audio": {"bytes": audio, "path": None}} for name, audio in clips.items()))
    return path


def damaged(path: Path) -> Path:
    """A tar with a clip, cut off in the next."""
    write_tar(path, some_clips(2))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"clip00001.wav") + 1000])
    return path


def test_a_unit_becomes_rows(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray Data hands to a worker, without Ray: a bad clip has its error, so have a damaged shard and one that is
    gone, the others their texts."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    clips = {"a": encoded(1, 0.5), "bad": b"no audio", "b": encoded(2, 0.7)}
    shard(tmp_path / "0.parquet", clips)
    cut = damaged(tmp_path / "1.tar")
    gone = shard(tmp_path / "2.parquet", clips)
    units = units_of([str(tmp_path)])
    gone.unlink()
    recogniser = import_module("transcribe_with_ray").Recogniser(str(checkpoint), units)
    rows = [json.loads(row["row"]) for number in range(len(units)) for row in recogniser({"id": number})]
    assert [row["id"] for row in rows] == [*clips, "clip00000", str(cut), str(gone)]
    first = plain(checkpoint, some_clips(1)[0]["audio"])
    texts = [plain(checkpoint, clips["a"]), None, plain(checkpoint, clips["b"]), first, None, None]
    assert [row.get("text") for row in rows] == texts
    assert ["error" in row for row in rows] == [text is None for text in texts]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install 'ray[data]', 250 MB)")
def test_ray_does_the_same(checkpoint: Path, tmp_path: Path) -> None:
    clips = {f"clip{number}": encoded(number, 0.5) for number in range(6)}
    for first in (0, 3):
        chosen = list(clips)[first : first + 3]
        shard(tmp_path / "in" / f"{first}.parquet", {name: clips[name] for name in chosen})
    cut = damaged(tmp_path / "in" / "cut.tar")
    script, out = EXAMPLES / "transcribe_with_ray.py", tmp_path / "out"
    command = [sys.executable, str(script), str(tmp_path / "in"), str(out), "--model", str(checkpoint)]
    ended = subprocess.run(command, env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}, timeout=600)
    assert ended.returncode == 1
    rows = [json.loads(line) for path in out.iterdir() for line in path.read_text("utf-8").splitlines()]
    found = {row["id"]: row.get("text") for row in rows}
    expected = {name: plain(checkpoint, one) for name, one in clips.items()}
    assert found == expected | {"clip00000": plain(checkpoint, some_clips(1)[0]["audio"]), str(cut): None}
    assert len(rows) == len(found)
