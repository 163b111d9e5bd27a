"""Ways to cut the same updates over processes and over time, and a run in every one of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

#: (processes, seconds that one process holds at once, parts that an update of about eight clips then has)
LAYOUTS = {
    "1 x 8": (1, 100.0, {1}),
    "1 x 2 x 4": (1, 2.8, {4, 5}),
    "2 x 4": (2, 100.0, {1}),
    "2 x 2 x 2": (2, 2.8, {2, 3}),
}
UPDATES = 5
CLIPS = 40
#: Of the clips, in seconds.
LENGTHS = [0.9 + 0.4 * number / CLIPS for number in range(CLIPS)]


def run_in_every_layout(
    root: Path, run: Callable[..., Path], recipe_of: Callable[[Path, str], dict[str, Any]]
) -> dict[str, Path]:
    """The folders of a recorded run by its layout. `recipe_of` makes the recipe for a folder and a layout."""
    return {
        layout: run(recipe_of(root / layout.replace(" ", ""), layout), processes, "train_and_record")
        for layout, (processes, _, _) in LAYOUTS.items()
    }
