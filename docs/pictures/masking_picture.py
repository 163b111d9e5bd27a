"""Masking: spans of frames of which the model is told nothing, on the sentence that they hide.

Shapes: S samples, T frames.
"""

from pathlib import Path

import numpy as np
import torch
from drawing_style import BLUE, MUTED, ORANGE, figure, plain, write
from numpy.typing import NDArray
from spoken_sentence import SENTENCE, log_mel, speak

from wav2vec2.configuration import presets
from wav2vec2.configuration.frame_arithmetic import conv_output_length
from wav2vec2.modeling.span_masking import draw_pretraining_mask

#: What the clip's mask and distractors follow from.
CLIP_SEED = 11


def mask_of(samples: int) -> NDArray[np.bool_]:
    """The frames (T,) of a clip that BASE would have to predict."""
    config = presets.base()
    frames = conv_output_length(torch.tensor([samples]), config.conv_kernel, config.conv_stride)
    mask = draw_pretraining_mask(config, frames, int(frames), torch.tensor([CLIP_SEED]))
    return np.asarray(mask[0].numpy(), dtype=bool)


def spans(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First frame and the one behind the last of each run of True.

    >>> spans(np.array([False, True, True, False, True]))
    [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def draw(path: Path) -> Path:
    """Waveform and log-mel energies with the masked spans."""
    samples = speak()
    mask = mask_of(len(samples))
    drawing, axes = figure(9, 4.2, 2, height_ratios=(1, 1.7), sharex=True)
    wave, energies = axes[:, 0]
    seconds = len(samples) / 16_000
    wave.plot(np.arange(len(samples)) / 16_000, samples, color=BLUE, linewidth=0.4)
    wave.set_yticks([])
    wave.set_title(
        f"“{SENTENCE}”: {100 * mask.mean():.0f} % of {len(mask)} frames masked, by spans of 10 that may overlap"
    )
    energies.imshow(log_mel(samples), origin="lower", aspect="auto", cmap="Greys", extent=(0, len(mask) * 0.02, 0, 64))
    energies.set_ylabel("mel band")
    energies.set_yticks([20, 40, 60])
    energies.set_xlabel("seconds (one frame is 0.02)")
    for first, last in spans(mask):
        for axis in (wave, energies):
            axis.axvspan(first * 0.02, last * 0.02, color=ORANGE, alpha=0.28, linewidth=0)
        energies.text((first + last) * 0.01, 61, "masked", ha="center", va="top", color=ORANGE, fontsize=9)
    for axis in (wave, energies):
        plain(axis)
        axis.set_xlim(0, seconds)
        axis.tick_params(colors=MUTED)
    return write(drawing, path)
