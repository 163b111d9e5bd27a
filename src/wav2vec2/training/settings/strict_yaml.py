"""YAML without its surprises: `1e-3` is a number, `yes` and `1:30` are texts, a key that stands twice is an error.

PyYAML follows YAML 1.1, in which `learning_rate: 1e-3` is a text and `no` is false. Here plain values mean what they
mean in JSON (the core schema of YAML 1.2), and what a file says is only data: no tags of Python, no aliases.
"""

import re
from pathlib import Path
from typing import Any

import yaml

Tree = dict[str, Any]


class RecipeSyntaxError(ValueError):
    """A text that is not YAML as we read it; the message says why."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the plain values of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> Any:
        """Refuse aliases: a recipe says `extends` instead, and a value cannot hold itself."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "an alias (*) is not read here", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, in which no key may stand twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    """A text, in which two halves of a character beyond U+FFFF, as JSON writes it, are one character; PyYAML leaves
    them apart. One half alone is an error."""
    return loader.construct_scalar(node).encode("utf-16", "surrogatepass").decode("utf-16")


_INT = r"[-+]?[0-9]+"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for _kind, _pattern in (
    ("null", r"~|null|Null|NULL|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", _INT),
    ("float", _FLOAT),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), None)
_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def parse(text: str) -> tuple[Any, dict[str, int]]:
    """The value of a YAML text, and the line of every dotted key in it.

    >>> parse("a: {b: 1e-3}")
    ({'a': {'b': 0.001}}, {'a': 1, 'a.b': 1})
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines: dict[str, int] = {}
        _note_lines(node, "", lines)
        return loader.construct_document(node), lines
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeSyntaxError(_told(error)) from error
    except RecursionError as error:
        raise RecipeSyntaxError("nested too deeply") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_file(path: Path) -> tuple[Tree, dict[str, int]]:
    """A YAML file that holds a mapping (an empty file holds none of its keys), and the line of every dotted key."""
    try:
        value, lines = parse(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RecipeSyntaxError(f"not UTF-8 text ({error})") from error
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise RecipeSyntaxError(f"holds {type(value).__name__} {value!r:.60}, but must hold sections such as `model:`")
    return value, lines


def _note_lines(node: yaml.Node, prefix: str, lines: dict[str, int]) -> None:
    """Add the line of every dotted key below a node to `lines`."""
    entries: list[tuple[str, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        entries = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        entries = [(str(index), value, value) for index, value in enumerate(node.value)]
    for name, key, value in entries:
        dotted = f"{prefix}.{name}" if prefix else name
        lines[dotted] = key.start_mark.line + 1
        _note_lines(value, dotted, lines)


def _told(error: Exception) -> str:
    """One line about what is wrong and where."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        problem = " ".join(str(part) for part in (error.context, error.problem) if part)
        return f"line {error.problem_mark.line + 1}: {problem}"
    return " ".join(str(error).split())
