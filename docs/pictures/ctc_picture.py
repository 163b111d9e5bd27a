"""CTC: what a recogniser says at each frame, its best path, and the text that this path collapses to.

Shapes: T frames, V tokens.
"""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from drawing_style import BLUE, GREY, INK, ORANGE, SHADES, figure, plain, write

BLANK, DELIMITER = "<pad>", "|"


def collapse(path: list[str]) -> str:
    """Merge repeats, then leave out blanks; the delimiter is a space.

    >>> collapse(["<pad>", "s", "e", "<pad>", "e", "e", "|"])
    'see'
    """
    letters = [token for token, _ in groupby(path) if token != BLANK]
    return " ".join("".join(letters).replace(DELIMITER, " ").split())


def draw(measured: dict[str, Any], path: Path) -> Path:
    """Posteriors of the tokens that occur, with the best path; below it the path itself and the text."""
    tokens, posteriors = measured["tokens"], np.asarray(measured["posteriors"])  # (V), (T, V)
    best = posteriors.argmax(axis=1)
    drawing, axes = figure(9, 4.2)
    axis = axes[0, 0]
    axis.imshow(posteriors.T, aspect="auto", cmap=SHADES, vmin=0, vmax=1, interpolation="nearest")
    axis.plot(np.arange(len(best)), best, ".", color=ORANGE, markersize=4)
    axis.set_yticks(range(len(tokens)), [_name(token) for token in tokens], color=INK)
    axis.set_xlabel("frame (0.02 s)")
    path_tokens = [tokens[index] for index in best]
    axis.set_title(f"collapses to “{collapse(path_tokens)}”; said was “{measured['text']}”")
    plain(axis)
    for frame, token in enumerate(path_tokens):
        first = frame == 0 or path_tokens[frame - 1] != token
        if first and token != BLANK:
            written = "␣" if token == DELIMITER else token
            axis.text(frame, len(tokens) + 0.1, written, ha="center", va="center", color=BLUE, fontsize=9.5)
    axis.text(-1.2, len(tokens) + 0.1, "text", ha="right", va="center", color=GREY, fontsize=9)
    axis.set_ylim(len(tokens) + 0.7, -0.6)
    return write(drawing, path)


def _name(token: str) -> str:
    return {BLANK: "blank", DELIMITER: "space"}.get(token, token)
