"""Every Python block of the README and the guides runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_block_runs(block: str, tmp_path: Path) -> None:
    """It runs as it stands, in a folder and a process of its own: `register()` would reach other tests."""
    command = [sys.executable, "-W", "error", "-c", block]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=tmp_path)


def test_links_between_pages_lead_somewhere() -> None:
    """A path in backticks or a link that names a file of the repository names one that exists."""
    missing = []
    for page in PAGES:
        for name in re.findall(
            r"`((?:src|tests|docs|benchmarks)/[\w/.-]+\.\w+|test_\w+\.py)`", page.read_text("utf-8")
        ):
            place = ROOT / ("tests" if name.startswith("test_") else "") / name
            if not place.exists():
                missing.append(f"{page.name}: {name}")
    assert not missing
