"""What a run was asked to be, kept beside its results, and compared when it is resumed."""

import json
import os
import re
from pathlib import Path
from typing import Any

from wav2vec2.training.settings.run_config import to_dict

RUN_FILE = "run.json"

#: What may change between two starts without a word: how often is looked, how much is kept, how fast it goes.
_FREE = (
    *("run.output", "run.log_every", "run.keep", "run.trackers", "run.report", "run.save"),
    *("data.workers", "data.cache", "origin."),
)

#: Of a source that came or went, its path says enough.
_DETAIL = re.compile(r"data\.(train|valid)\.\d+\.(?!path$).*")


def write_run(run: Any, output: Path) -> None:
    """The resolved run, whole or not at all, so that it can be repeated."""
    output.mkdir(parents=True, exist_ok=True)
    partial = output / f".{RUN_FILE}.partial"
    partial.write_text(json.dumps(to_dict(run), indent=2) + "\n", encoding="utf-8")
    os.replace(partial, output / RUN_FILE)


def changes(run: Any, output: Path) -> list[str]:
    """How a run that goes on differs from the one that began, a sentence each."""
    path = output / RUN_FILE
    if not path.is_file():
        return []
    before, now = _leaves(json.loads(path.read_text(encoding="utf-8"))), _leaves(to_dict(run))
    return [
        f"changed since the run began: {key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(_FREE) and not _is_told_elsewhere(key, before, now)
    ]


def _is_told_elsewhere(key: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """An empty list or section that is filled, or the details of what fills it: the new value's main key tells."""
    empty = {repr(before.get(key)), repr(now.get(key))} in ({"[]", "None"}, {"{}", "None"})
    return empty or ((key not in before or key not in now) and _DETAIL.fullmatch(key) is not None)


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values."""
    if isinstance(tree, dict) and tree:
        items = tree.items()
    elif isinstance(tree, list) and tree:
        items = {str(index): value for index, value in enumerate(tree)}.items()
    else:
        return {prefix: tree}
    return {
        key: value for name, child in items for key, value in _leaves(child, f"{prefix}.{name}".lstrip(".")).items()
    }
