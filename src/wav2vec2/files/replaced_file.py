"""Writing a file so that a stopped program leaves the old one, or none, but never half of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replaced_file(path: Path | str) -> Iterator[BinaryIO]:
    """A new file, readable and writable, that takes the name `path` only when all has been written."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w+b") as stream:
            yield stream
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
