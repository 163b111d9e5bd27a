"""The blocks of the README and the guides, and what may stand in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is written in, and what is in it."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All of a page, in order. A fence that is never closed is a ValueError."""
    text = page.read_text("utf-8")
    found = re.findall(r"^```(\w*)[ \t]*\n(.*?)^```[ \t]*$", text, re.M | re.S)
    if text.count("\n```") != 2 * len(found):
        raise ValueError(f"{page.name}: a block is not closed, or its language is not one word")
    return [Block(language, content) for language, content in found]


def lines(page: Path, language: str = "sh") -> Iterator[str]:
    """The lines of all blocks of a language, those that end in a backslash joined with the next."""
    for block in blocks(page):
        if block.language == language:
            yield from (line.strip() for line in re.sub(r"\\\n\s*", " ", block.text).splitlines() if line.strip())


def words(line: str) -> list[str]:
    """A line as a shell splits it, without its comment."""
    return shlex.split(line, comments=True)
