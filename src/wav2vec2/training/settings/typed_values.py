"""Plain values into dataclasses, strictly: nothing unknown, nothing missing, nothing of another type, all told at once.

A whole number is accepted where a number is wanted, and nothing else is converted: "true" in quotes is a text, 3.0 is
no count, null stands only where a field may be None. Which values a field may have is said in its type, as
`Annotated[float, Between(0, 1)]`.
"""

import difflib
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

#: Stand for a value that could not be made, and for one that was not given.
INVALID: Any = object()
ABSENT: Any = object()


#: What a section says of itself: the field, dotted where the field is a dictionary, and what is wrong with it.
Problem = tuple[str, str]


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, both included; `above=True` leaves `low` itself out."""

    low: float
    high: float = math.inf
    above: bool = False

    def allows(self, value: float) -> bool:
        """Is the number inside?"""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        least = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        return least if self.high == math.inf else f"{least} and at most {self.high:g}"


class OneOf:
    """One of these names."""

    def __init__(self, *names: str) -> None:
        self.names: tuple[str, ...] = names

    def allows(self, value: object) -> bool:
        """Is it one of them?"""
        return value in self.names

    def __str__(self) -> str:
        return "one of " + ", ".join(self.names)


Limit = Between | OneOf


def limits_in(metadata: Iterable[object]) -> list[Limit]:
    """The limits among the annotations of a type."""
    return [item for item in metadata if isinstance(item, Between | OneOf)]


@dataclass(frozen=True)
class Complaint:
    """Something that is wrong: a dotted `key`, the `value` that stands there, and a `text` on what would be right."""

    key: str
    value: object
    text: str


def construct(kind: Any, value: object, key: str, complaints: list[Complaint]) -> Any:
    """The value as `kind` (a type as fields have it), or `INVALID` when something was added to `complaints`."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _limited(kind, value, key, complaints)
    if origin in (Union, types.UnionType):
        (inner,) = (part for part in get_args(kind) if part is not types.NoneType)
        return None if value is None else construct(inner, value, key, complaints)
    if is_dataclass(kind):
        return _section(kind, value, key, complaints)
    if origin is not None:
        return _COLLECTIONS[origin](kind, value, key, complaints)
    return _plain(kind, value, key, complaints)


def _refuse(key: str, value: object, text: str, complaints: list[Complaint]) -> Any:
    complaints.append(Complaint(key, value, text))
    return INVALID


def _limited(kind: Any, value: object, key: str, complaints: list[Complaint]) -> Any:
    inner, *metadata = get_args(kind)
    made = construct(inner, value, key, complaints)
    if made is INVALID:
        return INVALID
    for limit in limits_in(metadata):
        if not limit.allows(made):
            return _refuse(key, value, f"must be {limit}", complaints)
    return made


def _plain(kind: type, value: Any, key: str, complaints: list[Complaint]) -> Any:
    if kind is float and type(value) in (int, float):
        if not _is_finite(value):
            return _refuse(key, value, "must be a finite number", complaints)
        return float(value)
    if type(value) is kind:
        return value
    return _refuse(key, value, f"must be {_WANTED[kind]}{_hint(kind, value)}", complaints)


_WANTED: dict[type, str] = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}


def _hint(kind: type, value: object) -> str:
    if isinstance(value, str) and kind is not str:
        return ", without quotes" if value.lower() in ("true", "false") or value.isdecimal() else ""
    if kind is int and isinstance(value, float) and value.is_integer():
        return f", as {int(value)}"
    if kind is str and isinstance(value, bool | int | float):
        return f', as "{value}" in quotes'
    return ""


