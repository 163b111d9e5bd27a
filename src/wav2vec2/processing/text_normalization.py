"""What happens to a text before it is cut into tokens: every choice has a name and is saved with the tokenizer.

Training texts, references and a user's texts must be treated alike, or a model is scored against characters that it
never saw. So the choices travel in `tokenizer_config.json` (key `normalization`); stock Transformers ignores the key.
"""

import functools
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, cast

#: The names of every choice, the one that changes nothing first.
CHOICES: dict[str, tuple[str, ...]] = {
    "unicode_form": ("keep", "NFC", "NFD", "NFKC", "NFKD"),
    "case": ("keep", "lower", "upper"),
    "punctuation": ("keep", "remove"),
    "digits": ("keep", "remove", "refuse"),
    "apostrophes": ("keep", "straight", "remove"),
    "spaces": ("keep", "single", "remove"),
}

#: Characters that are written for an apostrophe, all U+0027 under `apostrophes="straight"`.
APOSTROPHES = "'\u2019\u2018\u02bc\uff07\u201b`\u00b4"
_APOSTROPHES_TO = {
    "straight": dict.fromkeys(map(ord, APOSTROPHES), "'"),
    "remove": dict.fromkeys(map(ord, APOSTROPHES), ""),
}
#: Zero-width (non-)joiners spell words in Persian and in the scripts of India: they are letters here.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True)
class TextNormalization:
    """Named choices, applied in this order. The defaults change nothing.

    >>> TextNormalization(case="lower", punctuation="remove", spaces="single")("Well, HELLO!")
    'well hello'
    """

    #: "straight": typographic ones become U+0027; "remove" takes all out.
    apostrophes: str = "keep"
    #: A form of the Unicode standard (annex 15).
    unicode_form: str = "keep"
    #: "remove": punctuation, symbols and control characters become a space.
    punctuation: str = "keep"
    #: "remove" takes them out, "refuse" raises an error for a text that has some: numbers are to be spelled out.
    digits: str = "keep"
    #: "lower" or "upper".
    case: str = "keep"
    #: "single": runs of white space become one space, with none at the ends; "remove" takes all out.
    spaces: str = "keep"

    def __post_init__(self) -> None:
        for field in fields(self):
            value, allowed = getattr(self, field.name), CHOICES[field.name]
            if value not in allowed:
                raise ValueError(f"{field.name}={value!r}: must be one of {', '.join(map(repr, allowed))}")

    @classmethod
    def from_dict(cls, choices: object) -> "TextNormalization":
        """The choices as `to_dict` gives them; an unknown name or value is an error that lists the known ones."""
        if not isinstance(choices, Mapping):
            raise ValueError(f"normalization={choices!r}: must be an object with the keys {', '.join(CHOICES)}")
        unknown = sorted(set(map(str, choices)) - set(CHOICES))
        if unknown:
            raise ValueError(f"normalization has unknown keys {', '.join(unknown)}; known: {', '.join(CHOICES)}")
        return cls(**choices)

    def to_dict(self) -> dict[str, str]:
        """The choices by name, as they are saved."""
        return asdict(self)

    def __call__(self, text: str) -> str:
        """The text as the tokenizer sees it. Doing it twice is the same as doing it once."""
        text = self.unified(text)
        if self.digits == "refuse":
            _refuse_digits(text)
        if self.punctuation == "remove" or self.digits == "remove":
            text = text.translate(_removal(self.punctuation == "remove", self.digits == "remove"))
        if self.case != "keep":
            text = text.lower() if self.case == "lower" else text.upper()
        if self.spaces != "keep":
            text = (" " if self.spaces == "single" else "").join(text.split())
        return self.unified(text)  # what was taken out may have stood between a letter and its accent

    def unified(self, text: str) -> str:
        """The text with one spelling of apostrophes and accents, before anything is taken out of it."""
        text = self._apostrophes(text)
        return text if self.unicode_form == "keep" else self._apostrophes(normal_form(self.unicode_form, text))

    def _apostrophes(self, text: str) -> str:
        return text if self.apostrophes == "keep" else text.translate(_APOSTROPHES_TO[self.apostrophes])

    def removes(self, character: str) -> bool:
        """Is this character of a `unified` text taken out? White space is not counted."""
        removal = _removal(self.punctuation == "remove", self.digits == "remove")
        return not character.isspace() and removal[ord(character)] in (" ", None)


class _Removal(dict[int, "str | int | None"]):
    """A table for `str.translate` that decides about a character when it first meets it."""

    def __init__(self, punctuation: bool, digits: bool) -> None:
        super().__init__()
        self.punctuation, self.digits = punctuation, digits

    def __missing__(self, code: int) -> "str | int | None":
        self[code] = self._decide(chr(code))
        return self[code]

    def _decide(self, character: str) -> "str | int | None":
        category = unicodedata.category(character)
        if is_digit(character):
            return None if self.digits else ord(character)
        if not self.punctuation or character in APOSTROPHES or character in _JOINERS:
            return ord(character)
        if category == "Cf":
            return None  # invisible: soft hyphens, direction marks
        return " " if category[0] in "PS" or category == "Cc" else ord(character)


@functools.cache
def _removal(punctuation: bool, digits: bool) -> _Removal:
    return _Removal(punctuation, digits)


def normal_form(form: str, text: str) -> str:
    """The text in a normal form of the Unicode standard."""
    return unicodedata.normalize(cast(Literal["NFC", "NFD", "NFKC", "NFKD"], form), text)


def is_digit(character: str) -> bool:
    """Decimal digits of every script, superscripts and fractions; not the numerals that are letters."""
    return unicodedata.category(character) in ("Nd", "No")


def _refuse_digits(text: str) -> None:
    found = sorted(character for character in set(text) if is_digit(character))
    if found:
        raise ValueError(f"digits {' '.join(found)} in {shorten(text)}: spell numbers out (digits='refuse')")


def shorten(text: str, width: int = 60) -> str:
    """A text in quotes for an error message, cut if it is longer than `width`."""
    return repr(text if len(text) <= width else text[: width - 1] + "…")
