"""What a clip asks for, as a manifest says it: an object in one column, or a column for each slot.

    path    slots                                               path    action      object  location
    1.wav   {"size": "eight ounce", "milk": "soy milk"}         2.wav   deactivate  lamp    kitchen

Inside the package it is one text, the object in JSON. Runs of white space are one space: " soy milk" is "soy milk".
"""

import json
from collections.abc import Mapping

from wav2vec2.processing.manifests import Recording


def slots_of_text(text: str) -> dict[str, str]:
    """The slots of a clip, and what is said of them; those with an empty value are not said.

    >>> slots_of_text('{"size": "eight  ounce", "milk": " soy milk", "roast": ""}')
    {'size': 'eight ounce', 'milk': 'soy milk'}
    >>> slots_of_text("eight ounce")
    Traceback (most recent call last):
    ...
    ValueError: 'eight ounce': must be slots and their values, as {"size": "eight ounce"}
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f'{_shown(text)}: must be slots and their values, as {{"size": "eight ounce"}}')
    slots = {}
    for name, value in found.items():
        if not name.strip() or "=" in name:
            raise ValueError(f"{_shown(text)}: {name!r} is no name of a slot: it must not be empty, nor hold '='")
        if value is not None and not isinstance(value, str | int | float):
            raise ValueError(f"{_shown(text)}: the value of {name} must be a text, or null")
        slots[" ".join(name.split())] = " ".join(str("" if value is None else value).split())
    return {name: value for name, value in slots.items() if value}


def text_of_slots(slots: Mapping[str, str]) -> str:
    """The text that `slots_of_text` reads."""
    return json.dumps(dict(slots), ensure_ascii=False)


def text_in(recording: Recording, column: str | None) -> str | None:
    """The text that a recording has in a column of its manifest, by default `transcript`; None if there is no such
    column. Several columns, with commas between them, are a slot each: their text is that of `text_of_slots`.

    >>> from pathlib import Path
    >>> text_in(Recording(Path("1.wav"), others={"action": "deactivate", "object": "lamp"}), "action,object")
    '{"action": "deactivate", "object": "lamp"}'
    """
    if column is None or column == "transcript":
        return recording.transcript
    if column in recording.others or "," not in column:
        return recording.others.get(column)
    names = column.split(",")
    if not recording.others.keys() >= set(names):
        return None
    return text_of_slots({name: recording.others[name] for name in names})


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
