"""Marks of slots in texts: `<size>eight ounce</size>`. Each is one token of the vocabulary.

SUPERB's `B-size eight ounce E-size` is taken for the same.
"""

import re
from collections.abc import Iterable

#: A mark: whether it closes, and the name of its slot.
MARK = re.compile(r"<(/?)([^\W\d_][\w.-]*)>")
_MARK_OF_SUPERB = re.compile(r"(?<!\S)([BE])-(\S+)(?!\S)")

#: Names whose marks are tokens of other meaning in most vocabularies.
_TAKEN = ("s", "pad", "unk")


def from_superb(text: str) -> str:
    """Marks as SUPERB's Audio SNIPS has them, in the form of this package.

    >>> from_superb("a B-size eight ounce E-size latte")
    'a <size>eight ounce</size> latte'
    """
    return beside_words(_MARK_OF_SUPERB.sub(lambda mark: f"<{'/' if mark[1] == 'E' else ''}{mark[2]}>", text))


def beside_words(text: str) -> str:
    """Without the spaces behind marks that open, and before those that close.

    >>> beside_words("a <size> small  </size> latte")
    'a <size>small</size> latte'
    """
    return re.sub(r"\s+(</[^>\s]+>)", r"\1", re.sub(r"(<[^/>\s][^>\s]*>)\s+", r"\1", text))


def slot_names(texts: Iterable[str]) -> list[str]:
    """The names of all slots that are marked in texts, in alphabetical order."""
    names = {mark[2] for text in texts for mark in MARK.finditer(from_superb(text)) if mark[2] not in _TAKEN}
    for name in names:
        check_name(name)
    return sorted(names)


def marks_of(names: Iterable[str]) -> list[str]:
    """The tokens of slots, two each."""
    return [mark for name in names for mark in (f"<{name}>", f"</{name}>")]


def slots_of_vocabulary(tokens: Iterable[str]) -> list[str]:
    """The slots that a vocabulary has both tokens of.

    >>> slots_of_vocabulary(["<s>", "</s>", "a", "<size>", "</size>", "<milk>"])
    ['size']
    """
    known = set(tokens)
    opened = (MARK.fullmatch(token) for token in known)
    names = [mark[2] for mark in opened if mark is not None and not mark[1]]
    return sorted(name for name in names if f"</{name}>" in known and name not in _TAKEN)


def without_marks(text: str) -> str:
    """A text as it was said.

    >>> without_marks("a <size>small</size> latte")
    'a small latte'
    """
    return MARK.sub("", from_superb(text))


def check_name(name: str) -> None:
    """Refuse what can be no mark."""
    if MARK.fullmatch(f"<{name}>") is None or name in _TAKEN:
        raise ValueError(
            f"slot {name!r}: its name must be letters, digits, '_', '-' and '.', beginning with a letter, and not be "
            f"{', '.join(_TAKEN)}"
        )
