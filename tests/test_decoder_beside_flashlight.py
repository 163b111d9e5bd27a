"""On the noisy task of the benchmark, the beam search makes no more errors than flashlight-text with the same beam."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("flashlight.lib.text.decoder", reason="flashlight-text is not installed")


def benchmark() -> ModuleType:
    """The module `benchmarks/decoding.py`, which belongs to no package."""
    path = Path(__file__).parents[1] / "benchmarks" / "decoding.py"
    spec = importlib.util.spec_from_file_location("decoding_benchmark", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("noise", "beams"), [(2.2, [50, 100]), (2.35, [100])])
def test_errors_are_no_more_than_flashlights(noise: float, beams: list[int], tmp_path: Path) -> None:
    """A lexicon of 5,000 words with a 3-gram model, 20 s an utterance, the same weights on both sides."""
    decoding = benchmark()
    task = decoding.make_task(8, tmp_path, noise)
    theirs = decoding.error_rate(decoding.flashlight(task, 100)(), task.references)
    greedy = decoding.error_rate(decoding.greedy(task)(), task.references)
    assert theirs < 0.1 < greedy  # the task is hard, and the oracle solves it
    for beam in beams:
        assert decoding.error_rate(decoding.ours(task, beam, 8)(), task.references) <= theirs
