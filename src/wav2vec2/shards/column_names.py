"""Names under which published data sets have what we need, in the order we look for them."""

from collections.abc import Iterable, Mapping
from typing import Any

ID_COLUMNS = ("id", "key", "__key__")
TEXT_COLUMNS = ("transcript", "text", "sentence", "transcription", "normalized_text", "raw_transcription")
LABEL_COLUMNS = ("label",)
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id")
SECONDS_COLUMNS = ("duration", "seconds", "duration_seconds")
LANGUAGE_COLUMNS = ("language", "lang", "locale")
CORPUS_COLUMNS = ("corpus",)


def first_of(wanted: Iterable[str], names: Iterable[str]) -> str | None:
    """The first of the `wanted` names that is there."""
    present = set(names)
    return next((name for name in wanted if name in present), None)


def text_of(wanted: Iterable[str], record: Mapping[str, Any]) -> str | None:
    """What stands under the first of the `wanted` names, as text."""
    name = first_of(wanted, record)
    return None if name is None else as_text(record[name])


def as_text(value: Any) -> str | None:
    """A value as text (many data sets number their speakers), several as the labels of a clip are written."""
    if value is None or value == []:
        return None
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def seconds_in(record: Mapping[str, Any]) -> float | None:
    """The duration in a record, if it is seconds: whole numbers may as well be milliseconds or samples."""
    name = first_of(SECONDS_COLUMNS, record)
    value = None if name is None else record[name]
    return value if isinstance(value, float) and 0 <= value < float("inf") else None
