"""Phonemes to ids, and CTC paths to phonemes: stock Transformers' `Wav2Vec2PhonemeCTCTokenizer`, with one id for each
logit."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from transformers.models.wav2vec2_phoneme.tokenization_wav2vec2_phoneme import Wav2Vec2PhonemeCTCTokenizerOutput

from wav2vec2.processing.espeak import phonemize
from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.processing.texts_and_paths import OneIdPerLogitTokenizer
from wav2vec2.processing.token_table import Token


class Wav2Vec2PhonemeCTCTokenizer(OneIdPerLogitTokenizer):
    """One token per phoneme. Text is turned into phonemes by espeak-ng (extra `phonemes`), in the language of the call:
    `tokenizer("bonjour", phonemizer_lang="fr-fr")`, which the next call does not inherit.

    >>> tokenizer = Wav2Vec2PhonemeCTCTokenizer({"<pad>": 0, "h": 1, "aɪ": 2}, unk_token=None, do_phonemize=False)
    >>> tokenizer("h aɪ").input_ids
    [1, 2]
    >>> tokenizer.decode([1, 1, 0, 2])
    'h aɪ'
    """

    saved_settings: ClassVar[tuple[str, ...]] = (
        *OneIdPerLogitTokenizer.saved_settings,
        "do_phonemize",
        "phonemizer_lang",
        "phonemizer_backend",
        "phone_delimiter_token",
    )

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | Mapping[str, Any],
        bos_token: Token = "<s>",
        eos_token: Token = "</s>",
        unk_token: Token = "<unk>",
        pad_token: Token = "<pad>",
        phone_delimiter_token: str = " ",
        word_delimiter_token: Token = None,
        do_phonemize: bool = True,
        phonemizer_lang: str = "en-us",
        phonemizer_backend: str = "espeak",
        strict: bool = False,
        normalization: TextNormalization | Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if phonemizer_backend != "espeak":
            raise ValueError(f"phonemizer_backend={phonemizer_backend!r}: only 'espeak' is there")
        if not phone_delimiter_token:
            raise ValueError("phone_delimiter_token must be at least one character, as ' '")
        self.phone_delimiter_token = phone_delimiter_token
        self.do_phonemize = do_phonemize
        self.phonemizer_lang = phonemizer_lang
        self.phonemizer_backend = phonemizer_backend
        super().__init__(
            vocab_file,
            bos_token=bos_token,
            eos_token=eos_token,
            unk_token=unk_token,
            pad_token=pad_token,
            word_delimiter_token=word_delimiter_token,
            target_lang=None,
            strict=strict,
            normalization=normalization,
            **kwargs,
        )
        own = ("phone_delimiter_token", "do_phonemize", "phonemizer_lang", "phonemizer_backend")
        self.init_kwargs |= {name: getattr(self, name) for name in own}

    def phonemize(self, text: str, phonemizer_lang: str | None = None) -> str:
        """The phonemes of a text, with `phone_delimiter_token` between them and the word delimiter, if the vocabulary
        has one, after each word."""
        words = phonemize(text.lower(), phonemizer_lang or self.phonemizer_lang)
        end = [] if self.word_delimiter_token is None else [self.word_delimiter_token]
        return self.phone_delimiter_token.join(phoneme for word in words for phoneme in (*word, *end))

    def _cut(
        self, text: str, phonemizer_lang: str | None = None, do_phonemize: bool | None = None, **kwargs: Any
    ) -> list[str]:
        if self.do_phonemize if do_phonemize is None else do_phonemize:
            text = self.phone_delimiter_token.join(self._phonemized(text, phonemizer_lang))
        return [phoneme.strip() for phoneme in text.split(self.phone_delimiter_token) if phoneme.strip()]

    def _phonemized(self, text: str, phonemizer_lang: str | None) -> Iterator[str]:
        """The phonemes between special and added tokens that are written out, and those as they are."""
        whole = [re.escape(token) for token in self._added_tokens_encoder if len(token) > 1]
        for place, part in enumerate(re.split(f"({'|'.join(whole)})", text) if whole else [text]):
            if part.strip():
                yield part if place % 2 else self.phonemize(part, phonemizer_lang)

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        output_char_offsets: bool = False,
        group_tokens: bool = True,
        filter_word_delimiter_token: bool = True,
        **kwargs: Any,
    ) -> Any:
        """The phonemes of a CTC path (T frames), one space between them. With offsets (in frames) an output with `text`
        and `char_offsets`."""
        hidden = self.word_delimiter_token if filter_word_delimiter_token else None
        pieces = [p for p in self.pieces(token_ids, group_tokens, skip_special_tokens) if p.token != hidden]
        text = " ".join(piece.token for piece in pieces).strip()
        clean_up = clean_up_tokenization_spaces
        if self.clean_up_tokenization_spaces if clean_up is None else clean_up:
            text = self.clean_up_tokenization(text)
        if not output_char_offsets:
            return text
        offsets = [{"char": piece.token, "start_offset": piece.start, "end_offset": piece.end} for piece in pieces]
        return Wav2Vec2PhonemeCTCTokenizerOutput(text=text, char_offsets=offsets)

    def convert_tokens_to_string(self, tokens: list[str], **kwargs: Any) -> dict[str, Any]:
        """`decode` for tokens instead of ids, as in stock Transformers: a dictionary with `text` and `char_offsets`."""
        output = self.decode([self._convert_token_to_id(token) for token in tokens], **kwargs)
        return {"text": output, "char_offsets": None} if isinstance(output, str) else dict(output)

    def settings(self) -> dict[str, Any]:
        """What goes into `tokenizer_config.json`. Delimiters are plain strings there, as in stock Transformers."""
        return super().settings() | {
            "word_delimiter_token": self.word_delimiter_token,
            "phone_delimiter_token": self.phone_delimiter_token,
            "do_phonemize": self.do_phonemize,
            "phonemizer_lang": self.phonemizer_lang,
            "phonemizer_backend": self.phonemizer_backend,
        }
