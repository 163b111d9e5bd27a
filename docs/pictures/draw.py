"""Draw every picture of the documentation: `python docs/pictures/draw.py` (`make pictures`).

Masks are drawn on the spot, on speech of espeak-ng; what comes from trained models was measured by `measure.py`, which
says from which runs, and lies in `data/`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctc_picture
import learning_curves
import masking_picture
import quantizer_pictures

HERE = Path(__file__).parent


def read(name: str, data: Path) -> Any:
    """What `measure.py` has left under a name."""
    return json.loads((data / f"{name}.json").read_text(encoding="utf-8"))


#: The pictures, and how each is made from the folder of the measured data.
PICTURES: dict[str, Callable[[Path, Path], Path]] = {
    "masking": lambda path, data: masking_picture.draw(path),
    "codebooks": lambda path, data: quantizer_pictures.draw_codebooks(read("codebooks", data), path),
    "contrastive_choice": lambda path, data: quantizer_pictures.draw_choice(read("contrastive_choice", data), path),
    "ctc_path": lambda path, data: ctc_picture.draw(read("ctc_path", data), path),
    "pretraining_curves": lambda path, data: learning_curves.draw_pretraining(read("pretraining_curves", data), path),
    "collapse_curves": lambda path, data: learning_curves.draw_collapse(read("pretraining_curves", data), path),
    "finetuning_curves": lambda path, data: learning_curves.draw_finetuning(read("finetuning_curves", data), path),
}


def draw_all(folder: Path, data: Path = HERE / "data") -> list[Path]:
    """Every picture, as PNG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return [draw(folder / f"{name}.png", data) for name, draw in PICTURES.items()]


def main() -> None:
    """Read the command line, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the pictures")
    draw_all(parser.parse_args().output)


if __name__ == "__main__":
    main()
