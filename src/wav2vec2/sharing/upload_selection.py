"""Which files of a model folder are published, and why the others are not."""

import os
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

#: Folders and files that belong to a training run and its machine. Each pattern has its reason.
_LEFT_OUT = {
    "training_state*": "the state of a training run",
    "checkpoint*": "the state of a training run",
    "runs": "a tracker's files",
    "wandb": "a tracker's files",
    "trackio": "a tracker's files",
    "events.out.tfevents*": "a tracker's files",
    "__pycache__": "compiled code",
    "*.pyc": "compiled code",
    "optimizer*": "the optimizer's state",
    "scheduler*": "the optimizer's state",
    "scaler*": "the optimizer's state",
    "rng_state*": "the state of a training run",
    "random_states*": "the state of a training run",
    "trainer_state.json": "the state of a training run",
    "training_args.bin": "a pickle with settings of the machine",
    "*.pkl": "a pickle can run code where it is loaded",
    "*.pickle": "a pickle can run code where it is loaded",
    "*.part": "an unfinished file",
    "*.partial": "an unfinished file",
    "*.tmp": "an unfinished file",
    "*.incomplete": "an unfinished file",
    "*.lock": "a lock",
}
#: What a run tells of itself is published where nothing private is in it, and else stays.
RECORDS = ("*.log", "*.jsonl", "*.out", "*.err", "run.json", "run.yaml")
#: Hidden files that a repository of the Hub may hold.
_KNOWN_HIDDEN = {".gitattributes"}

#: What loading looks for. A repository that is updated must not keep an older one beside the new: stock Transformers
#: would take `model.safetensors` of the last push before the pieces of this one.
REPLACED = (
    "model*.safetensors",
    "model*.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model*.bin.index.json",
    "adapter.*.safetensors",
    "adapter.*.bin",
    "decoder.json",
    "language_model.ngrams",
    "alphabet.json",
    "language_model/*",
)


@dataclass
class Selection:
    """The names of files below `folder`, with slashes: what goes, and why the rest stays."""

    folder: Path
    files: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def select_files(folder: Path) -> Selection:
    """Go through the folder. A link to nowhere is a ValueError; folders that are links are not entered."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    selection = Selection(folder)
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for name in sorted(folders):
            reason = "a link to a folder" if (Path(place) / name).is_symlink() else _reason(name)
            if reason:
                folders.remove(name)
                selection.left_out[(inside / name).as_posix() + "/"] = reason
        folders.sort()
        for name in sorted(files):
            path = (inside / name).as_posix()
            if reason := _reason(name):
                selection.left_out[path] = reason
            elif not (folder / path).is_file():
                raise ValueError(f"{folder / path}: not a file, or a link to nowhere; remove it")
            else:
                selection.files.append(path)
    return selection


def is_record(path: str) -> bool:
    """Whether a file tells of the run alone, so that the model is whole without it."""
    return any(fnmatch(Path(path).name, pattern) for pattern in RECORDS)


def is_replaced(path: str) -> bool:
    """Whether a file of an older push would be loaded beside, or instead of, what this push brings."""
    return any(fnmatch(path, pattern) for pattern in REPLACED)


def _reason(name: str) -> str | None:
    if name.startswith(".") and name not in _KNOWN_HIDDEN:
        return "hidden"
    return next((reason for pattern, reason in _LEFT_OUT.items() if fnmatch(name, pattern)), None)
