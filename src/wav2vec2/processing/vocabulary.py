"""A CTC vocabulary: what one must be, how to build one from texts, and what a text has that one cannot spell.

A vocabulary maps tokens to ids 0..V-1 with one id for each of the V logits. Those that are built here have no gap, and
the blank is id 0, as in every published checkpoint, so that a model's default `pad_token_id=0` is right.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wav2vec2.processing.slot_marks import marks_of, slot_names, without_marks
from wav2vec2.processing.text_normalization import TextNormalization, is_digit, normal_form, shorten


class VocabularyError(ValueError):
    """A vocabulary that cannot name every logit exactly once, and why."""


class UnknownCharactersError(ValueError):
    """A text has characters without a token. `characters` counts them."""

    def __init__(self, message: str, characters: Mapping[str, int]) -> None:
        super().__init__(message)
        self.characters = Counter(characters)


@dataclass(frozen=True)
class VocabularyReport:
    """What was counted in the texts, after `TextNormalization`. Show it with `print(report)`."""

    #: How many texts there were.
    texts: int
    #: How many had nothing left.
    empty: int
    #: Characters in the vocabulary and their counts.
    characters: dict[str, int]
    #: What a normalisation choice took out.
    dropped: dict[str, int]
    #: In the vocabulary but seen less than `VocabularyReport.RARE` times: often typing errors.
    rare: dict[str, int]
    #: Seen less than `min_count` times: not in the vocabulary, refused by a strict tokenizer.
    left_out: dict[str, int]
    #: What the tokens are.
    unit: str = "characters"

    RARE = 10

    def __str__(self) -> str:
        head = f"{self.texts} texts ({self.empty} empty), {sum(self.characters.values())} {self.unit}"
        rows = [("in the vocabulary", self.characters), ("of these rare", self.rare)]
        rows += [("dropped", self.dropped), ("left out (min_count)", self.left_out)]
        return "\n".join([head, *(f"  {name}: {len(counts)}  {_listing(counts)}" for name, counts in rows)])


def _listing(counts: Mapping[str, int]) -> str:
    def name(character: str) -> str:
        return character if character.isalnum() else f"{character!r} {code_points(character)}"

    return ", ".join(f"{name(c)} {n}" for c, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class Vocabulary:
    """What `build_vocabulary` made of texts."""

    #: Tokens and their ids.
    tokens: dict[str, int]
    #: The normalisation under which the tokens cover the texts.
    normalization: TextNormalization
    #: The CTC blank.
    blank: str
    #: The token for what has none, if there is one.
    unknown: str | None
    #: The token between words; None in a script without.
    word_delimiter: str | None
    #: What was counted in the texts.
    report: VocabularyReport


def build_vocabulary(
    texts: Iterable[str],
    *,
    unicode_form: str = "NFC",
    case: str = "lower",
    punctuation: str = "remove",
    digits: str = "keep",
    apostrophes: str = "straight",
    min_count: int = 1,
    blank: str = "<pad>",
    unknown: str | None = "<unk>",
    word_delimiter: str | None = "|",
    slots: bool = False,
) -> Vocabulary:
    """A vocabulary of the characters in `texts` under the named choices of `TextNormalization`.

    `word_delimiter=None` is for scripts without spaces: white space is then removed. The result goes to
    `Wav2Vec2CTCTokenizer.from_vocabulary`, which saves the choices with the tokenizer. With `slots`, the marks of slots
    in the texts (`<size>small</size>`, as `slot_texts` has them) are a token each, behind the characters.

    >>> vocabulary = build_vocabulary(["Hello, Bob!", "hello"])
    >>> list(vocabulary.tokens)
    ['<pad>', '<unk>', '|', 'b', 'e', 'h', 'l', 'o']
    >>> vocabulary.report.dropped
    {',': 1, '!': 1}
    """
    if isinstance(texts, str):
        raise ValueError("texts must be several texts, as a list of strings; this is one string")
    marks: list[str] = []
    if slots:
        texts = list(texts)
        marks = marks_of(slot_names(texts))
        texts = map(without_marks, texts)
    spaces = "remove" if word_delimiter is None else "single"
    normalization = TextNormalization(apostrophes, unicode_form, punctuation, digits, case, spaces)
    counts, dropped, number, empty = _count(texts, normalization)
    if not counts:
        raise VocabularyError(f"{number} texts without a single character: a vocabulary needs transcripts")
    specials = [token for token in (blank, unknown, word_delimiter) if token is not None]
    _refuse_clashes(specials, counts)
    characters = {c: n for c, n in sorted(counts.items()) if n >= min_count}
    left_out = {c: n for c, n in sorted(counts.items()) if n < min_count}
    rare = {c: n for c, n in characters.items() if n < VocabularyReport.RARE}
    report = VocabularyReport(number, empty, characters, dict(dropped), rare, left_out)
    tokens = {token: index for index, token in enumerate([*specials, *characters, *marks])}
    return Vocabulary(tokens, normalization, blank, unknown, word_delimiter, report)


def _count(texts: Iterable[str], normalization: TextNormalization) -> tuple[Counter[str], Counter[str], int, int]:
    counts: Counter[str] = Counter()
    before: Counter[str] = Counter()
    number = empty = 0
    for number, text in enumerate(texts, start=1):  # noqa: B007
        if not isinstance(text, str):
            raise ValueError(f"text {number} is {type(text).__name__} {shorten(str(text))}, not a string")
        before.update(normalization.unified(text))
        kept = normalization(text)
        empty += not kept
        counts.update(kept)
    del counts[" "]
    dropped = Counter({c: n for c, n in before.items() if normalization.removes(c)})
    return counts, dropped, number, empty


def _refuse_clashes(specials: list[str], counts: Mapping[str, int]) -> None:
    if len(set(specials)) < len(specials):
        raise VocabularyError(f"blank, unknown and word delimiter must differ: {', '.join(map(repr, specials))}")
    clash = [token for token in specials if token in counts]
    if clash:
        raise VocabularyError(
            f"the texts contain {clash[0]!r} ({counts[clash[0]]} times), which is to be a special token: choose "
            "another one, or punctuation='remove'"
        )


def numbered(vocabulary: Any, source: str, *, gaps: bool) -> dict[str, int]:
    """Tokens and ids in the order of the ids. Two tokens of one id are refused by name; so are ids without a token,
    unless `gaps` are allowed: a logit that no label stands for does no harm."""
    check_tokens(vocabulary, source)
    owner: dict[int, str] = {}
    for token, index in vocabulary.items():
        if index in owner:
            raise VocabularyError(f"{source}: {owner[index]!r} and {token!r} share the id {index}")
        owner[index] = token
    missing = missing_ids(owner, 1 + max(owner))
    if missing and not gaps:
        raise VocabularyError(f"{source}: {missing}, but there must be one for each logit")
    return {owner[index]: index for index in sorted(owner)}


def check_tokens(vocabulary: Any, source: str) -> None:
    """Refuse what is not an object of tokens and ids."""
    if not isinstance(vocabulary, Mapping) or not vocabulary:
        raise VocabularyError(f"{source}: must be an object of tokens and ids, and not be empty")
    for token, index in vocabulary.items():
        check_token(token, source)
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise VocabularyError(f"{source}: the id of {token!r} is {index!r}; it must be an integer of at least 0")


def check_token(token: object, source: str) -> None:
    """Refuse what cannot be a token: no text, empty, or not writable as UTF-8."""
    if not isinstance(token, str) or not token:
        raise VocabularyError(f"{source}: {token!r} is not a token; a token is a text of at least one character")
    if any("\ud800" <= character <= "\udfff" for character in token):
        raise VocabularyError(f"{source}: {token!r} holds half of a surrogate pair; the file is damaged")


def missing_ids(owner: Mapping[int, str], logits: int) -> str:
    """Which of the ids 0..logits-1 have no token, in words; empty if all have one."""
    missing = logits - sum(index < logits for index in owner)
    gaps: list[int] = []
    index = 0
    while len(gaps) < min(5, missing):
        gaps += [index] if index not in owner else []
        index += 1
    more = f" and {missing - len(gaps)} more" if missing > len(gaps) else ""
    return f"no token has the id {', '.join(map(str, gaps))}{more}" if missing else ""


def is_nested(vocabulary: object) -> bool:
    """Whether this is one vocabulary for each of several languages, as those of MMS are."""
    return isinstance(vocabulary, Mapping) and any(isinstance(value, Mapping) for value in vocabulary.values())


def letter_case(tokens: Iterable[str]) -> str | None:
    """ "lower" or "upper", whichever most one-letter tokens are; None for scripts without case."""
    letters = [token for token in tokens if len(token) == 1]
    lower = sum(letter != letter.upper() for letter in letters)
    upper = sum(letter != letter.lower() for letter in letters)
    if lower == upper == 0:
        return None
    return "upper" if upper > lower else "lower"


def unknown_characters(text: str, unknown: Mapping[str, int], tokens: Mapping[str, int]) -> str:
    """What a text has that the tokens cannot spell, and for each kind of cause what to do."""
    listed = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))
    names = [f"{character!r} ({code_points(character)}) x{count}" for character, count in listed[:20]]
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    causes = "; ".join(_causes(text, unknown, tokens))
    return (
        f"{len(listed)} not in the vocabulary of {len(tokens)} tokens: {', '.join(names)}{more}, in {shorten(text)}. "
        f"{causes}"
    )


def code_points(text: str) -> str:
    """The code points of a text, as U+0041 for "A", with a space between them."""
    return " ".join(f"U+{ord(character):04X}" for character in text)


def _causes(text: str, unknown: Mapping[str, int], tokens: Mapping[str, int]) -> list[str]:
    causes = []
    if any(swapped != one and swapped in tokens for one in unknown for swapped in (one.lower(), one.upper())):
        case = letter_case(tokens)
        other = "upper" if case == "lower" else "lower"
        causes.append(f"the vocabulary is {case} case and the text has {other} case: pass do_lower_case=True")
    for form in ("NFC", "NFD"):
        normal = normal_form(form, text)
        if normal != text and all(character in tokens or character.isspace() for character in normal):
            causes.append(f"the vocabulary is written in {form}: unicodedata.normalize({form!r}, text)")
            break
    if any(len(character) == 1 and is_digit(character) for character in unknown):
        causes.append("spell numbers out")
    blank = [piece for piece in unknown if piece in tokens]
    if blank:
        causes.append(f"{blank[0]!r} is the CTC blank, which no text may hold")
    if " " in unknown:
        causes.append("the vocabulary has no word delimiter: take the spaces out of the text")
    if not causes:
        causes.append("build_vocabulary(texts) makes a vocabulary that has them")
    return causes
