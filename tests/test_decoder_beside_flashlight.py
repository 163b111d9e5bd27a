"""On the noisy task of the benchmark, the beam search makes no more errors than flashlight-text with the same beam."""

from pathlib import Path

import pytest
from decoding_benchmark import decoding_benchmark

pytestmark = pytest.mark.slow

pytest.importorskip("flashlight.lib.text.decoder", reason="flashlight-text is not installed")


@pytest.mark.parametrize(("noise", "beams"), [(2.2, [50, 100]), (2.35, [100])])
def test_errors_are_no_more_than_flashlights(noise: float, beams: list[int], tmp_path: Path) -> None:
    """A lexicon of 5,000 words with a 3-gram model, 20 s an utterance, the same weights on both sides."""
    decoding = decoding_benchmark()
    task = decoding.make_task(8, tmp_path, noise)
    theirs = decoding.error_rate(decoding.flashlight(task, 100)(), task.references)
    greedy = decoding.error_rate(decoding.greedy(task)(), task.references)
    assert theirs < 0.1 < greedy  # the task is hard, and the oracle solves it
    for beam in beams:
        assert decoding.error_rate(decoding.ours(task, beam, 8)(), task.references) <= theirs
