"""Named ways to treat texts before their words are compared; the name goes wherever the number goes.

The same hypotheses can be some points of WER better after punctuation is gone, so a rate without its normaliser says
nothing. What a name does never changes: another treatment gets another name. In every one of them words are what
stands between white space, and the reference and the hypothesis are treated alike.

`model` is the name for the text choices that a model was trained under. A run counts its errors against references in
the form that its tokenizer gives them; against other references a perfect recogniser has errors in every sentence. So
an evaluation takes `model` unless it is told otherwise.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.processing.vocabulary import code_points

if TYPE_CHECKING:
    from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
    from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer

    Tokenizer = Wav2Vec2CTCTokenizer | Wav2Vec2PhonemeCTCTokenizer

#: The name of the treatment that is saved with the model's tokenizer.
MODEL = "model"

#: The names of the treatments of references for a model of phones: words are phones where it writes nothing between
#: words, else they are spelled in phones.
PHONES, SPOKEN_WORDS = "phones", "spoken words"

#: Characters that a warning names.
_SHOWN = 10

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


def _basic(text: str) -> str:
    return _BASIC(_BASIC.unified(text).casefold())  # apostrophes first: folding would take one of them apart


NORMALISERS = {
    one.name: one
    for one in (
        Normaliser("none", "texts as they are", str),
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


def normaliser_of(name: str, tokenizer: "Tokenizer") -> Normaliser:
    """The normaliser of that name, where `model` stands for the text choices of this tokenizer.

    A tokenizer that changes nothing of a text gives `none`; for one of phones there is `phones` alone.
    """
    if hasattr(tokenizer, "phonemizer_lang"):
        return _of_phones(name, tokenizer)
    if name != MODEL:
        if name not in NORMALISERS:
            raise ValueError(f"normalizer={name!r}: must be one of {', '.join((MODEL, *NORMALISERS))}")
        return NORMALISERS[name]
    choices = tokenizer.normalization
    if getattr(tokenizer, "do_lower_case", False):  # its texts are then in small letters, whatever its tokens are
        choices = replace(choices, case="lower")
    if choices.digits == "refuse":  # a digit in a reference is not refused here: it counts as an error
        choices = replace(choices, digits="keep")
    made = [f"{choice} {value}" for choice, value in choices.to_dict().items() if value != "keep"]
    if not made:
        return normaliser("none")
    return Normaliser(MODEL, f"the text choices saved with the model's tokenizer: {', '.join(made)}", choices)


def unwritable(references: Sequence[str], treat: Normaliser, tokenizer: "Tokenizer") -> str | None:
    """What in these references the model has no token for, in a sentence; None if it can write them all.

    Each such character is an error that no training could avoid. Where another normaliser leaves fewer, it is named.
    """
    if treat.name in (PHONES, SPOKEN_WORDS):
        return _unsayable(references, tokenizer)
    counts = {name: _unknown(references, normaliser_of(name, tokenizer), tokenizer) for name in (MODEL, *NORMALISERS)}
    found = _unknown(references, treat, tokenizer)
    if not found:
        return None
    concerned = sum(any(character in found for character in treat(text)) for text in references)
    named = ", ".join(f"{character!r} ({code_points(character)}) x{n}" for character, n in found.most_common(_SHOWN))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    best = min(counts, key=lambda name: counts[name].total())
    fewer = counts[best].total()
    advice = f"; --normalizer {best} leaves {fewer} of {found.total()}" if fewer < found.total() else ""
    return (
        f"{concerned} of {len(references)} references hold characters that this model has no token for, so that even a "
        f"perfect model would have errors there: {named}{more}{advice}"
    )


def _of_phones(name: str, tokenizer: "Wav2Vec2PhonemeCTCTokenizer") -> Normaliser:
    """The one treatment for a model of phones."""
    if name not in (MODEL, PHONES):
        raise ValueError(f"normalizer={name!r}: this model writes phones, of which there is one form: leave it out")
    said = f"as espeak-ng says them, {tokenizer.phonemizer_lang}" if tokenizer.do_phonemize else "which are phones"
    if tokenizer.word_delimiter_token is not None:
        return Normaliser(SPOKEN_WORDS, f"the references, {said}; words are spelled in phones", str)
    return Normaliser(PHONES, f"the references, {said}; errors are counted in phones", str)


def spoken_references(references: Sequence[str], tokenizer: "Tokenizer") -> list[str]:
    """What a perfect model would write for these references: for a model of phones their phones, one after the other or
    as words, else themselves."""
    if not hasattr(tokenizer, "phonemizer_lang"):
        return list(references)
    delimiter = tokenizer.word_delimiter_token
    rows = [tokenizer._cut(text) for text in references]
    if delimiter is None:
        return [" ".join(row) for row in rows]
    return [" ".join("".join(" " if phone == delimiter else phone for phone in row).split()) for row in rows]


def _unsayable(references: Sequence[str], tokenizer: "Tokenizer") -> str | None:
    """Which phones of these references the model does not have."""
    rows = [tokenizer._cut(text) for text in references]
    found = Counter(phone for row in rows for phone in row if phone not in tokenizer.encoder)
    if not found:
        return None
    concerned = sum(any(phone in found for phone in row) for row in rows)
    named = ", ".join(f"{phone} x{n}" for phone, n in found.most_common(_SHOWN))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"{concerned} of {len(references)} references have phones that this model has no token for, so that even a "
        f"perfect model would have errors there: {named}{more}"
    )


def _unknown(references: Sequence[str], treat: Normaliser, tokenizer: "Tokenizer") -> Counter[str]:
    """How often each character stands in the references that no text of the model holds, both after the treatment."""
    special = set(tokenizer.all_special_ids)
    written = {
        character
        for index in range(len(tokenizer))
        if index not in special
        for character in treat(str(tokenizer.decode([index])))
    }
    counted = Counter(character for text in references for character in treat(text) if not character.isspace())
    return Counter({character: count for character, count in counted.items() if character not in written})