def _section(kind: Any, value: object, key: str, complaints: list[Complaint]) -> Any:
    known = {field.name: field for field in fields(kind) if field.init}
    if not isinstance(value, Mapping):
        empty = " (it is empty: leave it out)" if value is None else ""
        return _refuse(key, value, f"must be a section with keys of {', '.join(known)}{empty}", complaints)
    before = len(complaints)
    for name in value:
        if name not in known:
            _refuse(dotted(key, name), value[name], f"is not known{suggestion(name, known)}", complaints)
    hints = get_type_hints(kind, include_extras=True)
    made: dict[str, Any] = {}
    for name, field in known.items():
        item = _field_value(hints[name], field, value.get(name, ABSENT), dotted(key, name), complaints)
        if item is not ABSENT:
            made[name] = item
    if any(item is INVALID for item in made.values()):
        return INVALID  # relations between fields need all of them
    section = kind(**made)
    for name, text in section.problems() if hasattr(section, "problems") else ():
        _refuse(dotted(key, name), _value_at(section, name), text, complaints)
    return section if len(complaints) == before else INVALID


def _value_at(section: object, name: str) -> object:
    """A field of a section, or what a field that is a section or a dictionary holds under a dotted name."""
    field, *keys = name.split(".")
    value = getattr(section, field)
    for key in keys:
        value = value.get(key, ABSENT) if isinstance(value, dict) else getattr(value, key, ABSENT)
    return value


def _field_value(kind: Any, field: Field[Any], value: object, key: str, complaints: list[Complaint]) -> Any:
    """What the field gets; `ABSENT` leaves it to its default."""
    if value is ABSENT:
        if field.default is not MISSING or field.default_factory is not MISSING:
            return ABSENT
        if not is_dataclass(kind):
            return _refuse(key, ABSENT, f"is missing: {_required(kind)}", complaints)
        value = {}  # a section that is left out complains about each field it needs
    if get_origin(kind) is dict and isinstance(value, Mapping) and field.default_factory is not MISSING:
        value = {**field.default_factory(), **value}  # a recipe changes single entries
    return construct(kind, value, key, complaints)


def _required(kind: Any) -> str:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return f"give {_WANTED[kind]}" if kind in _WANTED else "it has no default"


def _list(kind: Any, value: object, key: str, complaints: list[Complaint]) -> Any:
    if not isinstance(value, list):
        return _refuse(key, value, "must be a list, in square brackets", complaints)
    (inner,) = get_args(kind)
    items = [construct(inner, item, dotted(key, index), complaints) for index, item in enumerate(value)]
    return INVALID if any(item is INVALID for item in items) else items


def _tuple(kind: Any, value: object, key: str, complaints: list[Complaint]) -> Any:
    kinds = get_args(kind)
    if not isinstance(value, list) or len(value) != len(kinds):
        return _refuse(key, value, f"must be a list of {len(kinds)} values, in square brackets", complaints)
    pairs = enumerate(zip(kinds, value, strict=True))
    items = tuple(construct(inner, item, dotted(key, index), complaints) for index, (inner, item) in pairs)
    return INVALID if any(item is INVALID for item in items) else items


def _dict(kind: Any, value: object, key: str, complaints: list[Complaint]) -> Any:
    if not isinstance(value, Mapping):
        return _refuse(key, value, "must be a section of names and values", complaints)
    before = len(complaints)
    for name, item in value.items():
        if not isinstance(name, str):
            _refuse(dotted(key, name), item, "its name must be a text", complaints)
        elif not _is_plain(item):
            _refuse(dotted(key, name), item, "must be a finite number, text, true, false, null or a list", complaints)
    return dict(value) if len(complaints) == before else INVALID


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and _is_finite(value))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


_COLLECTIONS: dict[Any, Callable[[Any, Any, str, list[Complaint]], Any]] = {list: _list, tuple: _tuple, dict: _dict}


def dotted(prefix: str, name: object) -> str:
    """The key of an entry in a section."""
    return f"{prefix}.{name}" if prefix else str(name)


def suggestion(name: object, known: Iterable[str]) -> str:
    """What may have been meant, or what there is."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    return f": did you mean {close[0]}?" if close else f"; known: {', '.join(names)}"
