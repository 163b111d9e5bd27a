"""The measured slowdown of bfloat16 against a processor whose speed is known, and where its instructions are."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recognition_checkpoints import save_checkpoint

from wav2vec2 import Transcriber
from wav2vec2.modeling import precision as timed
from wav2vec2.modeling.precision import bfloat16_slowdown, has_bfloat16_instructions
from wav2vec2.training import starting


def test_the_factor_is_that_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only products move: the first of a kind takes longest and does not count."""
    now, seen = [0.0], set[Any]()

    def product(left: torch.Tensor, right: torch.Tensor) -> None:
        now[0] += 100 if left.dtype not in seen else 12.5 if left.dtype == torch.bfloat16 else 0.5
        seen.add(left.dtype)

    monkeypatch.setattr(torch, "matmul", product)
    monkeypatch.setattr(timed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert bfloat16_slowdown() == 25


def test_the_factor_is_of_this_machine() -> None:
    assert 0.001 < bfloat16_slowdown() < 1000


@pytest.mark.parametrize(
    ("device", "precision", "instructions", "slowdown", "told"),
    [
        ("cpu", "bf16", False, 12.34, True),
        ("cpu", "bf16", False, 0.8, False),
        ("cpu", "bf16", True, 12.34, False),
        ("cpu", "no", False, 12.34, False),
        ("cuda", "bf16", False, 12.34, False),
    ],
)
def test_a_slow_choice_is_warned_about_with_its_factor(
    device: str, precision: str, instructions: bool, slowdown: float, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And "auto" does not make it."""
    monkeypatch.setattr(timed, "has_bfloat16_instructions", lambda: instructions)
    monkeypatch.setattr(timed, "bfloat16_slowdown", lambda: slowdown)
    monkeypatch.setattr(starting, "has_bfloat16_instructions", lambda: instructions)
    run: Any = SimpleNamespace(
        origin=SimpleNamespace(seconds_per_update=None), data=SimpleNamespace(seconds_per_update=1.0)
    )
    accelerator = SimpleNamespace(device=torch.device(device), mixed_precision=precision)
    said = starting.warnings_of(run, accelerator)
    assert len(said) == told
    assert not told or "takes 12.3 times as long as in float32" in said[0]
    if not torch.accelerator.is_available():
        assert starting.has_fast_bf16() == instructions


def test_a_transcriber_warns_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asks for it; not who leaves the choice to the package."""
    checkpoint = save_checkpoint(tmp_path)
    monkeypatch.setattr(timed, "has_bfloat16_instructions", lambda: False)
    monkeypatch.setattr(timed, "bfloat16_slowdown", lambda: 7.0)
    Transcriber.from_pretrained(checkpoint, device="cpu")
    assert not caplog.records
    Transcriber.from_pretrained(checkpoint, device="cpu", dtype=torch.bfloat16)
    assert "takes 7.0 times as long as in float32 (measured just now); dtype=float32 is faster" in caplog.text


def test_instructions_are_those_of_the_processor() -> None:
    """As Linux lists them."""
    listed = Path("/proc/cpuinfo")
    if not listed.is_file() or not torch.backends.mkldnn.is_available():
        pytest.skip("no list of the processor's instructions here")
    flags = set(listed.read_text(encoding="utf-8").split())
    assert has_bfloat16_instructions() == bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
