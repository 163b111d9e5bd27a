"""A run as YAML, each value with the place that it comes from: what `--dry-run` shows. It can be used as a recipe."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from wav2vec2.training.settings.recipe_files import Layers
from wav2vec2.training.settings.run_config import Run, to_dict
from wav2vec2.training.settings.strict_yaml import parse
from wav2vec2.training.settings.typed_values import dotted

#: Texts that need no quotes, unless they read as something else.
_PLAIN = re.compile(r"[A-Za-z0-9_./~+-][A-Za-z0-9_./~+-]*")


def listing(run: Run, layers: Layers) -> str:
    """One line per value: `  learning_rate: 0.0003  # large_960h.yaml, line 12`."""
    return "\n".join(_lines(to_dict(run), "", "", layers)) + "\n"


def _lines(tree: dict[str, Any], indent: str, prefix: str, layers: Layers) -> Iterator[str]:
    for name, value in tree.items():
        key, head = dotted(prefix, name), f"{indent}{scalar(name)}:"
        if isinstance(value, dict) and value:
            yield head
            yield from _lines(value, f"{indent}  ", key, layers)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield head
            for index, item in enumerate(value):
                first, *others = _lines(item, f"{indent}    ", dotted(key, index), layers)
                yield f"{indent}  - {first.lstrip()}"
                yield from others
        else:
            yield f"{head} {scalar(value)}  # {layers.source_of(key) or 'default'}"


def scalar(value: Any) -> str:
    """A value on one line that our reader, and readers of YAML 1.1, read as it is."""
    if isinstance(value, list):
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and parse(value)[0] == value == yaml.safe_load(value)
        return value if plain else _dumped(value, '"')
    return _dumped(value, None)


def _dumped(value: Any, style: str | None) -> str:
    text = yaml.safe_dump(value, default_style=style, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
