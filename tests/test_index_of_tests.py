"""`tests/README.md` names every test file and every module of support, and nothing that is not there."""

import re
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS / "README.md").read_text("utf-8")


def test_every_test_file_has_one_line() -> None:
    listed = Counter(re.findall(r"^\| \S.* \| `(test_\w+\.py)` \|$", PAGE, re.MULTILINE))
    there = Counter(path.name for path in TESTS.glob("test_*.py"))
    assert len(there) > 100
    assert (sorted(there - listed), sorted(listed - there)) == ([], []), "not listed; gone or listed twice"


def test_every_file_that_is_mentioned_exists() -> None:
    mentioned = set(re.findall(r"\btest_\w+\.py|\bsupport/\w+\.py", PAGE))
    assert [name for name in sorted(mentioned) if not (TESTS / name).is_file()] == []


def test_every_module_of_support_is_named() -> None:
    rows = re.findall(r"^\|.*\|$", PAGE.partition("\n## `support/`\n")[2], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {path.stem for path in (TESTS / "support").glob("*.py")}
