"""A checkpoint is converted tensor by tensor: memory does not grow with its size."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import foreign_checkpoints as foreign
import pytest
import torch
from foreign_checkpoints import CTC
from small_models import small_config

from wav2vec2.sharing.converters.torch_file_writing import write_torch_file

pytestmark = pytest.mark.slow

PROBE = Path(__file__).parent / "support" / "conversion_probe.py"
MEBIBYTE = 1 << 20


class Zeros(NamedTuple):
    """A tensor of zeros that takes no memory until it is written."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def read(self) -> torch.Tensor:
        return torch.zeros(self.shape, dtype=self.dtype)


def peak(source: Path, destination: Path, to: str, options: dict[str, Any]) -> int:
    """Bytes that a conversion takes beyond what its process has anyhow."""
    arguments = [sys.executable, str(PROBE), str(source), str(destination), to, json.dumps(options)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    return int(found["after"] - found["before"]) * 1024


def test_memory_is_that_of_the_largest_tensor(tmp_path: Path) -> None:
    """There and back, 120 MB in tensors of 1 MB: what is held beyond the process itself is a third at most."""
    sizes = {"hidden_size": 512, "num_hidden_layers": 18, "intermediate_size": 512, "num_attention_heads": 16}
    config = small_config("large_lv60k", vocab_size=len(foreign.TOKENS), **sizes)
    rows = [*foreign.trunk(config), *foreign.head(config, CTC)]
    state = {one.fairseq2: Zeros(one.shape) for one in rows if one.fairseq2}
    write_torch_file(tmp_path / "model.pt", {"model": state})
    (tmp_path / "letters.txt").write_text("\n".join(foreign.TOKENS))
    size = (tmp_path / "model.pt").stat().st_size
    assert size > 100 * MEBIBYTE
    options = {"config": foreign.without_settings(config), "dictionary": str(tmp_path / "letters.txt")}
    assert peak(tmp_path / "model.pt", tmp_path / "ours", "transformers", options) < size / 3
    (tmp_path / "model.pt").unlink()
    for to in foreign.ORIGINS:
        assert peak(tmp_path / "ours", tmp_path / to, to, {}) < size / 3
