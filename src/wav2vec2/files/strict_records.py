"""Dataclasses as JSON and back, without guessing: what was written is what is read, or an error names the place."""

import json
import math
import types
import typing
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class RecordError(ValueError):
    """JSON that is not the record it should be: where in it, and what would be right."""


def record_to_json(record: Any) -> str:
    """A dataclass of dataclasses, lists, dictionaries, numbers and texts as JSON; NaN and infinity are refused."""
    return json.dumps(asdict(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def record_from_json(kind: type[T], text: str) -> T:
    """The dataclass that was written: all keys, no others, values of exactly their types."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{kind.__name__}: is not JSON ({error})") from error
    record: T = _read(kind, content, kind.__name__)
    return record


def _read(kind: Any, value: Any, place: str) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_one_of(parts, value, place)
    if is_dataclass(kind):
        return _read_dataclass(kind, value, place)
    if origin is list:
        return [_read(parts[0], one, f"{place}[{number}]") for number, one in enumerate(_of_type(value, list, place))]
    if origin is dict:
        return {key: _read(parts[1], one, f"{place}.{key}") for key, one in _of_type(value, dict, place).items()}
    if kind is float and type(value) is int:
        return float(value)
    return _of_type(value, kind, place)


def _read_one_of(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """A union is either of something and None, or of plain values."""
    others = [kind for kind in kinds if kind is not type(None)]
    if value is not None and len(others) == 1:
        return _read(others[0], value, place)
    return _of_type(value, list(kinds), place)


def _read_dataclass(kind: Any, value: Any, place: str) -> Any:
    content = _of_type(value, dict, place)
    names = [field.name for field in fields(kind)]
    wrong = [f"{place}.{name} is missing" for name in names if name not in content]
    wrong += [f"{place}.{name} is unknown" for name in content if name not in names]
    if wrong:
        raise RecordError("; ".join(wrong))
    hints = typing.get_type_hints(kind)
    values = {name: _read(hints[name], content[name], f"{place}.{name}") for name in names}
    try:
        return kind(**values)
    except RecordError:
        raise
    except ValueError as error:
        raise RecordError(f"{place}: {error}") from error


def _of_type(value: Any, kind: Any, place: str) -> Any:
    """The value, if its type is exactly this one, or one of these: True is no 1 here."""
    kinds = kind if isinstance(kind, list) else [kind]
    if type(value) not in kinds:
        wanted = " or ".join(one.__name__ for one in kinds)
        raise RecordError(f"{place} is {type(value).__name__}: must be {wanted}")
    if type(value) is float and not math.isfinite(value):
        raise RecordError(f"{place} is {value}: must be a finite number")
    return value
