"""Are the files beside the weights of a folder those that the model would be exported with now?

They are written again elsewhere, and compared: a token more or less, or samples that are normalised where the model was
trained on others, give wrong texts without an error.
"""

import json
import reprlib
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from wav2vec2.export.checkpoint import Checkpoint
from wav2vec2.export.targets import Target
from wav2vec2.processing.tokenizer_files import TokenizerFileError, read_json

#: A file is not even read where it is larger than the right one by as much.
_TOO_MUCH = 1_000_000

#: What no runtime asks for, and what changes where nothing else does.
_NO_MATTER = "transformers_version"

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 60


def wrong_settings(target: Target, checkpoint: Checkpoint, folder: Path) -> list[str]:
    """One line for each file that is missing, cannot be read or says something else."""
    with TemporaryDirectory() as place:
        target.write_settings(checkpoint, Path(place))
        rights = sorted(path for path in Path(place).rglob("*") if path.is_file())
        faults = [(right.name, _fault(folder / right.relative_to(place), right)) for right in rights]
    return [f"{name}: {fault}" for name, fault in faults if fault is not None]


def _fault(path: Path, right: Path) -> str | None:
    """What is wrong with a file."""
    if not path.is_file():
        return "is missing; export the model again"
    size, usual = path.stat().st_size, right.stat().st_size
    if size > usual + _TOO_MUCH:
        return f"has {size:,} bytes, and the model's {usual:,}; export the model again"
    if right.suffix != ".json":
        return _other_line(path.read_bytes(), right.read_bytes())
    try:
        content = read_json(path)
    except TokenizerFileError as error:
        return f"is no JSON ({error.__cause__}); export the model again"
    return _difference("", content, json.loads(right.read_bytes()))


def _other_line(found: bytes, right: bytes) -> str | None:
    """The first line that is another."""
    lines = (content.decode("utf-8", "replace").splitlines() for content in (found, right))
    for number, (line, wanted) in enumerate(zip_longest(*lines, fillvalue="nothing"), 1):
        if line != wanted:
            return f"line {number} is {_shown.repr(line)}, the model's is {_shown.repr(wanted)}"
    return None if found == right else "has other ends of lines than the model's"


def _difference(where: str, found: Any, right: Any) -> str | None:
    """The first place in which two contents of JSON differ; 1 is neither 1.0 nor true."""
    if not (isinstance(found, dict) and isinstance(right, dict)):
        if json.dumps(found, sort_keys=True) == json.dumps(right, sort_keys=True):
            return None
        return f"{where or 'it'} is {_shown.repr(found)}, the model's is {_shown.repr(right)}"
    for key in [*right, *(key for key in found if key not in right)]:
        name = f"{where}.{key}".lstrip(".")
        if key == _NO_MATTER:
            continue
        if key not in found:
            return f"has no {_shown.repr(name)}, which is {_shown.repr(right[key])} in the model's"
        if key not in right:
            return f"has {_shown.repr(name)}, which the model's has not"
        inner = _difference(name, found[key], right[key])
        if inner is not None:
            return inner
    return None
