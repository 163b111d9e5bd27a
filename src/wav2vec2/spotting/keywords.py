"""Keywords as the tokens of a model: letters, or phones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wav2vec2.pronunciation.asked_for import Tokenizer, asked_for


@dataclass(frozen=True)
class Keyword:
    """A keyword as it is shown, and the ids of the tokens that it is said with."""

    text: str
    tokens: tuple[int, ...]


def keywords_for(
    tokenizer: Tokenizer, texts: Iterable[str] = (), phones: Iterable[str] = (), text_language: str | None = None
) -> list[Keyword]:
    """The keywords of texts, and of `phones` in IPA where the model has those. A ValueError names what cannot be said
    with the model's tokens, and a keyword that is given twice.

    Letters are folded to the case of the vocabulary; of a text a model of phones has the phones that espeak-ng says it
    with, in `text_language` or the tokenizer's.
    """
    found: list[Keyword] = []
    for text in texts:
        found.append(_keyword(tokenizer, text, text=text, text_language=text_language))
    for row in phones:
        found.append(_keyword(tokenizer, row, phones=row))
    if not found:
        raise ValueError("no keyword is given: name at least one")
    for place, keyword in enumerate(found):
        twins = [other.text for other in found[:place] if other.tokens == keyword.tokens]
        if twins:
            raise ValueError(f"keyword {keyword.text!r}: the model says it as it says {twins[0]!r}; give one of them")
    return found


def token_names(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """How the vocabulary writes tokens."""
    names = tokenizer.tokens
    return [names[token] for token in tokens]


def _keyword(tokenizer: Tokenizer, shown: str, **asked: str | None) -> Keyword:
    try:
        words = asked_for(tokenizer, **asked)
    except ValueError as error:
        raise ValueError(f"keyword {shown!r}: {error}") from error
    return Keyword(" ".join(shown.split()), tuple(token for word in words for token in word.tokens))
