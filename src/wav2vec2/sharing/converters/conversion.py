"""From a checkpoint of any of the four frameworks to a folder of any other. None of them but Transformers is needed."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from wav2vec2.files.shipped_checkpoints import known_names, located
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.sharing.converters.ancestor_files import (
    AncestorModel,
    ancestor_in_file,
    ancestor_in_folder,
    is_ancestor,
    write_ancestor,
)
from wav2vec2.sharing.converters.fairseq import is_fairseq, read_fairseq, write_fairseq
from wav2vec2.sharing.converters.fairseq2 import is_fairseq2, read_fairseq2, write_fairseq2
from wav2vec2.sharing.converters.lazy_tensors import LazyTensor, StoredTensor
from wav2vec2.sharing.converters.portable_model import Given, PortableModel
from wav2vec2.sharing.converters.safetensors_files import read_safetensors
from wav2vec2.sharing.converters.torch_files import read_torch_file
from wav2vec2.sharing.converters.torchaudio import is_torchaudio, read_torchaudio, write_torchaudio
from wav2vec2.sharing.converters.transformers import CONFIG, read_transformers, write_transformers

WRITERS: dict[str, Callable[[PortableModel, Path], None]] = {
    "transformers": write_transformers,
    "fairseq": write_fairseq,
    "fairseq2": write_fairseq2,
    "torchaudio": write_torchaudio,
}


@dataclass(frozen=True)
class Converted:
    """A checkpoint that was converted."""

    #: Where it is now.
    folder: Path
    #: The framework that it came from.
    origin: str
    #: The class of Transformers that it is for.
    architecture: str
    #: How many parameters it has.
    parameters: int
    #: What was made, and what was left behind.
    notes: list[str]


def convert_checkpoint(
    source: Path | str,
    destination: Path | str,
    to: str = "transformers",
    *,
    dictionary: Path | str | None = None,
    config: Mapping[str, Any] | None = None,
    normalize: bool | None = None,
    language: str | None = None,
) -> Converted:
    """Write a checkpoint for another framework, into a new folder that is whole or not there.

    `source` is a file of fairseq, fairseq2 or torchaudio, or a folder of Transformers; what it is, its tensors say.
    `dictionary` holds the tokens of a CTC head that does not come with them; `config` has fields of the configuration
    that stand in no tensor, such as `num_attention_heads`, for sizes that are not published ones; `normalize` says
    whether waveforms are normalised, by default what the source says, or its kind of norm. Of a model with languages,
    `language` is put in place. Nothing of the source is run, and no more than one tensor is in memory. What cannot be
    converted is a `CheckpointError` that lists why.
    """
    if to not in WRITERS:
        raise ValueError(f"to={to!r}: must be one of {', '.join(WRITERS)}")
    path, folder = Path(located(source)) if isinstance(source, str) else Path(source), Path(destination)
    if folder.exists():
        raise ValueError(f"{folder}: is there already; delete it, or choose another destination")
    given = Given(None if dictionary is None else Path(dictionary), config or {}, normalize, language)
    file = None if (path / CONFIG).is_file() else _opened(path)
    origin: str
    model: PortableModel | AncestorModel
    if (ancestor := _ancestor(path, file)) is not None:
        _check_ancestor(source, to, given)
        origin, model, write = ancestor.origin, ancestor, partial(write_ancestor, ancestor, to)
    else:
        origin, portable = ("transformers", read_transformers(path, given)) if file is None else _read(file, given)
        model, write = portable, partial(WRITERS[to], portable)
    if origin == to:
        raise ValueError(f"{source}: is a checkpoint of {to} already")
    with _written_aside(folder) as fresh:
        write(fresh)
    return Converted(folder, origin, model.architecture, sum(map(_count, model.tensors.values())), model.notes)


def _count(tensor: LazyTensor) -> int:
    number = 1
    for length in tensor.shape:
        number *= length
    return number


class _Opened(NamedTuple):
    """A file of another framework: all its `content`, and of that the `tensors` of the model."""

    file: Path
    content: Mapping[str, Any]
    tensors: dict[str, LazyTensor]


def _opened(path: Path) -> _Opened:
    """A file, or the one in a folder."""
    file = _file_in(path)
    content: Any = read_safetensors(file) if file.suffix == ".safetensors" else read_torch_file(file).content
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file}: holds no tensors by name")
    return _Opened(file, content, _state_dict(file, content))


def _ancestor(path: Path, opened: _Opened | None) -> AncestorModel | None:
    """The model if it is a wav2vec (2019) or a vq-wav2vec: in a folder of Transformers, or in a file."""
    if opened is None:
        return ancestor_in_folder(path)
    return ancestor_in_file(*opened) if is_ancestor(opened.tensors) else None


def _check_ancestor(source: Path | str, to: str, given: Given) -> None:
    """Refuse what has no meaning for it."""
    if to not in ("transformers", "fairseq"):
        raise ValueError(f"{source}: wav2vec (2019) and vq-wav2vec are in transformers and fairseq alone, not in {to}")
    if given != Given(None, {}, None, None):
        raise ValueError(
            f"{source}: wav2vec (2019) and vq-wav2vec have no head, languages or normalisation, and their files say "
            "the rest: leave out dictionary, config, normalize and language"
        )


def _read(opened: _Opened, given: Given) -> tuple[str, PortableModel]:
    """The model in a file, and where it is from."""
    file, content, tensors = opened
    names = list(tensors)
    if is_fairseq2(names):
        return "fairseq2", read_fairseq2(file, tensors, given)
    if is_torchaudio(names):
        return "torchaudio", read_torchaudio(file, tensors, given)
    if is_fairseq(names):
        return "fairseq", read_fairseq(file, content, tensors, given)
    hint = "; it looks like weights of Transformers: give their folder" if _looks_like_ours(names) else ""
    raise CheckpointError(
        f"{file}: no checkpoint of fairseq, fairseq2 or torchaudio{hint}. Its tensors begin with {', '.join(names[:5])}"
    )


def _file_in(path: Path) -> Path:
    """The file itself, or the one file of weights in a folder."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such file or folder{known_names(str(path))}")
    found = sorted(one for pattern in ("*.pt", "*.pth", "*.bin") for one in path.glob(pattern))
    if len(found) != 1:
        listed = ", ".join(one.name for one in found) or "none"
        raise CheckpointError(f"{path}: has no {CONFIG}, and of weights {listed}; give the file itself")
    return found[0]


def _state_dict(file: Path, content: Mapping[Any, Any]) -> dict[str, LazyTensor]:
    """The tensors by name: of the model if the file has one, else of the file. What wraps a model for several
    processes puts a word in front of every name."""
    inner = content.get("model", content)
    tensors = inner if isinstance(inner, Mapping) else {}
    others = sorted(str(name) for name, value in tensors.items() if not isinstance(value, StoredTensor))
    if others or not tensors:
        raise CheckpointError(
            f"{file}: holds no tensors by name{'' if not others else ', but ' + ', '.join(others[:9])}"
        )
    wrapped = all(str(name).startswith("module.") for name in tensors)
    return {str(name).removeprefix("module.") if wrapped else str(name): one for name, one in tensors.items()}


def _looks_like_ours(names: list[str]) -> bool:
    return any(name.removeprefix("wav2vec2.").startswith("feature_projection.") for name in names)


@contextmanager
def _written_aside(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name when all is written and goes when something failed."""
    fresh = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
