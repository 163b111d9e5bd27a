"""What a figure or a checkpoint came out of: Python and packages, with their versions."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Python's version and those of the packages that are installed; the others are left out.

    >>> sorted(versions_of(["torch", "no such package"]))
    ['python', 'torch']
    """
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # run from a source folder that was never installed
    return found
