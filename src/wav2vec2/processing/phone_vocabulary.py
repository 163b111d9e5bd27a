"""A vocabulary of phones: those with which espeak-ng says texts, or that transcripts hold."""

from collections import Counter
from collections.abc import Iterable

from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer
from wav2vec2.processing.vocabulary import VocabularyError, VocabularyReport

_BLANK, _UNKNOWN = "<pad>", "<unk>"


def phone_tokenizer(
    texts: Iterable[str], language: str, *, given: bool = False, min_count: int = 1
) -> tuple[Wav2Vec2PhonemeCTCTokenizer, VocabularyReport]:
    """A tokenizer for the phones of the texts, said in espeak's `language` (extra `phonemes`), or `given` as phones
    with blanks between them; and what was counted. The blank is id 0. It has no token between words: nothing of
    a word's end is heard in running speech.

    >>> tokenizer, report = phone_tokenizer(["h ə l oʊ", "l oʊ"], "en-us", given=True)
    >>> tokenizer.tokens, report.characters
    (['<pad>', '<unk>', 'h', 'l', 'oʊ', 'ə'], {'h': 1, 'l': 2, 'oʊ': 2, 'ə': 1})
    """
    cutter = tokenizer_of([], language, given)
    counts, number, empty = Counter[str](), 0, 0
    for text in texts:
        phones = cutter.spelled(text)[1]  # of this tokenizer, all are unknown
        number, empty = number + 1, empty + (not phones)
        counts.update(phones)
    if not counts:
        how = "as given" if given else f"as espeak-ng says them in {language}"
        raise VocabularyError(f"{number} texts without a single phone, {how}: a vocabulary needs transcripts")
    kept = {phone: n for phone, n in sorted(counts.items()) if n >= min_count}
    left_out = {phone: n for phone, n in sorted(counts.items()) if n < min_count}
    rare = {phone: n for phone, n in kept.items() if n < VocabularyReport.RARE}
    report = VocabularyReport(number, empty, kept, {}, rare, left_out, "phones")
    return tokenizer_of(kept, language, given), report


def tokenizer_of(phones: Iterable[str], language: str, given: bool) -> Wav2Vec2PhonemeCTCTokenizer:
    """A strict tokenizer with a token for each of these phones."""
    tokens = {token: index for index, token in enumerate((_BLANK, _UNKNOWN, *phones))}
    return Wav2Vec2PhonemeCTCTokenizer(
        tokens, bos_token=None, eos_token=None, phonemizer_lang=language, do_phonemize=not given, strict=True
    )
