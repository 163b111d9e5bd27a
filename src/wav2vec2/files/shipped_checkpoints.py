"""The models that come with the package, each under a short name, and what a short name stands for.

Wherever this package takes a folder or a name on the Hub it takes a short name as well. A model of one's own goes
first: a folder of that name in the current directory is what it always was.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

logger = logging.getLogger("wav2vec2")

Source = TypeVar("Source", str, os.PathLike[str], str | os.PathLike[str], str | os.PathLike[str] | None)

_FOLDER = Path(__file__).parents[1] / "checkpoints"

#: Any of these makes a folder one that `from_pretrained` can have meant.
_OF_A_MODEL = ("config.json", "preprocessor_config.json", "processor_config.json", "vocab.json")

#: Names of which this process has said that a folder goes before the model that comes with the package.
_SAID: set[str] = set()


def checkpoint(name: str) -> Path:
    """The folder of a model that comes with the package, for whatever takes a path: stock Transformers,
    `shutil.copytree`.

    >>> checkpoint("small").name
    'small'
    """
    if name not in shipped_checkpoints():
        raise ValueError(f"{name!r} is no model that comes with wav2vec2; {_there_are()}")
    return _FOLDER / name


def shipped_checkpoints() -> list[str]:
    """The short names."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def located(source: Source) -> Source:
    """What `from_pretrained` was given, with the folder in the place of a short name.

    A folder here that holds a model or a part of one goes first, and that is said once. Paths that are no text, such as
    `Path("small")`, are meant as paths.
    """
    if not isinstance(source, str) or source not in shipped_checkpoints():
        return source
    if not any((Path(source) / name).is_file() for name in _OF_A_MODEL):
        return str(checkpoint(source))  # type: ignore[return-value]
    if source not in _SAID:
        _SAID.add(source)
        logger.warning(
            "%s: the folder %s is taken, not the model of that name that comes with wav2vec2, which lies in %s",
            source,
            Path(source).resolve(),
            checkpoint(source),
        )
    return source


def comes_with_the_package(source: object) -> bool:
    """Whether `located` gives a folder of the package for it."""
    return isinstance(source, str) and located(source) != source


def known_names(source: object) -> str:
    """The end of a message that says there is no such model: for what may be a misspelled short name, which there are.

    >>> known_names("smal"), known_names("facebook/wav2vec2-base")
    ('; models that come with wav2vec2: small', '')
    """
    bare = isinstance(source, str) and Path(source).name == source
    return f"; {_there_are()}" if bare else ""


@contextmanager
def known_names_told(source: object) -> Iterator[None]:
    """Add them to an error that says a model is not there, as a note below its message."""
    try:
        yield
    except OSError as error:
        if told := known_names(source):
            error.add_note(told.removeprefix("; "))
        raise


def _there_are() -> str:
    return f"models that come with wav2vec2: {', '.join(shipped_checkpoints()) or 'none (install it again)'}"
