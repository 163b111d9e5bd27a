"""Real speech and texts, beside the repository or where `WAV2VEC2_SHARED_DATA` says; without them, tests skip."""

import csv
import os
from pathlib import Path

import pytest

SHARED_DATA = Path(os.environ.get("WAV2VEC2_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")).resolve()


def needs_shared_data(*folders: str) -> pytest.MarkDecorator:
    """A mark for tests that read these folders of the shared data."""
    missing = [folder for folder in folders if not (SHARED_DATA / folder).is_dir()]
    return pytest.mark.skipif(bool(missing), reason=f"no {' and no '.join(missing)} in {SHARED_DATA}")


def shared_table(name: str) -> list[dict[str, str]]:
    """The rows of a tab-separated file of the shared data, by column."""
    with (SHARED_DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
