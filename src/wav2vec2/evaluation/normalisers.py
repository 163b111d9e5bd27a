"""Named ways to treat texts before their words are compared; the name goes wherever the number goes.

The same hypotheses can be some points of WER better after punctuation is gone, so a rate without its normaliser says
nothing. What a name does never changes: another treatment gets another name. In every one of them words are what
stands between white space, and the reference and the hypothesis are treated alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

from wav2vec2.processing.text_normalization import TextNormalization

_BASIC = TextNormalization(apostrophes="straight", unicode_form="NFC", punctuation="remove", spaces="single")


@dataclass(frozen=True)
class Normaliser:
    """A treatment of texts, its name, and what it does in words, as reports and model cards print it."""

    name: str
    steps: str
    apply: Callable[[str], str]

    def __call__(self, text: str) -> str:
        """The text as it is compared."""
        return self.apply(text)


def _none(text: str) -> str:
    return text


def _basic(text: str) -> str:
    return _BASIC(_BASIC.unified(text).casefold())  # apostrophes first: folding would take one of them apart


NORMALISERS = {
    one.name: one
    for one in (
        Normaliser("none", "texts as they are", _none),
        Normaliser("casefold", "upper and lower case are one (Unicode case folding)", str.casefold),
        Normaliser(
            "basic",
            "upper and lower case are one; punctuation and symbols become a space, but apostrophes are kept and written"
            " as '; accents in one spelling (NFC); numbers stay as they are written",
            _basic,
        ),
    )
}


def normaliser(name: str) -> Normaliser:
    """The normaliser of that name; an unknown one is an error that lists those there are.

    >>> normaliser("basic")("Don’t  STOP -- twenty-one, please!")
    "don't stop twenty one please"
    """
    if name not in NORMALISERS:
        raise ValueError(f"normalizer={name!r}: must be one of {', '.join(NORMALISERS)}")
    return NORMALISERS[name]
