"""What an export is refused with, and runtimes that are asked for when they are needed and not before."""

import importlib
from typing import Any


class ExportError(ValueError):
    """A model that a runtime cannot hold, or an export that does not give what the model gives: what, and why."""


class DisagreementError(ExportError):
    """A folder that does not give what the model gives: how it differs."""


def in_a_line(text: str, most: int) -> str:
    """What a runtime says, which may be written over several lines and quote a file that is no text."""
    words = " ".join(text.split())
    return "".join(one if one.isprintable() else "?" for one in words[:most])


def library(module: str, extra: str) -> Any:
    """A module that comes with an extra of this package; an ImportError that names the extra where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        needed = f"{module} is needed: pip install 'wav2vec2[{extra}]' ({error})"
        raise ImportError(needed, name=module) from error
