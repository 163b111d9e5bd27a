"""The table of a tokenizer's tokens: one id for each logit, and nothing beyond.

The base is Transformers' `PreTrainedTokenizer`, because pipelines, `ProcessorMixin` and `Trainer` ask for one and its
`__call__` and `pad` are right. Its added tokens are not: it gives ids to tokens that nobody asked for and no logit
stands for. So loading and saving, adding, cutting and decoding are this package's.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from transformers import AddedToken

from wav2vec2.processing.saved_as_stock import SavedAsStock
from wav2vec2.processing.slot_marks import marks_of, slots_of_vocabulary
from wav2vec2.processing.text_normalization import TextNormalization, shorten
from wav2vec2.processing.tokenizer_files import read_json
from wav2vec2.processing.vocabulary import (
    UnknownCharactersError,
    VocabularyError,
    is_nested,
    missing_ids,
    numbered,
)

logger = logging.getLogger("wav2vec2")

#: A special token as stock Transformers takes it.
Token: TypeAlias = str | AddedToken | None
#: Options that Transformers' tokenizers and processors know.
_KNOWN_OPTIONS = (
    "additional_special_tokens backend chat_control_tokens chat_template clean_up_tokenization_spaces do_lower_case "
    "extra_special_tokens files_loaded max_len max_length model_input_names model_max_length "
    "model_specific_special_tokens name_or_path pad_to_multiple_of padding padding_side processor_class "
    "response_template special_tokens_pattern split_special_tokens tokenizer_class truncation truncation_side verbose"
)


class TokenTable(SavedAsStock):
    """A vocabulary of one token per logit: its special tokens, its languages if it has several, the id of each token
    and the token of each id. An id without a token is counted and said once; `strict=True` refuses it."""

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
        #: Those that mark where a slot begins and ends.
        self.marks = marks_of(slots_of_vocabulary(self._ids))

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

    def _convert_token_to_id(self, token: str) -> int:
        if token not in self._ids and self.unk_token is None:
            raise UnknownCharactersError(f"{token!r} is not in the vocabulary, which has no unk_token", {token: 1})
        return self._ids[token if token in self._ids else str(self.unk_token)]

    def _convert_token_to_id_with_added_voc(self, token: str) -> int:
        return self._convert_token_to_id(token)

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


def _text(token: Token, name: str) -> str | None:
    """A token as a string; Transformers' `AddedToken` gives its content."""
    if token is None or isinstance(token, str):
        return token
    content = getattr(token, "content", None)
    if not isinstance(content, str):
        raise ValueError(f"{name}={token!r}: must be a token of the vocabulary or None")
    return content
