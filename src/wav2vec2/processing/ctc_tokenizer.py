"""Characters to ids, and CTC paths to text: stock Transformers' `Wav2Vec2CTCTokenizer`, with one id for each logit."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from transformers.models.wav2vec2.tokenization_wav2vec2 import Wav2Vec2CTCTokenizerOutput

from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.processing.texts_and_paths import OneIdPerLogitTokenizer, Piece
from wav2vec2.processing.token_table import Token
from wav2vec2.processing.vocabulary import Vocabulary, VocabularyError, letter_case

Offset = dict[str, str | int]


class Wav2Vec2CTCTokenizer(OneIdPerLogitTokenizer):
    """One token per character (or per longer token of the vocabulary, longest first). A space is the word delimiter,
    which may also be written as itself.

    `decode` reads CTC paths, `decode_labels` labels. A character without a token becomes the unknown token, is counted
    in `unknown_counts` and said once; `strict=True` refuses it by name. `do_lower_case=True` takes text of any case to
    the vocabulary's and gives lower-case text back (stock upper-cases whatever the vocabulary).

    >>> tokenizer = Wav2Vec2CTCTokenizer({"<pad>": 0, "|": 1, "a": 2, "b": 3}, unk_token=None)
    >>> tokenizer("ab b").input_ids
    [2, 3, 1, 3]
    >>> tokenizer.decode([2, 2, 0, 2, 1, 3, 3]), tokenizer.decode_labels([2, 2, 1, 3, 3])
    ('aa b', 'aa bb')
    """

    default_delimiter: ClassVar[str | None] = "|"
    saved_settings: ClassVar[tuple[str, ...]] = (
        *OneIdPerLogitTokenizer.saved_settings,
        "do_lower_case",
        "target_lang",
        "replace_word_delimiter_char",
    )

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | Mapping[str, Any],
        bos_token: Token = "<s>",
        eos_token: Token = "</s>",
        unk_token: Token = "<unk>",
        pad_token: Token = "<pad>",
        word_delimiter_token: Token = "|",
        replace_word_delimiter_char: str = " ",
        do_lower_case: bool = False,
        target_lang: str | None = None,
        strict: bool = False,
        normalization: TextNormalization | Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.replace_word_delimiter_char = replace_word_delimiter_char
        self.do_lower_case = do_lower_case
        super().__init__(
            vocab_file,
            bos_token=bos_token,
            eos_token=eos_token,
            unk_token=unk_token,
            pad_token=pad_token,
            word_delimiter_token=word_delimiter_token,
            target_lang=target_lang,
            strict=strict,
            normalization=normalization,
            **kwargs,
        )
        self.init_kwargs |= {"replace_word_delimiter_char": replace_word_delimiter_char, "do_lower_case": do_lower_case}

    @classmethod
    def from_vocabulary(cls, vocabulary: Vocabulary, **kwargs: Any) -> Self:
        """A tokenizer for what `build_vocabulary` found, with its normalisation."""
        return cls(
            vocabulary.tokens,
            pad_token=vocabulary.blank,
            unk_token=vocabulary.unknown,
            word_delimiter_token=vocabulary.word_delimiter,
            normalization=vocabulary.normalization,
            **kwargs,
        )

    def set_target_lang(self, target_lang: str) -> None:
        """Change to another language of a nested vocabulary: wholly, or not at all."""
        if target_lang is None:
            raise VocabularyError("target_lang must be the name of a language")
        vocabulary = self._language_vocabulary(target_lang)
        lost = [token for token in self.all_special_tokens if token not in vocabulary]
        if lost and self.strict:
            raise VocabularyError(f"{self._source}, language {target_lang!r}: no {', '.join(lost)} in its vocabulary")
        ordinary = [token for token in self._added_tokens_encoder if token not in self.all_special_tokens]
        self._added_tokens_decoder.clear()
        self._added_tokens_encoder.clear()
        self._use(vocabulary)
        for name, token in self._special_tokens_of_vocabulary().items():
            setattr(self, name, token)
        self._add_tokens(self.all_special_tokens, special_tokens=True)
        self._add_tokens(ordinary)
        self.target_lang = target_lang

    def _case(self) -> str | None:
        return letter_case(self.encoder) if self.do_lower_case else None

    def _normalized(self, text: str) -> str:
        text, case = super()._normalized(text), self._case()
        return text if case is None else text.lower() if case == "lower" else text.upper()

    def _cut(self, text: str, **kwargs: Any) -> list[str]:
        """Longest token first; a space is the delimiter. Stock eats spaces round longer tokens, which glues words."""
        longer = any(first in text for first in self._long_tokens)
        pieces = self._longest_tokens(text) if longer else list(text)
        delimiter = self.word_delimiter_token
        return pieces if delimiter is None else [delimiter if piece == " " else piece for piece in pieces]

    def _longest_tokens(self, text: str) -> list[str]:
        pieces, at = [], 0
        while at < len(text):
            lengths = self._long_tokens.get(text[at], ())
            piece = next((text[at : at + n] for n in lengths if text[at : at + n] in self._ids), text[at])
            at += len(piece)
            pieces.append(piece)
        return pieces

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The text of a CTC path (T frames): repeats once, no blanks. With offsets (in frames) an output with `text`,
        `char_offsets` and `word_offsets`, as in stock."""
        pieces = [self._shown(piece) for piece in self.pieces(token_ids, group_tokens, skip_special_tokens)]
        text = (" " if spaces_between_special_tokens else "").join(piece.token for piece in pieces).strip()
        clean_up = clean_up_tokenization_spaces
        if self.clean_up_tokenization_spaces if clean_up is None else clean_up:
            text = self.clean_up_tokenization(text)
        if not (output_char_offsets or output_word_offsets):
            return text
        offsets: list[Offset] = [{"char": p.token, "start_offset": p.start, "end_offset": p.end} for p in pieces]
        words = self._get_word_offsets(offsets, self.replace_word_delimiter_char) if output_word_offsets else None
        characters = offsets if output_char_offsets else None
        return Wav2Vec2CTCTokenizerOutput(text=text, char_offsets=characters, word_offsets=words)

    def _shown(self, piece: Piece) -> Piece:
        if piece.token == self.word_delimiter_token:
            return piece._replace(token=self.replace_word_delimiter_char)
        return piece._replace(token=piece.token.lower()) if self.do_lower_case else piece

    @staticmethod
    def _get_word_offsets(offsets: list[Offset], word_delimiter_char: str = " ") -> list[Offset]:
        """Characters and their frames to words and theirs. The stock pipeline calls it by this name."""
        words: list[Offset] = []
        inside = False
        for offset in offsets:
            if offset["char"] == word_delimiter_char:
                inside = False
            elif inside:
                words[-1]["word"] = f"{words[-1]['word']}{offset['char']}"
                words[-1]["end_offset"] = offset["end_offset"]
            else:
                start, end = offset["start_offset"], offset["end_offset"]
                words.append({"word": offset["char"], "start_offset": start, "end_offset": end})
                inside = True
        return words

    def convert_tokens_to_string(self, tokens: list[str], **kwargs: Any) -> dict[str, Any]:
        """`decode` for tokens instead of ids, as in stock Transformers: a dictionary with `text`, `char_offsets` and
        `word_offsets`."""
        options = {"output_char_offsets": False, "output_word_offsets": False, **kwargs}
        output = self.decode([self._convert_token_to_id(token) for token in tokens], **options)
        empty: dict[str, Any] = {"text": output, "char_offsets": None, "word_offsets": None}
        return empty if isinstance(output, str) else {**empty, **output}

    def settings(self) -> dict[str, Any]:
        """Of a lower-case vocabulary `do_lower_case` is saved as the normalisation `case="lower"`: stock would read the
        flag as upper case and know none of its letters. A delimiter other than "|" is written as an added token,
        because stock takes a plain string for a special token and then uses "|"; no delimiter is the empty one."""
        saved = super().settings()
        delimiter = self._word_delimiter_token or ""
        flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": False}
        written = delimiter if delimiter == "|" else {"__type": "AddedToken", "content": delimiter, **flags}
        if self._case() == "lower":
            saved["normalization"] = dataclasses.replace(self.normalization, case="lower").to_dict()
        return saved | {
            "do_lower_case": self._case() == "upper",
            "word_delimiter_token": written,
            "replace_word_delimiter_char": self.replace_word_delimiter_char,
            "target_lang": self.target_lang,
        }
