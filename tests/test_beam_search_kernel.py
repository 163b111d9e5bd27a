"""The walk of the beam search as one kernel for GPUs finds what the search as operations of torch finds.

Without a GPU, Triton interprets the kernel, in a process of its own since it must know that before its first import.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from decoding_benchmark import decoding_benchmark

from wav2vec2.alignment.device_kernels import usable

PROBE = Path(__file__).parent / "support" / "beam_kernel_probe.py"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["letters", "lexicon", "hotwords", "model", "all", "alignment"])
def test_interpreted_on_a_cpu(kind: str) -> None:
    pytest.importorskip("triton", reason="Triton comes with PyTorch for GPUs, and is not installed here")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, PROBE, kind], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu() -> None:
    assert usable(torch.device("cuda"))
    measures = decoding_benchmark().measure("cuda", quick=True)
    assert measures["same_texts"] == "4 of 4"


@pytest.mark.slow
def test_the_benchmark_runs_on_a_cpu() -> None:
    """At a tiny size: every part of it is timed, and decoding on the device says what decoding on a CPU does."""
    measures = decoding_benchmark().measure("cpu", quick=True)
    assert measures["same_texts"] == "4 of 4"
    assert list(measures["milliseconds"]) == [
        "encoder", "greedy, texts", "beam 5, search", "beam 5, texts", "beam 5, 3-gram, search", "beam 5, 3-gram, texts"
    ]  # fmt: skip
    assert min(measures["milliseconds"].values()) > 0
