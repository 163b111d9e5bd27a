"""Texts cut into tokens, and CTC paths and labels read as text: what both tokenizers share."""

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from typing import Any, ClassVar, NamedTuple

from wav2vec2.processing.slot_marks import beside_words, from_superb
from wav2vec2.processing.token_table import TokenTable
from wav2vec2.processing.vocabulary import UnknownCharactersError, unknown_characters

#: The padding of labels: in no loss, and never decoded.
IGNORED = -100
#: Noncharacters of Unicode, which no text holds, stand for special tokens while a text is normalised.
_PLACEHOLDERS = range(0xFDD0, 0xFDF0)


class Piece(NamedTuple):
    """A token of a decoded path and the frames it was seen in, end exclusive."""

    token: str
    start: int
    end: int


class OneIdPerLogitTokenizer(TokenTable):
    """A tokenizer with one token per logit. What has no token in a text is counted, said once and written as the
    unknown token; `strict=True` refuses it by name. Subclasses say how a text is cut, and how a path is written."""

    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]

    #: Decode as `Transcriber` writes, without special tokens and with one space between words: in pipelines, where
    #: nobody can ask for it.
    as_transcript = False

    def normalize(self, text: str) -> str:
        """The text as it is cut into tokens. Special and added tokens that are written out stay as they are, and so do
        marks of slots, which stand beside their words."""
        if not isinstance(text, str):
            raise ValueError(f"text must be a string, it is {type(text).__name__}")
        marks = self.marks
        text = from_superb(text) if marks else text
        kept = dict.fromkeys((*self.all_special_tokens, *self._added_tokens_encoder, *marks))
        written = [token for token in kept if len(token) > 1 and token in text]
        for code, token in zip(_PLACEHOLDERS, written, strict=False):
            text = text.replace(token, chr(code))
        text = self._normalized(text)
        for code, token in zip(_PLACEHOLDERS, written, strict=False):
            text = text.replace(chr(code), token)
        return beside_words(text) if marks else text

    def _normalized(self, text: str) -> str:
        return self.normalization(text)

    def _cut(self, text: str) -> list[str]:
        """The pieces of a normalised text; not all of them need be tokens."""
        raise NotImplementedError

    def spelled(self, text: str, **kwargs: Any) -> tuple[list[str], Counter[str]]:
        """The tokens of a text, and the pieces of it that are unknown, or the blank. Those are `unk_token` among the
        tokens, or left out where the vocabulary has none, as are spaces where it has no word delimiter."""
        pieces = self._cut(self.normalize(text), **kwargs)
        odd = {piece for piece in set(pieces) if piece not in self._ids or piece == self.blank}
        if not odd:
            return pieces, Counter()
        apart = self.word_delimiter_token is not None
        written = {piece: self.unk_token if apart or not piece.isspace() else None for piece in odd}
        tokens = [written.get(piece, piece) for piece in pieces]
        return [token for token in tokens if token is not None], Counter(piece for piece in pieces if piece in odd)

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """The tokens of a text. What is unknown is counted in `unknown_counts` and said once; `strict=True` refuses it
        by name."""
        tokens, unknown = self.spelled(text, **kwargs)
        if not unknown:
            return tokens
        described = unknown_characters(self.normalize(text), unknown, self._ids)
        if self.strict:
            raise UnknownCharactersError(f"{described}; strict=False counts them instead", unknown)
        self.unknown_counts.update(unknown)
        instead = "left out" if self.unk_token is None else f"written as {self.unk_token!r}"
        message = "%s; such are %s and counted in unknown_counts; strict=True refuses them"
        self._warn_once("unknown", message, described, instead)
        return tokens

    def _encode_plus(
        self, text: Any, text_pair: Any = None, *args: Any, is_split_into_words: bool = False, **kwargs: Any
    ) -> Any:
        if is_split_into_words:  # words are joined by the delimiter; stock glues them together
            text, text_pair = _joined(text), _joined(text_pair)
        return super()._encode_plus(text, text_pair, *args, **kwargs)

    def pieces(self, token_ids: Any, group_tokens: bool = True, skip_special_tokens: bool = False) -> list[Piece]:
        """The tokens of a CTC path (T frames): repeats as one, blanks left out; each with its frames.

        `group_tokens=False` keeps repeats, as labels want it. Special tokens are skipped after grouping: stock skips
        blanks before, which turns "hello" into "helo". -100 counts as a blank.
        """
        path = [self.blank if index == IGNORED else self._convert_id_to_token(index) for index in _flat(token_ids)]
        repeats = (
            [(token, len(list(same))) for token, same in groupby(path)] if group_tokens else [(t, 1) for t in path]
        )
        skip_special_tokens = skip_special_tokens or self.as_transcript
        skipped = {None, self.blank, *(self.all_special_tokens if skip_special_tokens else ())}
        found: list[Piece] = []
        frame = 0
        for token, count in repeats:
            gap_again = (
                self.as_transcript
                and token == self.word_delimiter_token
                and [token] == [piece.token for piece in found[-1:]]
            )
            if token not in skipped and not gap_again:
                found.append(Piece(str(token), frame, frame + count))
            frame += count
        return found

    def decode_labels(self, labels: Any) -> str:
        """The text of labels (U), in which every double is meant; blanks and -100 are padding."""
        text = self.decode(labels, group_tokens=False)
        return str(text)

    def batch_decode(self, sequences: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """`decode` for each row. With offsets one output whose fields are lists, as in stock."""
        decoded = [self.decode(row, *args, **kwargs) for row in sequences]
        if not decoded or isinstance(decoded[0], str):
            return decoded
        return type(decoded[0])(**{name: [getattr(one, name) for one in decoded] for name in decoded[0]})


def _joined(words: Any) -> Any:
    """Texts made of lists of words, however deeply nested."""
    if words is None or isinstance(words, str):
        return words
    if all(isinstance(word, str) for word in words):
        return " ".join(words)
    return type(words)(map(_joined, words))


def _flat(token_ids: Any) -> list[int]:
    """Ids as a list of integers, from a list, an array, a tensor or one integer."""
    ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
    ids = [ids] if isinstance(ids, int) else list(ids)
    wrong = next((index for index in ids if not hasattr(index, "__index__")), None)
    if wrong is not None:
        what = "several sequences: use batch_decode" if isinstance(wrong, list | tuple) else f"{wrong!r}"
        raise ValueError(f"token_ids must be one sequence of integers, not {what}")
    return [int(index) for index in ids]
