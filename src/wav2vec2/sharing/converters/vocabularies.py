"""The tokens of a CTC head, one for each of its rows, as every origin writes them down.

Ours begin with `<pad>`, the blank, as in all published checkpoints of Transformers. fairseq and fairseq2 call the token
of their blank `<s>` and the one behind it, which nothing uses, `<pad>`: here the two change names. torchaudio calls its
blank `-`. Where words end stands `|`, in files of sentencepiece `\\u2581`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.processor import load_tokenizer
from wav2vec2.processing.texts_and_paths import OneIdPerLogitTokenizer
from wav2vec2.sharing.converters.sentencepiece_files import read_pieces

BLANK, START, UNKNOWN, DELIMITER = "<pad>", "<s>", "<unk>", "|"
SPACE_PIECE = "\u2581"
#: The first tokens of every dictionary of fairseq: blank, padding, end, unknown.
FAIRSEQ_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
#: What a CTC head says of a token that it never writes.
NEVER = -1e4


class Vocabulary(NamedTuple):
    """The `tokens` of a CTC head by row, and which of them are the `blank`, the one for `unknown` characters and the
    word `delimiter`, if there are such."""

    tokens: tuple[str, ...]
    blank: str = BLANK
    unknown: str | None = None
    delimiter: str | None = None


def foreign_vocabulary(source: object, tokens: Sequence[str]) -> Vocabulary:
    """The vocabulary of a head whose blank is row 0, whatever its tokens are called there.

    >>> foreign_vocabulary("dict.txt", ["<s>", "<pad>", "</s>", "<unk>", "|", "E"]).tokens
    ('<pad>', '<s>', '</s>', '<unk>', '|', 'E')
    >>> foreign_vocabulary("labels.txt", ["-", "|", "E"])
    Vocabulary(tokens=('<pad>', '|', 'E'), blank='<pad>', unknown=None, delimiter='|')
    """
    named = list(tokens)
    if named and named[0] != BLANK:
        if BLANK in named:
            named[named.index(BLANK)] = named[0] if START in named[1:] else START
        named[0] = BLANK
    if SPACE_PIECE in named and DELIMITER not in named:
        named[named.index(SPACE_PIECE)] = DELIMITER
    if twice := sorted({token for token in named if named.count(token) > 1} if len(set(named)) < len(named) else ()):
        raise CheckpointError(f"{source}: has tokens twice: {', '.join(map(repr, twice[:10]))}")
    if not named or "" in named:
        raise CheckpointError(f"{source}: holds no tokens, or an empty one")
    delimiter = next((token for token in (SPACE_PIECE, DELIMITER) if token in named), None)
    return Vocabulary(tuple(named), BLANK, UNKNOWN if UNKNOWN in named else None, delimiter)


def read_vocabulary(path: Path) -> Vocabulary:
    """A dictionary of fairseq, a model of sentencepiece, a `vocab.json`, or labels, one in a line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix == ".model" or b"\0" in data:
        return foreign_vocabulary(path, read_pieces(path, data))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is no text in UTF-8 and no model of sentencepiece ({error})") from error
    if path.suffix == ".json":
        return foreign_vocabulary(path, _tokens_of_json(path, text))
    lines = [line for line in text.split("\n") if line.strip("\r")]
    if lines and all(re.fullmatch(r"\S.*? \d+( #fairseq:overwrite)?\s*", line) for line in lines):
        symbols = [line.split(" #")[0].rstrip().rpartition(" ")[0] for line in lines]
        return foreign_vocabulary(path, [*FAIRSEQ_SPECIALS, *symbols])
    return foreign_vocabulary(path, [line.rstrip("\r") for line in lines])


def _tokens_of_json(path: Path, text: str) -> list[str]:
    try:
        tokens = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not sound JSON ({error})") from error
    ids = list(tokens.values()) if isinstance(tokens, dict) else []
    if not all(type(index) is int for index in ids) or sorted(ids) != list(range(len(ids))):
        raise CheckpointError(f"{path}: is no vocabulary with one token for each of the ids 0, 1, 2 ...")
    return sorted(tokens, key=lambda token: int(tokens[token]))


def tokenizer_for(vocabulary: Vocabulary) -> OneIdPerLogitTokenizer:
    """The tokenizer that goes with a converted head."""
    return Wav2Vec2CTCTokenizer(as_ids(vocabulary), **_special(vocabulary))


def tokenizer_for_languages(vocabularies: dict[str, Vocabulary], language: str) -> OneIdPerLogitTokenizer:
    """The tokenizer of a model with language adapters, set to one of its languages."""
    nested = {name: as_ids(vocabulary) for name, vocabulary in vocabularies.items()}
    return Wav2Vec2CTCTokenizer(nested, target_lang=language, **_special(vocabularies[language]))


def as_ids(vocabulary: Vocabulary) -> dict[str, int]:
    """Tokens and their rows."""
    return {token: row for row, token in enumerate(vocabulary.tokens)}


def _special(vocabulary: Vocabulary) -> dict[str, Any]:
    start, end = (token if token in vocabulary.tokens else None for token in (START, "</s>"))
    return {
        "pad_token": vocabulary.blank,
        "unk_token": vocabulary.unknown,
        "bos_token": start,
        "eos_token": end,
        "word_delimiter_token": vocabulary.delimiter,
    }


def vocabulary_of_folder(folder: Path, language: str | None = None) -> Vocabulary:
    """The vocabulary of a checkpoint of Transformers."""
    options = {} if language is None else {"target_lang": language}
    tokenizer = load_tokenizer(folder, **options)
    rows = tokenizer.decoder
    tokens = tuple(rows.get(row, f"<{row}>") for row in range(1 + max(rows)))
    delimiter = tokenizer._word_delimiter_token
    return Vocabulary(tokens, str(tokenizer.pad_token), tokenizer.unk_token, delimiter or None)


class Arranged(NamedTuple):
    """Tokens in another framework's order, and for each the row of our head that it was; None if it was none."""

    tokens: list[str]
    rows: tuple[int | None, ...]

    @property
    def added(self) -> list[str]:
        """Tokens that our head has no row for."""
        return [token for token, row in zip(self.tokens, self.rows, strict=True) if row is None]


def arranged_for_fairseq(vocabulary: Vocabulary, delimiter: str = DELIMITER) -> Arranged:
    """Blank, padding, end and unknown first, then the others in their order. `delimiter` is their word delimiter."""
    row_of = as_ids(vocabulary)
    first = (vocabulary.blank, START, "</s>", vocabulary.unknown or UNKNOWN)
    others = [row for row, token in enumerate(vocabulary.tokens) if token not in first]
    names = [_foreign_name(vocabulary, vocabulary.tokens[row], delimiter) for row in others]
    rows = (*(row_of.get(token) for token in first), *others)
    return Arranged([*FAIRSEQ_SPECIALS, *names], rows)


def _foreign_name(vocabulary: Vocabulary, token: str, delimiter: str) -> str:
    return delimiter if token == vocabulary.delimiter and delimiter not in vocabulary.tokens else token


def arranged_for_torchaudio(vocabulary: Vocabulary) -> Arranged:
    """The blank first, which is called `-` there, then the others in their order."""
    blank = as_ids(vocabulary)[vocabulary.blank]
    others = [row for row in range(len(vocabulary.tokens)) if row != blank]
    names = [_foreign_name(vocabulary, vocabulary.tokens[row], DELIMITER) for row in others]
    return Arranged(["-", *names], (blank, *others))
