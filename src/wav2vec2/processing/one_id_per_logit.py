"""What both tokenizers share: one id for each logit, nothing beyond, files as stock's, CTC paths and labels apart.

The base is Transformers' `PreTrainedTokenizer`, because pipelines, `ProcessorMixin` and `Trainer` ask for one and its
`__call__` and `pad` are right. Its added tokens are not: they give ids to tokens that no logit stands for. So loading
and saving, adding, cutting and decoding are this package's.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from transformers import PreTrainedTokenizer

from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.processing.tokenizer_files import (
    SETTINGS_FILE,
    VOCABULARY_FILE,
    read_json,
    read_tokenizer_files,
    split_options,
    write_json,
)
from wav2vec2.processing.tokenizer_layouts import (
    is_nested,
    refuse_other_blank,
    refuse_other_class,
    saved_options,
    special_tokens_of_stock,
    special_tokens_without_logit,
    token_of_each_logit,
)
from wav2vec2.processing.unknown_characters import UnknownCharactersError, unknown_characters
from wav2vec2.processing.vocabulary import VocabularyError, tokens_by_id

#: The padding of labels: in no loss, and never decoded.
IGNORED = -100
#: Options that `PreTrainedTokenizer` itself knows.
_OPTIONS_OF_TRANSFORMERS = (
    "clean_up_tokenization_spaces",
    "extra_special_tokens",
    "model_max_length",
    "name_or_path",
    "padding_side",
    "processor_class",
    "truncation_side",
    "verbose",
)
#: Noncharacters of Unicode, which no text holds, stand for special tokens while a text is normalised.
_PLACEHOLDERS = range(0xFDD0, 0xFDF0)


class Piece(NamedTuple):
    """A token of a decoded path and the frames it was seen in, end exclusive."""

    token: str
    start: int
    end: int


class OneIdPerLogitTokenizer(PreTrainedTokenizer):
    """A vocabulary of exactly one token per logit, strict about everything that it has no token for."""

    vocab_files_names: ClassVar[dict[str, str]] = {
        "vocab_file": VOCABULARY_FILE,
        "tokenizer_config_file": SETTINGS_FILE,
    }
    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]
    #: Settings beside the special tokens that `from_pretrained` takes from the files.
    saved_settings: ClassVar[tuple[str, ...]] = ("strict", "normalization", "clean_up_tokenization_spaces")
    special_names: ClassVar[tuple[str, ...]] = ("bos_token", "eos_token", "unk_token", "pad_token")

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | Mapping[str, Any],
        *,
        bos_token: Any,
        eos_token: Any,
        unk_token: Any,
        pad_token: Any,
        word_delimiter_token: Any,
        target_lang: str | None,
        strict: bool,
        normalization: TextNormalization | Mapping[str, str] | None,
        **kwargs: Any,
    ) -> None:
        if unknown := sorted(set(kwargs) - set(_OPTIONS_OF_TRANSFORMERS)):
            raise TypeError(f"{type(self).__name__} has no option {', '.join(unknown)}")
        self._source = "vocabulary" if isinstance(vocab_file, Mapping) else str(vocab_file)
        #: The vocabulary as it is saved: flat, or one per language.
        self.vocab: Any = dict(vocab_file) if isinstance(vocab_file, Mapping) else read_json(vocab_file, True)
        self.target_lang = target_lang
        self.strict = strict
        if normalization is not None and not isinstance(normalization, TextNormalization):
            normalization = TextNormalization.from_dict(normalization)
        self.normalization = normalization or TextNormalization()
        self.unknown_counts: Counter[str] = Counter()
        specials = {"bos_token": bos_token, "eos_token": eos_token, "unk_token": unk_token, "pad_token": pad_token}
        tokens = {name: _text(token, name) for name, token in specials.items()}
        self._word_delimiter_token = _text(word_delimiter_token, "word_delimiter_token") or None
        self._use(self._language_vocabulary(target_lang))
        for name in ("bos_token", "eos_token", "unk_token"):  # CTC needs none of them, and none is ever added
            if tokens[name] not in self.encoder:
                tokens[name] = None
        self._check_specials(tokens)
        super().__init__(**tokens, **kwargs)

    def _language_vocabulary(self, language: str | None) -> dict[str, int]:
        if not is_nested(self.vocab):
            if language is not None:
                raise VocabularyError(
                    f"target_lang={language!r}: {self._source} has one vocabulary, not one per language"
                )
            return _numbered(self.vocab, self._source)
        known = ", ".join(sorted(map(str, self.vocab))[:20]) + (", …" if len(self.vocab) > 20 else "")
        if language not in self.vocab:
            asked = (
                "choose one with target_lang=" if language is None else f"target_lang={language!r} is not among them"
            )
            raise VocabularyError(f"{self._source} has vocabularies for {len(self.vocab)} languages: {asked} ({known})")
        return _numbered(self.vocab[language], f"{self._source}, language {language!r}")

    def _use(self, vocabulary: dict[str, int]) -> None:
        """Make this the vocabulary. Called before and after `PreTrainedTokenizer.__init__`."""
        self.encoder = vocabulary
        self.decoder = {index: token for token, index in vocabulary.items()}
        by_first: dict[str, set[int]] = {}
        for token in vocabulary:
            if len(token) > 1:
                by_first.setdefault(token[0], set()).add(len(token))
        self._long_tokens = {first: sorted(lengths, reverse=True) for first, lengths in by_first.items()}

    def _check_specials(self, tokens: Mapping[str, str | None]) -> None:
        blank, unknown, delimiter = tokens["pad_token"], tokens["unk_token"], self._word_delimiter_token
        if blank not in self.encoder:
            alike = [token for token in self.encoder if token.strip("<[|]>").lower() in ("pad", "blank", "ctc_blank")]
            there = f"; it has {alike[0]!r}: pass pad_token={alike[0]!r}" if alike else ""
            raise VocabularyError(f"pad_token={blank!r}, the CTC blank, is not in {self._source}{there}")
        if delimiter is not None and delimiter not in self.encoder and not is_nested(self.vocab):
            raise VocabularyError(
                f"word_delimiter_token={delimiter!r} is not in {self._source}: name the token for the space between "
                "words, or None for a script without"
            )
        if blank in (unknown, delimiter) or (delimiter is not None and delimiter == unknown):
            raise VocabularyError(
                f"pad_token={blank!r}, unk_token={unknown!r} and word_delimiter_token={delimiter!r} must differ"
            )

    # ---- the vocabulary

    @property
    def vocab_size(self) -> int:
        """The number of tokens: of logits, of ids, `len(tokenizer)`."""
        return len(self.encoder)

    def __len__(self) -> int:
        return len(self.encoder)

    def get_vocab(self) -> dict[str, int]:
        """Tokens and ids."""
        return dict(self.encoder)

    @property
    def tokens(self) -> list[str]:
        """The tokens in the order of their ids, as a decoder wants them."""
        return [self.decoder[index] for index in range(len(self.decoder))]

    @property
    def blank(self) -> str:
        """The CTC blank, which stock calls the pad token."""
        return str(self.pad_token)

    @property
    def blank_id(self) -> int:
        """The id of the blank: a model's `config.pad_token_id`."""
        return self.encoder[self.blank]

    @property
    def word_delimiter_token(self) -> str | None:
        """The token between words; None in a script without, or in a language of a nested vocabulary without."""
        return self._word_delimiter_token if self._word_delimiter_token in self.encoder else None

    @property
    def word_delimiter_token_id(self) -> int | None:
        """Its id."""
        return None if self.word_delimiter_token is None else self.encoder[self.word_delimiter_token]

    def _add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Mark tokens that are there. One that is not would get an id without a logit."""
        missing = [str(token) for token in new_tokens if str(token) not in self.encoder]
        if missing:
            raise VocabularyError(
                f"{', '.join(map(repr, missing))}: no logit stands for an added token; make a tokenizer with a larger "
                "vocabulary, and a model with as many logits"
            )
        return int(super()._add_tokens(new_tokens, special_tokens))

    # ---- text to ids

    def normalize(self, text: str) -> str:
        """The text as it is cut into tokens. Special tokens that are written out stay as they are."""
        if not isinstance(text, str):
            raise ValueError(f"text must be a string, it is {type(text).__name__}")
        written = [token for token in self.all_special_tokens if len(token) > 1 and token in text]
        for code, token in zip(_PLACEHOLDERS, written, strict=False):
            text = text.replace(token, chr(code))
        text = self._normalized(text)
        for code, token in zip(_PLACEHOLDERS, written, strict=False):
            text = text.replace(chr(code), token)
        return text

    def _normalized(self, text: str) -> str:
        return self.normalization(text)

    def _cut(self, text: str) -> list[str]:
        """Pieces of a normalised text, which may be unknown."""
        raise NotImplementedError

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """The tokens of a text. A piece that is unknown, or the blank, is an error that names it; with `strict=False`
        it is counted in `unknown_counts` and becomes `unk_token`, or is left out where the vocabulary has none."""
        text = self.normalize(text)
        pieces = self._cut(text, **kwargs)
        odd = {piece for piece in set(pieces) if piece not in self.encoder or piece == self.blank}
        if not odd:
            return pieces
        unknown = Counter(piece for piece in pieces if piece in odd)
        if self.strict:
            raise unknown_characters(text, unknown, self.encoder)
        self.unknown_counts.update(unknown)
        replaced = [self.unk_token if piece in unknown else piece for piece in pieces]
        return [piece for piece in replaced if piece is not None]

    def _encode_plus(self, text: Any, *args: Any, is_split_into_words: bool = False, **kwargs: Any) -> Any:
        if is_split_into_words:  # words are joined by the delimiter; stock glues them together
            text = " ".join(text) if text and isinstance(text[0], str) else [" ".join(words) for words in text]
        return super()._encode_plus(text, *args, **kwargs)

    def _convert_token_to_id(self, token: str) -> int:
        if token not in self.encoder and self.unk_token is None:
            raise UnknownCharactersError(f"{token!r} is not in the vocabulary, which has no unk_token", {token: 1})
        return self.encoder[token if token in self.encoder else str(self.unk_token)]

    def _convert_token_to_id_with_added_voc(self, token: str) -> int:
        return self._convert_token_to_id(token)

    # ---- ids to text

    def _convert_id_to_token(self, index: int) -> str:
        if index not in self.decoder:
            raise ValueError(f"id {index} is not one of the {len(self.decoder)} tokens of the vocabulary")
        return self.decoder[index]

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
        ids = _flat(token_ids)
        repeats = [(index, len(list(same))) for index, same in groupby(ids)] if group_tokens else [(i, 1) for i in ids]
        skipped = {self.blank_id, IGNORED, *(self.all_special_ids if skip_special_tokens else ())}
        found, frame = [], 0
        for index, count in repeats:
            if index not in skipped:
                found.append(Piece(self._convert_id_to_token(index), frame, frame + count))
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

    # ---- files

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *init_inputs: Any, **kwargs: Any) -> Self:
        """Load from a folder or the Hub, whichever release saved it; other options override what is saved.

        Tokens without a logit, as stock adds them, are left out. A `config.json` that contradicts the vocabulary (the
        number of logits, the id of the blank) is an error.
        """
        if init_inputs:
            raise TypeError("from_pretrained takes a folder or a name, and options by name")
        hub, overrides = split_options(kwargs)
        files = read_tokenizer_files(pretrained_model_name_or_path, hub)
        refuse_other_class(files, cls.__name__)
        options = saved_options(files, cls.special_names, cls.saved_settings) | overrides
        vocabulary = files.vocabulary
        if not is_nested(vocabulary):
            vocabulary = token_of_each_logit(files, special_tokens_of_stock(options, cls.special_names))
            absent = special_tokens_without_logit(files, vocabulary, options, cls.special_names)
            options |= {name: None for name in absent if name not in overrides}
        tokenizer = cls(vocabulary, **options, name_or_path=files.source)
        tokenizer._source = files.source
        refuse_other_blank(files, tokenizer.tokens, tokenizer.blank)
        return tokenizer

    def settings(self) -> dict[str, Any]:
        """What goes into `tokenizer_config.json`. Absent special tokens are written as null, so that stock adds none;
        `added_tokens_decoder` keeps it from reading older files that lie in the same folder."""
        named = {name: getattr(self, name) for name in self.special_names if name != "word_delimiter_token"}
        present = {self.encoder[token]: token for token in named.values() if token is not None}
        flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
        saved: dict[str, Any] = {
            **named,
            "tokenizer_class": type(self).__name__,
            "clean_up_tokenization_spaces": bool(self.clean_up_tokenization_spaces),
            "added_tokens_decoder": {str(index): {"content": present[index], **flags} for index in sorted(present)},
        }
        if self.normalization != TextNormalization():
            saved["normalization"] = self.normalization.to_dict()
        if not self.strict:
            saved["strict"] = False
        if self._processor_class is not None:
            saved["processor_class"] = self._processor_class
        return saved

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> tuple[str, ...]:
        """Write `vocab.json` and `tokenizer_config.json`, which stock loads with the same ids and nothing beyond."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / SETTINGS_FILE
        write_json(settings, self.settings())
        saved = (str(settings), *self.save_vocabulary(str(folder)))
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        return saved

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write `vocab.json` alone."""
        path = Path(save_directory) / (f"{filename_prefix}-{VOCABULARY_FILE}" if filename_prefix else VOCABULARY_FILE)
        write_json(path, self.vocab)
        return (str(path),)


def _numbered(vocabulary: Any, source: str) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens_by_id(vocabulary, source))}


def _text(token: Any, name: str) -> str | None:
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
