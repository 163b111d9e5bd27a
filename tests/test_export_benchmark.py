"""`benchmarks/exports.py` times torch and an exported folder on the same clip, and its shares are of those times."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

for module in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(module, reason=f"{module}, of the extra `export`, is not installed")

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "exports.py"


def test_every_side_is_timed_on_the_same_threads(tmp_path: Path) -> None:
    """Torch and ONNX Runtime, both precisions, one thread and two; the table says what the record holds."""
    command = [sys.executable, str(SCRIPT), "--quick", "--runtimes", "onnx", "--output", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    rows = {(row["runtime"], row["precision"], row["threads"]): row for row in found["rows"]}
    both = ("float32", "int8")
    assert set(rows) == {(name, kind, count) for name in ("torch", "onnx") for kind in both for count in (1, 2)}
    assert found["machine"]["versions"].keys() >= {"torch", "onnxruntime"}
    for (name, kind, count), row in rows.items():
        assert 0 < row["quickest"] <= row["seconds"]
        assert kind == "int8" or row["same_texts"] == found["clips"] == 1
        share = row["seconds"] / rows["torch", "float32", count]["seconds"]
        speed = found["seconds_of_audio"] / row["seconds"]
        assert f"| {count} | {name} | {kind} | {speed:.0f} | {share:.2f} |" in done.stdout
