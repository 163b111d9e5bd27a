"""Transcripts against the vocabulary: characters without a token and why, special tokens in them, nothing left of them.

Shapes: n clips.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from operator import eq
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wav2vec2.processing.text_normalization import is_digit, normal_form
from wav2vec2.processing.vocabulary import code_points, letter_case
from wav2vec2.training.checks.clips import ClipSource
from wav2vec2.training.checks.report import EXAMPLES, Finding, Severity, by_share

if TYPE_CHECKING:
    from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
    from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer

    Tokenizer = Wav2Vec2CTCTokenizer | Wav2Vec2PhonemeCTCTokenizer

#: Unknown characters that are listed one by one, and those of them that one example names.
_LISTED, _OF_ONE = 20, 8


@dataclass
class SpelledTexts:
    """The transcripts of a source as the tokenizer spells them."""

    #: The n usable clips, as indices into the source.
    clips: NDArray[np.int64]
    #: How many labels (n,) each of their texts has.
    labels: NDArray[np.int64]
    #: How many of these labels (n,) equal the one before.
    repeats: NDArray[np.int64]
    #: How often each character was met that has no token.
    unknown: Counter[str] = field(default_factory=Counter)
    #: The first clips in which each of these characters was met.
    where_unknown: dict[str, list[int]] = field(default_factory=dict)
    #: All clips with such a character.
    with_unknown: set[int] = field(default_factory=set)
    #: Clips whose text a choice of the normalisation refuses, and why.
    refused: dict[int, str] = field(default_factory=dict)
    #: How often each token was used.
    used: Counter[str] = field(default_factory=Counter)


def spell(source: ClipSource, tokenizer: "Tokenizer") -> SpelledTexts:
    """Cut every usable transcript into tokens, and note what has none. The tokenizer is left as it is."""
    clips = source.usable()
    spelled = SpelledTexts(clips, *np.zeros((2, len(clips)), np.int64))
    for number, index in enumerate(clips.tolist()):
        text = source.transcripts[index]
        assert text is not None
        try:
            pieces, unknown = tokenizer.spelled(text)
        except ValueError as error:  # a choice of the normalisation refuses the text
            spelled.refused[index] = str(error)
            pieces, unknown = [], Counter()
        if unknown:
            spelled.with_unknown.add(index)
            spelled.unknown.update(unknown)
            for character in unknown:
                found = spelled.where_unknown.setdefault(character, [])
                found += [index] if len(found) < EXAMPLES else []
        spelled.used.update(pieces)
        known = index not in spelled.with_unknown
        whole = pieces if known else tokenizer._cut(tokenizer.normalize(text))  # two are not equal for being unknown
        spelled.labels[number] = len(pieces)
        spelled.repeats[number] = sum(map(eq, whole, whole[1:]))
    return spelled


def text_findings(
    source: ClipSource, spelled: SpelledTexts, tokenizer: "Tokenizer", *, on_unknown: str, max_bad_share: float
) -> Iterator[Finding]:
    """Everything about the transcripts of one source that has nothing to do with its audio."""
    usable, refused = len(spelled.clips), spelled.refused
    if missing := [index for index, text in enumerate(source.transcripts) if not text]:
        yield source.finding(
            "missing_transcript",
            by_share(len(missing), len(source), max_bad_share),
            "clips have no transcript: they are left out",
            missing,
            len(source),
            "a text in the column `transcript` (or data.train.0.text_column=NAME of another column)",
        )
    # the normalisation, or leaving out unknown characters, leaves nothing of these
    if empty := [index for index in spelled.clips[spelled.labels == 0].tolist() if index not in refused]:
        yield source.finding(
            "empty_target",
            by_share(len(empty), usable, max_bad_share),
            f"transcripts have no {tokens_of(tokenizer)[:-1]} left that the vocabulary knows: the targets are empty",
            empty,
            usable,
            "texts with words, or choices under `text` that keep them",
        )
    if refused:
        yield source.finding(
            "refused_text",
            "problem",
            "transcripts are refused by the choices under `text`, as digits are by text.digits=refuse",
            refused,
            usable,
            "numbers spelled out as they are said (text.digits=remove or keep, if that is what is wanted)",
        )
    if spelled.unknown:
        yield from _unknown(source, spelled, tokenizer, on_unknown)
    yield from _special_tokens(source, spelled, tokenizer)


def tokens_of(tokenizer: "Tokenizer") -> str:
    """What the tokens are: "characters" or "phones"."""
    return "phones" if hasattr(tokenizer, "phonemizer_lang") else "characters"


def unused_tokens(spelled: SpelledTexts, tokenizer: "Tokenizer") -> Iterator[Finding]:
    """Tokens of the vocabulary that no training transcript has: they are never learnt."""
    special = {*tokenizer.all_special_tokens, tokenizer.word_delimiter_token}
    ordinary = [token for token in tokenizer.encoder if token not in special]
    unused = [token for token in ordinary if token not in spelled.used]
    if unused and 2 * len(spelled.with_unknown) < len(spelled.clips):  # else that is what is wrong
        shown = " ".join(sorted(unused)[:_LISTED]) + (" …" if len(unused) > _LISTED else "")
        many = len(unused) > 0.5 * len(ordinary)
        yield Finding(
            "unused_tokens",
            "warning" if many else "note",
            "train",
            f"{len(unused)} of {len(ordinary)} tokens of the vocabulary occur in no transcript: {shown}",
            right="a vocabulary built from the training text (text.vocabulary=null)" if many else "",
        )


def _unknown(source: ClipSource, spelled: SpelledTexts, tokenizer: "Tokenizer", on_unknown: str) -> Iterator[Finding]:
    """Characters without a token, each with an example of a text that has it."""
    listed = sorted(spelled.unknown.items(), key=lambda item: (-item[1], item[0]))
    names = [f"{character!r} ({code_points(character)}) x{count}" for character, count in listed[:_LISTED]]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    shown: dict[int, list[str]] = {}
    for character, _ in listed[:_LISTED]:
        shown.setdefault(spelled.where_unknown[character][0], []).append(character)
    severity: Severity = "problem" if on_unknown == "error" else "warning"
    done = {"skip": ": these clips are left out", "unknown": ": they become the token for unknown ones"}
    if source.where == "valid" and on_unknown == "skip" and tokenizer.unk_token is not None:
        done = {"skip": ": these clips are scored all the same, and each such character is an error"}
    kind, causes = _causes(source, spelled, tokenizer)
    cause = f" ({'; '.join(said for said, _ in causes)})" if causes else ""
    finding = source.finding(
        kind,
        severity,
        f"transcripts have {tokens_of(tokenizer)} that are not in the vocabulary of {len(tokenizer)} tokens{cause}"
        f"{done.get(on_unknown, '')}: {', '.join(names)}{more}",
        shown,
        len(spelled.clips),
        "; ".join(right for _, right in causes)
        or f"a vocabulary with these {tokens_of(tokenizer)} (text.vocabulary=null builds one), or texts without them",
        lambda index: f"has {' '.join(map(repr, shown[index][:_OF_ONE]))}",
    )
    yield replace(finding, count=len(spelled.with_unknown))


def _causes(source: ClipSource, spelled: SpelledTexts, tokenizer: "Tokenizer") -> tuple[str, list[tuple[str, str]]]:
    """(kind of finding, [(why characters are unknown, what would be right), ...]), the most telling first."""
    unknown, known = spelled.unknown, tokenizer.encoder
    causes: list[tuple[str, str]] = []
    kind = f"unknown_{tokens_of(tokenizer)}"
    if tokens_of(tokenizer) == "phones":
        return kind, causes
    other = {c for c in unknown if any(o != c and o in known for o in (c.lower(), c.upper()))}
    if other:
        kind, right = "wrong_case", letter_case(known)
        text = "upper" if right == "lower" else "lower"
        said = f"wrong case: the vocabulary is {right} case, {sum(unknown[c] for c in other)} letters are {text} case"
        causes.append((said, f"text.case={right}"))
    rest = [c for c in unknown if c not in other and len(c) == 1]
    causes += [cause for cause in (_other_form(rest, source, spelled, tokenizer),) if cause]
    digits = sorted(c for c in rest if is_digit(c))
    if digits:
        causes.append((f"digits {' '.join(digits)}", "numbers spelled out as they are said"))
    if tokenizer.blank in unknown:
        said = f"{tokenizer.blank!r} is the CTC blank, which no text may hold"
        causes.append((said, "a blank that is no character of the text"))
    if " " in unknown:
        causes.append(("the vocabulary has no word delimiter", "texts without spaces, or a text.word_delimiter"))
    symbols = [c for c in rest if not c.isalnum() and not c.isspace() and not is_digit(c) and not _combining(c)]
    if symbols and tokenizer.normalization.punctuation == "keep":
        causes.append(("punctuation", "text.punctuation=remove"))
    return kind, causes


def _other_form(
    rest: list[str], source: ClipSource, spelled: SpelledTexts, tokenizer: "Tokenizer"
) -> tuple[str, str] | None:
    """Whether accents are written in the other normal form of Unicode: NFC has é as one character, NFD as two."""
    accents = [c for c in rest if _combining(c) or normal_form("NFD", c) != c]
    if not accents:
        return None
    form = "NFC" if any(map(_combining, accents)) else "NFD"
    indices = {index for c in accents for index in spelled.where_unknown[c]}
    known = tokenizer.encoder
    texts = (source.transcripts[index] or "" for index in indices)
    written = {c for text in texts for c in normal_form(form, tokenizer.normalize(text))}
    lost = {c for c in written if c not in known and c.lower() not in known and c.upper() not in known}
    if any(_combining(c) or normal_form("NFD", c) != c for c in lost):
        return None
    other = "NFD" if form == "NFC" else "NFC"
    return f"accents are written in {other}, those of the vocabulary in {form}", f"text.unicode_form={form}"


def _combining(character: str) -> bool:
    return len(character) == 1 and "\u0300" <= character <= "\u036f"


def _special_tokens(source: ClipSource, spelled: SpelledTexts, tokenizer: "Tokenizer") -> Iterator[Finding]:
    """Special tokens written out in a text are trained on as if they were said."""
    delimiter = tokenizer.word_delimiter_token
    normal = tokenizer.normalize
    written = [token for token in {*tokenizer.all_special_tokens, delimiter} if token and not token.isspace()]
    for token in sorted(set(written) - {tokenizer.blank}):
        texts = ((index, source.transcripts[index] or "") for index in spelled.clips.tolist())
        found = [i for i, text in texts if token in text and i not in spelled.refused and token in normal(text)]
        if found:
            role = "the token between words" if token == delimiter else "a special token"
            yield source.finding(
                "special_token_in_text",
                "warning",
                f"transcripts hold {token!r}, which is {role} of the vocabulary",
                found,
                len(spelled.clips),
                "texts without it, or another token (text.word_delimiter)",
            )
