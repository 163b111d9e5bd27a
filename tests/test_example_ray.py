"""`examples/transcribe_with_ray.py`: the rows of `wav2vec2 transcribe`, of a block and on a Ray of one machine."""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from recognition_checkpoints import save_checkpoint
from training_audio import encoded, write_parquet

from wav2vec2 import Transcriber

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def plain(checkpoint: Path, audio: bytes) -> object:
    return Transcriber.from_pretrained(checkpoint).transcribe(audio).text  # type: ignore[union-attr]


def test_a_block_of_rows_becomes_rows(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray Data hands to a worker, without Ray: a bad clip has its error, the others their texts."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    recogniser = import_module("transcribe_with_ray").Recogniser(str(checkpoint))
    clips = {"a": encoded(1, 0.5), "bad": b"no audio", "b": encoded(2, 0.7)}
    audio = np.array([{"bytes": one, "path": None} for one in clips.values()], dtype=object)
    answer = recogniser({"id": np.array(list(clips), dtype=object), "audio": audio})
    rows = [json.loads(row) for row in answer["row"]]
    assert [row["id"] for row in rows] == list(clips)
    assert [row.get("text") for row in rows] == [plain(checkpoint, clips["a"]), None, plain(checkpoint, clips["b"])]
    assert "error" in rows[1]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install 'ray[data]', 250 MB)")
def test_ray_does_the_same(checkpoint: Path, tmp_path: Path) -> None:
    clips = {f"clip{number}": encoded(number, 0.5) for number in range(6)}
    for first in (0, 3):
        chosen = list(clips)[first : first + 3]
        write_parquet(
            tmp_path / "in" / f"{first}.parquet",
            ({"id": name, "audio": {"bytes": clips[name], "path": None}} for name in chosen),
        )
    script, out = EXAMPLES / "transcribe_with_ray.py", tmp_path / "out"
    command = [sys.executable, str(script), str(tmp_path / "in"), str(out), "--model", str(checkpoint)]
    subprocess.run(command, check=True, env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}, timeout=600)
    rows = [json.loads(line) for path in out.iterdir() for line in path.read_text("utf-8").splitlines()]
    assert {row["id"]: row["text"] for row in rows} == {name: plain(checkpoint, one) for name, one in clips.items()}
    assert len(rows) == len(clips)
