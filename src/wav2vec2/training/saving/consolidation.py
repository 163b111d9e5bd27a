"""A model folder for `from_pretrained` out of a checkpoint that lies in parts: what `wav2vec2 consolidate` makes.

Tensor by tensor: no more of the model is held at once than goes into one file, whatever its size, and no process group
and no accelerator is needed.
"""

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from wav2vec2.training.saving import checkpoint_folders as folders
from wav2vec2.training.saving import parts
from wav2vec2.training.saving.checkpoints import Checkpoints

#: Bytes of a file of weights. Transformers' own files are larger; here it is what is held in memory.
MOST = 1_000_000_000

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"


class ConsolidationError(ValueError):
    """What is no checkpoint of a run, or is damaged, and what would be right."""


def in_parts(checkpoint: Path) -> bool:
    """Whether the weights of a checkpoint lie in parts, so that `from_pretrained` cannot read them."""
    return (checkpoint / parts.WEIGHTS).is_dir()


def consolidate(source: Path | str, target: Path | str) -> Path:
    """Write the model of a checkpoint, or of the best (without evaluations the newest) checkpoint of a run, into a new
    folder; the checkpoint it was. Where the run keeps an average of its weights, it is that."""
    source, target = Path(source), Path(target)
    if target.exists():
        raise ConsolidationError(f"{target}: is there already; delete it, or choose another output")
    checkpoint = _checkpoint_of(source)
    problem = folders.problem_with(checkpoint)
    if problem is not None:
        raise ConsolidationError(f"{checkpoint}: is damaged: {problem}")
    with folders.written_aside(target) as fresh:
        write_model(checkpoint, fresh)
    return checkpoint


def write_model(checkpoint: Path, folder: Path) -> None:
    """The folder of a checkpoint without the state of training, and its weights whole."""
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(folders.STATE_FOLDER))
    if in_parts(checkpoint):
        _write_weights(checkpoint, folder)


def _write_weights(checkpoint: Path, folder: Path) -> None:
    """One file, or several of at most `MOST` bytes and their index, as Transformers has it."""
    weights, average = parts.Pieces(checkpoint / parts.WEIGHTS), parts.Pieces(checkpoint / parts.AVERAGE)
    files: list[list[str]] = [[]]
    filled = 0
    for name in weights.shapes:
        size = weights.bytes_of(name)
        if filled and filled + size > MOST:
            files.append([])
            filled = 0
        files[-1].append(name)
        filled += size
    places: dict[str, str] = {}
    for number, names in enumerate(files, start=1):
        file = _WEIGHTS if len(files) == 1 else f"model-{number:05d}-of-{len(files):05d}.safetensors"
        whole = {name: (average if name in average.shapes else weights).whole(name) for name in names}
        save_file(whole, folder / file, {"format": "pt"})
        places |= dict.fromkeys(names, file)
    if len(files) > 1:
        total = sum(map(weights.bytes_of, weights.shapes))
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _checkpoint_of(source: Path) -> Path:
    """The folder itself if it is a checkpoint, or one of the checkpoints of the run that it belongs to."""
    if folders.update_of(source.absolute()) is not None and source.is_dir():
        return source
    checkpoints = Checkpoints(source / "checkpoints")
    found = checkpoints.best() or checkpoints.newest()
    if found is None:
        why = "no such folder" if not source.is_dir() else "neither a checkpoint nor a run with a whole checkpoint"
        raise ConsolidationError(
            f"{source}: {why}; give the output folder of a run, or one of its checkpoints/update-*"
        )
    return found
