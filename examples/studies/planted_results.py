"""stub"""

from pathlib import Path


def write_results(work: Path, found: dict[str, Path]) -> None:
    """stub"""
