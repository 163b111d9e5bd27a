"""What is asked for: a text or phones, as the tokens of a model, word by word."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from wav2vec2.alignment.aligned_words import spell_with_stars
from wav2vec2.evaluation.scoring import score_utterances
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer

Tokenizer = Wav2Vec2CTCTokenizer | Wav2Vec2PhonemeCTCTokenizer

#: Marks of dictionaries that are no phones: stress, syllables, ties, slashes and brackets. One that a model has tokens
#: with is kept.
_MARKS = "ˈˌ.'‿͜͡/[]()-"

#: Between words of phones, where blanks are between phones.
WORD_MARK = "|"


class AskedWord(NamedTuple):
    """A word, as it is shown, and the ids of the tokens that it is said with."""

    text: str
    tokens: tuple[int, ...]


def sayable(tokenizer: Tokenizer) -> dict[str, int]:
    """What may be said: the letters or phones of a model with their ids, without what is no sound."""
    silent = {*tokenizer.all_special_tokens, tokenizer.word_delimiter_token, WORD_MARK, ""}
    return {token: number for number, token in enumerate(tokenizer.tokens) if token not in silent}


def asked_for(
    tokenizer: Tokenizer, text: str | None = None, phones: str | None = None, text_language: str | None = None
) -> list[AskedWord]:
    """The words of a text, said as espeak-ng says it where the model has phones; or of phones (IPA), which are then
    shown as the words of the text, if there are both. What the model has no token for is a ValueError.

    Words of phones are separated by white space, "həˈloʊ wɜːld", or by a bar, with white space between the phones,
    "h ə l oʊ | w ɜː l d". `text_language` is espeak's name of the text's language, by default the tokenizer's.
    """
    has_phones = isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer)
    ids = sayable(tokenizer)
    if phones is not None:
        if not has_phones:
            raise ValueError("the tokens of this model are letters, not phones: give it the text alone")
        words = list(_words_of_phones(phones, ids))
        return words if text is None else _named(words, text)
    if text is None or not text.split():
        raise ValueError("the text is empty: there is nothing to say")
    shown = text.split()
    if isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer):
        words = _known(zip(shown, _phonemized(tokenizer, shown, text_language), strict=True), ids)
    else:
        if text_language is not None:
            raise ValueError("text_language is for models of phones; the tokens of this one are letters")
        words = _spelled(shown, ids)
    if not words:
        raise ValueError(f"{text!r}: there is nothing in it that is said")
    return words


def _spelled(words: Iterable[str], ids: Mapping[str, int]) -> list[AskedWord]:
    """Words in letters, without those that are punctuation alone."""
    spelled = [AskedWord(word, tuple(spell_with_stars(word, ids))) for word in words]
    unknown = [word.text for word in spelled if min(word.tokens, default=0) < 0]
    if unknown:
        raise ValueError(f"the model has no letters for {_some(unknown)}: write it in words, with letters it has")
    return [word for word in spelled if word.tokens]


def _phonemized(tokenizer: Wav2Vec2PhonemeCTCTokenizer, words: Sequence[str], language: str | None) -> list[list[str]]:
    """The phones of each word, as they are in the sentence.

    espeak says some words otherwise among others ("a", "the"), and joins some. So the sentence is cut into words by the
    phones that each has alone, to which they are the most similar.
    """
    silent = {tokenizer.word_delimiter_token, ""}

    def phones_of(text: str) -> list[str]:
        pieces = tokenizer.phonemize(text, language).split(tokenizer.phone_delimiter_token)
        return [piece.strip() for piece in pieces if piece.strip() not in silent]

    alone = [phones_of(word) for word in words]
    together = phones_of(" ".join(words))
    owners = [number for number, phones in enumerate(alone) for _ in phones]
    found: list[list[str]] = [[] for _ in words]
    (score,) = score_utterances([" ".join(phone for phones in alone for phone in phones)], [" ".join(together)])
    place, owner = 0, owners[0] if owners else 0
    for edit in score.edits:
        if edit.reference is not None:
            owner = owners[place]
            place += 1
        if edit.hypothesis is not None:
            found[owner].append(edit.hypothesis)
    lost = any(phones and not kept for phones, kept in zip(alone, found, strict=True))
    return alone if lost else found


def _known(words: Iterable[tuple[str, Sequence[str]]], ids: Mapping[str, int]) -> list[AskedWord]:
    """Words with their phones as ids, without those that have none."""
    rows = [(word, phones) for word, phones in words if phones]
    unknown = [f"{phone} (in {word})" for word, phones in rows for phone in phones if phone not in ids]
    if unknown:
        raise ValueError(f"the model has no phone {_some(unknown)}; {_it_has(ids)}")
    return [AskedWord(word, tuple(ids[phone] for phone in phones)) for word, phones in rows]


def _words_of_phones(phones: str, ids: Mapping[str, int]) -> Iterator[AskedWord]:
    words = [word.split() for word in phones.split(WORD_MARK)] if WORD_MARK in phones else [[w] for w in phones.split()]
    spoken = [word for word in words if word]
    if not spoken:
        raise ValueError("the phones are empty: there is nothing to say")
    forms = {unicodedata.normalize("NFD", token): number for token, number in ids.items()}
    marks = {mark: None for mark in map(ord, _MARKS) if not any(chr(mark) in form for form in forms)}
    for word in spoken:
        pieces = [unicodedata.normalize("NFD", piece).translate(marks) for piece in word]
        tokens = tuple(number for piece in pieces for number in _cut(piece, forms, "".join(word), ids))
        if tokens:
            yield AskedWord(unicodedata.normalize("NFC", "".join(pieces)), tokens)


def _cut(piece: str, forms: Mapping[str, int], word: str, ids: Mapping[str, int]) -> Iterator[int]:
    """The longest phones, one after the other."""
    place, longest = 0, max(map(len, forms), default=1)
    while place < len(piece):
        sizes = range(min(longest, len(piece) - place), 0, -1)
        size = next((size for size in sizes if piece[place : place + size] in forms), None)
        if size is None:
            left = unicodedata.normalize("NFC", piece[place:])
            raise ValueError(f"the model has no phone that {left!r} (in {word}) begins with; {_it_has(ids)}")
        yield forms[piece[place : place + size]]
        place += size


def _named(words: Sequence[AskedWord], text: str) -> list[AskedWord]:
    names = text.split()
    if len(names) != len(words):
        raise ValueError(
            f"the text has {len(names)} words and the phones {len(words)}: {text!r}, "
            f"{' '.join(word.text for word in words)!r}"
        )
    return [word._replace(text=name) for word, name in zip(words, names, strict=True)]


def _it_has(ids: Mapping[str, int]) -> str:
    return f"it has: {' '.join(list(ids)[:100])}" + (" ..." if len(ids) > 100 else "")


def _some(values: Sequence[str]) -> str:
    return ", ".join(values[:5]) + (" ..." if len(values) > 5 else "")
