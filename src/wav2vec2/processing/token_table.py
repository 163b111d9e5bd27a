"""What both tokenizers share: a table of tokens with one id for each logit and nothing beyond, by which texts are cut
into ids, and CTC paths and labels read as text.

The base is Transformers' `PreTrainedTokenizer`, because pipelines, `ProcessorMixin` and `Trainer` ask for one and its
`__call__` and `pad` are right. Its added tokens are not: it gives ids to tokens that nobody asked for and no logit
stands for. So loading and saving, adding, cutting and decoding are this package's.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, ClassVar, NamedTuple, TypeAlias

from transformers import AddedToken

from wav2vec2.processing.saved_as_stock import SavedAsStock
from wav2vec2.processing.text_normalization import TextNormalization, shorten
from wav2vec2.processing.tokenizer_files import read_json
from wav2vec2.processing.vocabulary import (
    UnknownCharactersError,
    VocabularyError,
    is_nested,
    missing_ids,
    numbered,
    unknown_characters,
)

logger = logging.getLogger("wav2vec2")

#: A special token as stock Transformers takes it.
Token: TypeAlias = str | AddedToken | None
#: The padding of labels: in no loss, and never decoded.
IGNORED = -100
#: Options that Transformers' tokenizers and processors know.
_KNOWN_OPTIONS = (
    "additional_special_tokens backend chat_control_tokens chat_template clean_up_tokenization_spaces do_lower_case "
    "extra_special_tokens files_loaded max_len max_length model_input_names model_max_length "
    "model_specific_special_tokens name_or_path pad_to_multiple_of padding padding_side processor_class "
    "response_template special_tokens_pattern split_special_tokens tokenizer_class truncation truncation_side verbose"
)
#: Noncharacters of Unicode, which no text holds, stand for special tokens while a text is normalised.
_PLACEHOLDERS = range(0xFDD0, 0xFDF0)


class Piece(NamedTuple):
    """A token of a decoded path and the frames it was seen in, end exclusive."""

    token: str
    start: int
    end: int


class OneIdPerLogitTokenizer(SavedAsStock):
    """A vocabulary of one token per logit. What it has no token for is counted, said once and written as the unknown
    token; `strict=True` refuses it by name."""

    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | Mapping[str, Any],
        *,
        bos_token: Token,
        eos_token: Token,
        unk_token: Token,
        pad_token: Token,
        word_delimiter_token: Token,
        target_lang: str | None,
        strict: bool,
        normalization: TextNormalization | Mapping[str, str] | None,
        **kwargs: Any,
    ) -> None:
        self._said: set[str] = set()
        self._source = str(
            kwargs.get("name_or_path") or ("vocabulary" if isinstance(vocab_file, Mapping) else vocab_file)
        )
        #: The vocabulary as it is saved: flat, or one per language.
        self.vocab: Any = dict(vocab_file) if isinstance(vocab_file, Mapping) else read_json(vocab_file, True)
        self.target_lang = target_lang
        self.strict = strict
        if normalization is not None and not isinstance(normalization, TextNormalization):
            normalization = TextNormalization.from_dict(normalization)
        self.normalization = normalization or TextNormalization()
        #: How often a text held what has no token, and a path an id that is none.
        self.unknown_counts: Counter[str] = Counter()
        self.unknown_id_counts: Counter[int] = Counter()
        #: Decode as `Transcriber` writes, without special tokens and with one space between words: in pipelines, where
        #: nobody can ask for it.
        self.as_transcript = False
        specials = {"bos_token": bos_token, "eos_token": eos_token, "unk_token": unk_token, "pad_token": pad_token}
        self._given_tokens = {name: _text(token, name) for name, token in specials.items()}
        self._word_delimiter_token = _text(word_delimiter_token, "word_delimiter_token") or None
        self._use(self._language_vocabulary(target_lang))
        tokens = self._special_tokens_of_vocabulary()
        self._check_specials(tokens)
        super().__init__(**tokens, **kwargs)
        self._index_tokens()
        given = {"strict": strict, "normalization": normalization, "target_lang": target_lang}
        self.init_kwargs |= {**given, "word_delimiter_token": word_delimiter_token}
        tokens_by_name = {name for name in kwargs if name.endswith("_token") and not isinstance(kwargs[name], bool)}
        known = {*_KNOWN_OPTIONS.split(), *tokens_by_name}
        if strange := sorted(set(kwargs) - known):
            self._warn_once("options", "%s has no option %s", type(self).__name__, ", ".join(strange))

    def _language_vocabulary(self, language: str | None) -> dict[str, int]:
        if not is_nested(self.vocab):
            if language is not None:
                raise VocabularyError(
                    f"target_lang={language!r}: {self._source} has one vocabulary, not one per language"
                )
            return numbered(self.vocab, self._source, gaps=not self.strict)
        known = ", ".join(sorted(map(str, self.vocab))[:20]) + (", …" if len(self.vocab) > 20 else "")
        if language not in self.vocab:
            asked = (
                "choose one with target_lang=" if language is None else f"target_lang={language!r} is not among them"
            )
            raise VocabularyError(f"{self._source} has vocabularies for {len(self.vocab)} languages: {asked} ({known})")
        return numbered(self.vocab[language], f"{self._source}, language {language!r}", gaps=not self.strict)

    def _use(self, vocabulary: dict[str, int]) -> None:
        """Make this the vocabulary. Called before and after `PreTrainedTokenizer.__init__`."""
        self.encoder = vocabulary
        self.decoder = {index: token for token, index in vocabulary.items()}
        self._index_tokens()
        if missing := missing_ids(self.decoder, self.vocab_size):
            self._warn_once("gaps", "%s: %s: they decode to the unknown token", self._source, missing)

    def _index_tokens(self) -> None:
        """Tokens and ids, those of the vocabulary before added ones; long tokens by their first character."""
        self._ids = {**self.__dict__.get("_added_tokens_encoder", {}), **self.encoder}
        self._tokens = {index: token for token, index in self._ids.items()} | self.decoder
        by_first: dict[str, set[int]] = {}
        for token in self._ids:
            if len(token) > 1:
                by_first.setdefault(token[0], set()).add(len(token))
        self._long_tokens = {first: sorted(lengths, reverse=True) for first, lengths in by_first.items()}

    def _special_tokens_of_vocabulary(self) -> dict[str, str | None]:
        """CTC needs no special token but the blank, and none is added unasked. A vocabulary without its blank is
        completed as stock Transformers would do it, with the same ids."""
        tokens = self._given_tokens
        if tokens["pad_token"] not in self.encoder:
            return dict(tokens)
        return {name: token if token in self.encoder else None for name, token in tokens.items()}

    def _check_specials(self, tokens: Mapping[str, str | None]) -> None:
        blank, unknown, delimiter = tokens["pad_token"], tokens["unk_token"], self._word_delimiter_token
        if blank is None:
            raise VocabularyError("pad_token=None: it is the CTC blank, which no model can do without")
        if blank not in self.encoder:
            self._say_that_blank_is_missing(blank)
        if self.strict and delimiter is not None and delimiter not in self.encoder and not is_nested(self.vocab):
            raise VocabularyError(
                f"word_delimiter_token={delimiter!r} is not in {self._source}: name the token for the space between "
                "words, or None for a script without"
            )
        if blank in (unknown, delimiter) or (delimiter is not None and delimiter == unknown):
            raise VocabularyError(
                f"pad_token={blank!r}, unk_token={unknown!r} and word_delimiter_token={delimiter!r} must differ"
            )

    def _say_that_blank_is_missing(self, blank: str) -> None:
        alike = [token for token in self.encoder if token.strip("<[|]>").lower() in ("pad", "blank", "ctc_blank")]
        there = f"; it has {alike[0]!r}: pass pad_token={alike[0]!r}" if alike else ""
        missing = f"pad_token={blank!r}, the CTC blank, is not in {self._source}{there}"
        if self.strict:
            raise VocabularyError(missing)
        self._warn_once("blank", "%s. It gets an id behind the others, as in stock", missing)

    def _warn_once(self, kind: str, message: str, *values: object) -> None:
        """Log what is probably a mistake but has a meaning, unless a warning of this kind was logged before."""
        if kind not in self._said:
            self._said.add(kind)
            logger.warning(message, *values)

    # ---- the vocabulary

    @property
    def vocab_size(self) -> int:
        """The number of ids without those of added tokens, as in stock Transformers."""
        return 1 + max(self.decoder)

    def __len__(self) -> int:
        """The number of ids, which is how many logits a model must have."""
        return 1 + max(self._tokens)

    def get_vocab(self) -> dict[str, int]:
        """A copy of the table: the id of every token, added ones included."""
        return dict(self._ids)

    @property
    def tokens(self) -> list[str]:
        """The tokens in the order of their ids, as a decoder wants them; "<7>" for an id 7 that has none."""
        return [self._tokens.get(index, f"<{index}>") for index in range(len(self))]

    @property
    def blank(self) -> str:
        """The CTC blank, which stock Transformers calls the pad token."""
        return str(self.pad_token)

    @property
    def blank_id(self) -> int:
        """The id of the blank: a model's `config.pad_token_id`."""
        return self._ids[self.blank]

    @property
    def word_delimiter_token(self) -> str | None:
        """The token between words; None in a script without, or in a language of a nested vocabulary without."""
        return self._word_delimiter_token if self._word_delimiter_token in self._ids else None

    @word_delimiter_token.setter
    def word_delimiter_token(self, token: str | None) -> None:
        self._word_delimiter_token = token

    @property
    def word_delimiter_token_id(self) -> int | None:
        """The id of the word delimiter."""
        return None if self.word_delimiter_token is None else self._ids[self.word_delimiter_token]

    def _add_tokens(self, new_tokens: Iterable[str | AddedToken], special_tokens: bool = False) -> int:
        """Give tokens that are not there the next ids, and mark those that are. An added token has no logit yet."""
        missing = [str(token) for token in new_tokens if str(token) not in ("", *self._ids)]
        if missing and self.strict:
            raise VocabularyError(
                f"{', '.join(map(repr, missing))}: no logit stands for an added token; make a tokenizer with a larger "
                "vocabulary, and a model with as many logits"
            )
        special = set(self.all_special_tokens)
        for token in filter(None, map(str, new_tokens)):
            index = self._ids.get(token, len(self))
            is_special = special_tokens or token in special
            self._added_tokens_decoder[index] = AddedToken(token, normalized=False, special=is_special)
            self._added_tokens_encoder[token] = index
            if is_special and token not in special:
                self._extra_special_tokens.append(token)
            self._index_tokens()
        if missing:
            self._warn_once("added", "added tokens, as %s, need a model of %d logits", shorten(missing[0]), len(self))
        return len(set(missing))

    # ---- text to ids

    def normalize(self, text: str) -> str:
        """The text as it is cut into tokens. Special and added tokens that are written out stay as they are."""
        if not isinstance(text, str):
            raise ValueError(f"text must be a string, it is {type(text).__name__}")
        kept = dict.fromkeys((*self.all_special_tokens, *self._added_tokens_encoder))
        written = [token for token in kept if len(token) > 1 and token in text]
        for code, token in zip(_PLACEHOLDERS, written, strict=False):
            text = text.replace(token, chr(code))
        text = self._normalized(text)
        for code, token in zip(_PLACEHOLDERS, written, strict=False):
            text = text.replace(chr(code), token)
        return text

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

    def _convert_token_to_id(self, token: str) -> int:
        if token not in self._ids and self.unk_token is None:
            raise UnknownCharactersError(f"{token!r} is not in the vocabulary, which has no unk_token", {token: 1})
        return self._ids[token if token in self._ids else str(self.unk_token)]

    def _convert_token_to_id_with_added_voc(self, token: str) -> int:
        return self._convert_token_to_id(token)

    # ---- ids to text

    def _convert_id_to_token(self, index: int) -> str | None:
        """The token of an id. One that is no id reads as the unknown token, is counted and said once."""
        if index in self._tokens:
            return self._tokens[index]
        message = f"id {index} is not one of the {len(self._tokens)} tokens of the vocabulary"
        if self.strict:
            raise ValueError(message)
        self.unknown_id_counts[index] += 1
        self._warn_once("id", "%s: it reads as %s", message, self.unk_token or "nothing")
        return self.unk_token

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """One token for an id, a list for several. The word delimiter is not a special token."""
        if isinstance(ids, int):
            return self._convert_id_to_token(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._convert_id_to_token(int(index)) for index in ids if int(index) not in skipped]

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

    def batch_decode_labels(self, labels: Iterable[Any]) -> list[str]:
        """`decode_labels` for each row."""
        return [self.decode_labels(row) for row in labels]

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


def _text(token: Token, name: str) -> str | None:
    """A token as a string; Transformers' `AddedToken` gives its content."""
    if token is None or isinstance(token, str):
        return token
    content = getattr(token, "content", None)
    if not isinstance(content, str):
        raise ValueError(f"{name}={token!r}: must be a token of the vocabulary or None")
    return content


def _flat(token_ids: Any) -> list[int]:
    """Ids as a list of integers, from a list, an array, a tensor or one integer."""
    ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
    ids = [ids] if isinstance(ids, int) else list(ids)
    wrong = next((index for index in ids if not hasattr(index, "__index__")), None)
    if wrong is not None:
        what = "several sequences: use batch_decode" if isinstance(wrong, list | tuple) else f"{wrong!r}"
        raise ValueError(f"token_ids must be one sequence of integers, not {what}")
    return [int(index) for index in ids]
