"""Writing a file so that a stopped program leaves the old one, or none, but never half of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def replaced_file(path: Path | str, *, shared: bool = False) -> Iterator[BinaryIO]:
    """A new file, readable and writable, that takes the name `path` only when all has been written.

    Until then it has another name. Where several processes may write the same file at once (`shared`), each has such a
    name of its own, and the last one that is ready wins.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial" if shared else f"{path.name}.partial")
    try:
        with partial.open("w+b") as stream:
            yield stream
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
