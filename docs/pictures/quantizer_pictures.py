"""What the quantizer gives: which codes are in use, and how a masked frame's own code is told from others.

Shapes: G groups, V entries, N masked frames, K distractors.
"""

from pathlib import Path
from typing import Any

import numpy as np
from drawing_style import BLUE, GREY, INK, MUTED, ORANGE, SHADES, figure, plain, write
from numpy.typing import NDArray


def perplexity(counts: NDArray[np.float64]) -> float:
    """How many equally frequent codes these counts are worth."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def draw_codebooks(measured: dict[str, Any], path: Path) -> Path:
    """How often each entry of each codebook is chosen: a healthy model above, a collapsed one below."""
    rows = [("healthy", measured["healthy"], BLUE), ("collapsed", measured["collapsed"], ORANGE)]
    drawing, axes = figure(9, 3.8, 2, 2, sharex=True)
    for row, (name, groups, colour) in enumerate(rows):
        for group, counts in enumerate(np.asarray(groups, dtype=float)):
            shares = np.sort(counts)[::-1] / counts.sum()
            axis = axes[row, group]
            axis.bar(np.arange(1, len(shares) + 1), shares, width=0.9, color=colour)
            axis.set_title(f"{name}, codebook {group + 1}: worth {perplexity(counts):.1f} codes of {len(shares)}")
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
            axis.grid(visible=False, axis="x")
            if row:
                axis.set_xlabel("entries, the most frequent first")
        axes[row, 0].set_ylabel("share of frames")
    return write(drawing, path)


def draw_choice(measured: dict[str, Any], path: Path) -> Path:
    """Similarity of every masked frame's prediction with every target; and one frame among its distractors."""
    matrix = np.asarray(measured["similarities"])  # (N, N)
    drawing, axes = figure(9, 4.2, 1, 2, width_ratios=(1, 1.15))
    whole, one = axes[0]
    image = whole.imshow(matrix, aspect="auto", cmap=SHADES, vmin=-0.2, vmax=max(0.6, float(matrix.max())))
    whole.set_title(f"cosine similarity: {measured['right']} of {len(matrix)} frames choose right")
    whole.set_xlabel("target of masked frame")
    whole.set_ylabel("prediction at masked frame")
    plain(whole)
    drawing.colorbar(image, ax=whole, shrink=0.8).outline.set_visible(False)
    _draw_one(one, measured)
    return write(drawing, path)


def _draw_one(axis: Any, measured: dict[str, Any]) -> None:
    """One frame: its own target, and the distractors that it has to be told from."""
    frame = measured["frame"]
    own = measured["similarities"][frame][frame]
    others = np.sort(np.asarray(measured["distractors"]))
    scores = np.exp((np.append(others, own) - own) / measured["kappa"])
    axis.barh(np.arange(len(others)), others, color=GREY, height=0.8, label="its 100 distractors")
    axis.barh(len(others) + 2, own, color=ORANGE, height=2.5, label="its own target")
    axis.axvline(own, color=ORANGE, linewidth=0.8, linestyle=":")
    axis.axvline(0, color=MUTED, linewidth=0.6)
    axis.set_yticks([])
    axis.set_xlabel("cosine similarity with the prediction")
    axis.set_title(f"masked frame {frame}: probability of the right one {1 / scores.sum():.2f}", color=INK)
    plain(axis)
    axis.legend(loc="lower right")
