"""One run at a time in an output folder: two would write each other's log and checkpoints."""

from pathlib import Path
from typing import IO

LOCK_FILE = ".running"


class OutputInUseError(ValueError):
    """Another run is at work in the folder."""


def take_output(folder: Path) -> IO[bytes] | None:
    """Hold the folder until the returned file is closed, or the process ends in whatever way.

    None where the system or the disk knows no locks (Windows, some network shares): there, care is the user's.
    """
    try:
        import fcntl
    except ImportError:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK_FILE).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise OutputInUseError(
            f"{folder}: another run is at work in it; wait for it, or choose another output"
        ) from None
    except OSError:
        file.close()
        return None
    return file
