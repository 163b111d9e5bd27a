"""Recipes as files: where the shipped ones are, what one `extends`, and the overrides on top, as one tree of values.

A later layer wins: the recipe over the one it extends, overrides over both, from left to right. Sections are merged
key by key; anything else, lists included, is replaced. `listing` is the way back: a run as a recipe, each value with
the place that it comes from, as `--dry-run` shows it.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wav2vec2.training.settings.run_config import Run, to_dict
from wav2vec2.training.settings.strict_yaml import RecipeSyntaxError, Tree, parse, read_file
from wav2vec2.training.settings.typed_values import dotted, suggestion

_PACKAGE = Path(__file__).parents[2]
#: Where the shipped recipes are in a checkout of the repository, and in an installed package.
_SHIPPED = (_PACKAGE.parents[1] / "examples" / "recipes", _PACKAGE / "recipes")

#: Texts that need no quotes in YAML, unless they read as something else.
_PLAIN = re.compile(r"[A-Za-z0-9_./~+-][A-Za-z0-9_./~+-]*")


@dataclass
class Layers:
    """The `values` of a run; in `sources` for the dotted key of each the file and line, or the override, that it comes
    from; and `problems`, what could not be read."""

    values: Tree = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, values: Tree, sources: dict[str, str]) -> None:
        """Put a layer on top. What it replaces is forgotten, and so is where that came from."""
        replaced = tuple(f"{key}." for key in _replacing(values, ""))
        self.sources = {key: source for key, source in self.sources.items() if not key.startswith(replaced)} | sources
        self.values = merged(self.values, values)

    def source_of(self, key: str) -> str | None:
        """Where the value of a key, or something inside it, comes from; None for a default."""
        inside = (source for name, source in self.sources.items() if name.startswith(f"{key}."))
        return self.sources[key] if key in self.sources else next(inside, None)

    def source_around(self, key: str) -> str | None:
        """Where the section that holds a key comes from, or the nearest one around it, for a key that is missing."""
        while key and self.source_of(key) is None:
            key = key.rpartition(".")[0]
        return self.source_of(key) if key else None


def _said(value: object, key: str) -> Iterator[str]:
    """The keys that a layer gives a value to: all but the sections, which only hold them."""
    if not isinstance(value, dict):
        yield key
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _said(item, dotted(key, name))


def _replacing(values: Tree, prefix: str) -> list[str]:
    """The keys whose values take the place of whatever was there, rather than being merged into it."""
    keys: list[str] = []
    for name, value in values.items():
        key = dotted(prefix, name)
        keys += _replacing(value, key) if isinstance(value, dict) else [key]
    return keys


def merged(below: Tree, above: Tree) -> Tree:
    """Sections key by key, anything else replaced. Neither argument is changed.

    >>> merged({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}})
    {'a': {'b': 1, 'c': [3]}}
    """
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for folder in _SHIPPED for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: a path, or the bare name of a shipped one such as `base_960h`."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if str(name) in shipped:
        return shipped[str(name)]
    raise FileNotFoundError(f"{name}: neither a file nor the name of a shipped recipe{suggestion(name, shipped)}")


def read_layers(recipe: str | Path | None) -> Layers:
    """A recipe on top of what it extends. What cannot be read is told in `problems`."""
    layers = Layers()
    if recipe is not None:
        try:
            _read_onto(layers, find_recipe(recipe), ())
        except OSError as error:
            layers.problems.append(str(error))
    return layers


def _read_onto(layers: Layers, path: Path, extended_by: tuple[Path, ...]) -> None:
    """Put a recipe on top of the layers, but first the one that it extends. `extended_by` are the recipes that lead to
    this one, of which it must be none."""
    if path.resolve() in extended_by:
        layers.problems.append(f"{path}: extends itself, through {' and '.join(str(p) for p in extended_by)}")
        return
    try:
        values, lines = read_file(path)
    except RecipeSyntaxError as error:
        layers.problems.append(f"{path}: {error}")
        return
    parent = values.pop("extends", None)
    line = lines.pop("extends", None)
    if parent is not None:
        found = None
        if isinstance(parent, str):
            beside = path.parent / parent
            found = beside if beside.is_file() else shipped_recipes().get(parent)
        if found is None:
            layers.problems.append(
                f"{path}, line {line}: extends={parent!r}: must be a recipe beside this one, or a shipped recipe's name"
            )
        else:
            _read_onto(layers, found, (*extended_by, path.resolve()))
    layers.add(values, {key: f"{path.name}, line {lines[key]}" for key in _said(values, "") if key in lines})


def add_overrides(layers: Layers, overrides: Sequence[str]) -> None:
    """Dotted overrides on top: `optimizer.learning_rate=3e-4`, `data.train.0.path=audio`, `data.valid=[]`."""
    for override in overrides:
        key, equals, text = override.partition("=")
        names = key.split(".")
        try:
            if not equals or not all(names):
                raise RecipeSyntaxError("must be KEY=VALUE with a dotted key, such as optimizer.learning_rate=3e-4")
            value, _ = parse(text)
            root = copy.deepcopy(layers.values)
            _place(root, names, value)
        except RecipeSyntaxError as problem:
            layers.problems.append(f"override {override!r}: {problem}")
        else:
            if not isinstance(value, dict):  # it takes the place of whatever was inside of the key
                layers.sources = {k: v for k, v in layers.sources.items() if not k.startswith(f"{key}.")}
            layers.sources |= dict.fromkeys(_said(value, key), f"override {override}")
            layers.values = root


def _place(root: Tree, names: list[str], value: object) -> None:
    """Put the value where the names lead, making sections and lists on the way. A number is a place in a list."""
    here: Any = root
    for depth, name in enumerate(names[:-1], start=1):
        place = _room(here, name, names[: depth - 1])
        if here[place] is None:
            here[place] = [] if names[depth].isdecimal() else {}
        here = here[place]
    place = _room(here, names[-1], names[:-1])
    old = here[place]
    here[place] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value


def _room(here: Any, name: str, before: list[str]) -> Any:
    """The key or index of a name in a section or list, made if it is new; a list may grow by one entry."""
    if isinstance(here, dict):
        here.setdefault(name, None)
        return name
    where = ".".join(before)
    if not isinstance(here, list):
        raise RecipeSyntaxError(f"{where}={here!r} has nothing inside")
    if not name.isdecimal() or int(name) > len(here):
        raise RecipeSyntaxError(f"{where} is a list with {len(here)} entries, in which {name!r} has no place")
    if int(name) == len(here):
        here.append(None)
    return int(name)


def listing(run: Run, layers: Layers) -> str:
    """A run as YAML that can be used as a recipe, one line per value:
    `  learning_rate: 0.0003  # large_960h.yaml, line 12`."""
    return "\n".join(_lines(to_dict(run), "", "", layers)) + "\n"


def _lines(tree: Tree, indent: str, prefix: str, layers: Layers) -> Iterator[str]:
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


def scalar(value: object) -> str:
    """A value on one line that our reader, and readers of YAML 1.1, read as it is."""
    if isinstance(value, list):
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and parse(value)[0] == value == yaml.safe_load(value)
        return value if plain else _dumped(value, '"')
    return _dumped(value, None)


def _dumped(value: object, style: str | None) -> str:
    text = yaml.safe_dump(value, default_style=style, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
