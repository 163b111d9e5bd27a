"""Every `ffmpeg` program that this machine has: they differ in what they seek, count and say."""

import shutil
from pathlib import Path
from typing import Any

import pytest


def _found() -> dict[str, Path]:
    """That of the PATH and that of the package imageio-ffmpeg, each once."""
    programs: dict[str, Path] = {}
    if on_path := shutil.which("ffmpeg"):
        programs["PATH"] = Path(on_path).resolve()
    try:
        import imageio_ffmpeg

        packaged = Path(imageio_ffmpeg.get_ffmpeg_exe()).resolve()
    except (ImportError, RuntimeError):  # the second where the package has no program for this machine
        return programs
    if packaged not in programs.values():
        programs["imageio-ffmpeg"] = packaged
    return programs


_PROGRAMS = _found()
_MISSING = pytest.mark.skip(reason="neither ffmpeg on the PATH nor imageio-ffmpeg")

#: Parameters of a fixture: each real program; one that is skipped if there is none.
REAL_PROGRAMS: list[Any] = [pytest.param(path, id=name) for name, path in _PROGRAMS.items()] or [
    pytest.param(None, marks=_MISSING, id="none")
]

#: The same, and no program at all.
ANY_PROGRAM: list[Any] = [
    pytest.param(None, id="no ffmpeg"),
    *(pytest.param(path, id=name) for name, path in _PROGRAMS.items()),
]


def folder_of(program: Path | None, folder: Path) -> str:
    """A folder for the PATH in which that program alone is, or nothing."""
    folder.mkdir(exist_ok=True)
    if program is not None:
        (folder / "ffmpeg").symlink_to(program)
    return str(folder)
