"""Does a folder give in its runtime what the model gives in torch? The numbers, and the texts.

Shapes: S samples of a clip.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.probe_clips import cuts
from wav2vec2.export.refusal import DisagreementError
from wav2vec2.export.targets import Outputs, Precision, Target

Array = NDArray[np.float32]

#: How far an output in single precision may be from torch's, for outputs up to 1; of larger ones this share.
TOLERANCE = 1e-4

#: Logits below it are the constant that silences a token: no measure of how large outputs are.
_SILENCED = -5e3

#: How far outputs in 8 bits may be from torch's, as a share of their size: beyond it nothing is left of them.
ROUGHLY = 0.5


@dataclass(frozen=True)
class Agreement:
    """A folder beside torch, on the clips it was tried on."""

    #: What computed, with its version.
    runtime: str
    #: How many clips were compared, those in padded batches counted again.
    clips: int
    #: The largest difference of any output.
    largest_difference: float
    #: The differences together, as a share of the size of the outputs.
    relative_difference: float
    #: Texts that are the same, and how many there are; 0 of 0 for a model without text.
    same_texts: int
    texts: int
    #: Seconds of audio a second for torch and for the runtime, the whole clips one by one on as many threads.
    torch_speed: float
    speed: float


def agreement(
    target: Target, checkpoint: Checkpoint, folder: Path, precision: Precision, clips: Sequence[Array]
) -> Agreement:
    """Compare a folder with torch on clips (S,) and cuts of them, alone and in a padded batch. What does not give what
    the model gives is a `DisagreementError`."""
    runtime = target.opened(checkpoint, folder, precision)
    tried = [cut for clip in clips for cut in cuts(clip, checkpoint.config)]
    wanted = [target.expected(checkpoint, checkpoint.outputs(clip)) for clip in tried]
    found = [runtime.outputs([clip])[0] for clip in tried]
    if runtime.takes_batches and checkpoint.config.padding_invariant_norm:
        found, wanted = found + runtime.outputs(tried), wanted + wanted
    largest, relative = _differences(found, wanted, precision)
    same = texts = 0
    if checkpoint.writes_text:
        said = [checkpoint.text(checkpoint.outputs(clip)["logits"]) for clip in tried]
        heard = [_spaced(text) for text in runtime.texts(tried)]
        same, texts = sum(one == other for one, other in zip(said, heard, strict=True)), len(tried)
        if precision is Precision.float32 and same < texts:
            one = next(number for number in range(texts) if said[number] != heard[number])
            raise DisagreementError(f"{runtime.what} reads {heard[one]!r} where torch reads {said[one]!r}")
    seconds = sum(map(len, clips)) / checkpoint.extractor.sampling_rate
    torch_speed, speed = _speeds([checkpoint.outputs, lambda clip: runtime.outputs([clip])], clips, seconds)
    return Agreement(runtime.what, len(found), largest, relative, same, texts, torch_speed, speed)


def _differences(found: Sequence[Outputs], wanted: Sequence[Outputs], precision: Precision) -> tuple[float, float]:
    """The largest difference and the relative one; `DisagreementError` where either is too large, or shapes differ."""
    largest = off = size = 0.0
    for got, right in zip(found, wanted, strict=True):
        for name, values in right.items():
            if got[name].shape != values.shape:
                raise DisagreementError(f"{name} is {got[name].shape}, torch gives {values.shape}")
            if not np.isfinite(got[name]).all():
                raise DisagreementError(f"{name} has values that are not finite; torch's are")
            heard = values > _SILENCED
            right64, gap = values.astype(np.float64), np.abs(got[name].astype(np.float64) - values)
            off += float(np.square(gap[heard]).sum())
            size += float(np.square(right64[heard]).sum())
            worst = float(gap.max(initial=0.0))
            largest = max(largest, worst)
            usual = float(np.abs(values[heard]).max(initial=1.0))
            if precision is Precision.float32 and worst > TOLERANCE * usual:
                raise DisagreementError(f"{name} is up to {worst:.2g} away from torch's")
    relative = float(np.sqrt(off / size)) if size else 0.0
    if precision is Precision.int8 and relative > ROUGHLY:
        raise DisagreementError(f"in 8 bits outputs are {relative:.0%} away from torch's")
    return largest, relative


def _speeds(runs: Sequence[Callable[[Array], object]], clips: Sequence[Array], seconds: float) -> list[float]:
    """How many times as fast as speech each way computes clips that last so long together: the median of three, in
    turns, so that what else the machine does slows all of them."""
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(3):
        for run, times in zip(runs, taken, strict=True):
            started = time.perf_counter()
            for clip in clips:
                run(clip)
            times.append(time.perf_counter() - started)
    return [seconds / median(times) for times in taken]


def _spaced(text: str) -> str:
    """The text with one space between words: runtimes write one for each delimiter."""
    return " ".join(text.split())
