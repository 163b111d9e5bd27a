"""A tokenizer in a folder: `vocab.json` and `tokenizer_config.json`, from every release of stock Transformers and for
every one.

Stock gives ids to special tokens that are in no vocabulary and have no logit (`<s>` and `</s>` in most fine-tuned
models), so the same `vocab.json` may belong to a model of 33 or of 35 logits. `config.json` tells. The functions below
the class say which token each logit stands for, and which settings are to be believed.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from transformers import PreTrainedTokenizer
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.processing.tokenizer_files import (
    CONFIG_FILE,
    SETTINGS_FILE,
    VOCABULARY_FILE,
    TokenizerFileError,
    TokenizerFiles,
    read_chat_template,
    read_tokenizer_files,
    split_options,
    token_text,
    write_json,
)
from wav2vec2.processing.vocabulary import VocabularyError, check_token, check_tokens, is_nested, missing_ids

logger = logging.getLogger("wav2vec2")

#: Special tokens that CTC has no use for; whoever names them gets them.
NAMED_ELSEWHERE = ("cls_token", "sep_token", "mask_token")
#: Settings of any tokenizer of Transformers and their defaults, which are not written.
_OF_ANY_TOKENIZER = {"model_max_length": VERY_LARGE_INTEGER, "padding_side": "right", "truncation_side": "right"}
#: What stock takes for a special token that no file names, in the order in which it appends them.
_STOCK_DEFAULTS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "word_delimiter_token": "|",
}
#: CTC can do without these.
_NEEDLESS = ("bos_token", "eos_token")
#: Types of settings; all others are flags.
_TYPES: dict[str, type | tuple[type, ...]] = {
    "model_max_length": (int, float),
    "padding_side": str,
    "truncation_side": str,
    "normalization": dict,
    "target_lang": str,
    "replace_word_delimiter_char": str,
    "processor_class": str,
    "phonemizer_lang": str,
    "phonemizer_backend": str,
    "phone_delimiter_token": str,
}


class SavedAsStock(PreTrainedTokenizer):
    """The part of a tokenizer that loads and saves it; how it cuts texts and reads paths is left to its subclasses."""

    vocab_files_names: ClassVar[dict[str, str]] = {
        "vocab_file": VOCABULARY_FILE,
        "tokenizer_config_file": SETTINGS_FILE,
    }
    #: Settings beside the special tokens that `from_pretrained` takes from the files.
    saved_settings: ClassVar[tuple[str, ...]] = ("normalization", "clean_up_tokenization_spaces", *_OF_ANY_TOKENIZER)
    special_names: ClassVar[tuple[str, ...]] = (
        "bos_token",
        "eos_token",
        "unk_token",
        "pad_token",
        "word_delimiter_token",
    )
    #: The word delimiter that stock takes where no file names one.
    default_delimiter: ClassVar[str | None] = None

    vocab: Any
    encoder: dict[str, int]
    decoder: dict[int, str]
    normalization: TextNormalization
    unknown_counts: Counter[str]
    _word_delimiter_token: str | None

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *init_inputs: Any, **kwargs: Any
    ) -> Self:
        """Load from a folder or the Hub, whichever release saved it; other options override what is saved.

        Tokens without a logit, as stock adds them by itself, are left out; one that is asked for by name here is added.
        A `config.json` that contradicts the vocabulary (a token beyond the logits, another blank) is an error.
        """
        if init_inputs:
            raise TypeError("from_pretrained takes a folder or a name, and options by name")
        hub, overrides = split_options(kwargs)
        files = read_tokenizer_files(pretrained_model_name_or_path, hub)
        refuse_other_class(files, cls.__name__)
        options = saved_options(files, (*cls.special_names, *NAMED_ELSEWHERE), cls.saved_settings)
        options["chat_template"] = read_chat_template(files.source, files.settings.get("chat_template"), hub)
        options |= overrides
        vocabulary = files.vocabulary
        if not is_nested(vocabulary):
            specials = special_tokens_of_stock({"word_delimiter_token": cls.default_delimiter} | options)
            vocabulary = token_of_each_logit(files, specials, gaps=not options.get("strict"))
            absent = special_tokens_without_logit(files, vocabulary, specials)
            unnamed = [name for name in NAMED_ELSEWHERE if options.get(name) not in vocabulary]
            options |= {name: None for name in (*absent, *unnamed) if name not in overrides}
            if "extra_special_tokens" in options and "extra_special_tokens" not in overrides:
                options["extra_special_tokens"] = [t for t in options["extra_special_tokens"] if t in vocabulary]
        tokenizer = cls(vocabulary, **options, name_or_path=files.source)
        refuse_other_blank(files, tokenizer.decoder, str(tokenizer.pad_token))
        tokenizer._add_what_is_asked_for(overrides)
        return tokenizer

    def _add_what_is_asked_for(self, overrides: Mapping[str, Any]) -> None:
        """Add special tokens that the caller names and the vocabulary lacks."""
        for name in self.special_names:
            token = overrides.get(name)
            if token is None or str(token) in self.get_vocab():
                continue
            if name == "word_delimiter_token":
                self.add_tokens([token])
            else:
                self.add_special_tokens({name: token})

    def settings(self) -> dict[str, Any]:
        """What goes into `tokenizer_config.json`. Absent special tokens are written as null, so that stock adds none;
        `added_tokens_decoder` keeps it from reading older files that lie in the same folder. `strict` is not saved: it
        is how a program treats its texts."""
        named = {name: getattr(self, name) for name in self.special_names if name != "word_delimiter_token"}
        named |= {name: getattr(self, name) for name in NAMED_ELSEWHERE if getattr(self, name) is not None}
        saved: dict[str, Any] = {
            **named,
            "tokenizer_class": type(self).__name__,
            "clean_up_tokenization_spaces": bool(self.clean_up_tokenization_spaces),
            "added_tokens_decoder": self._added_tokens_as_saved(),
        }
        for name, default in _OF_ANY_TOKENIZER.items():
            if getattr(self, name) != default:
                saved[name] = getattr(self, name)
        if self.extra_special_tokens:
            saved["extra_special_tokens"] = [str(token) for token in self.extra_special_tokens]
        if self.normalization != TextNormalization():
            saved["normalization"] = self.normalization.to_dict()
        if self._processor_class is not None:
            saved["processor_class"] = self._processor_class
        return saved

    def _added_tokens_as_saved(self) -> dict[str, dict[str, Any]]:
        ids, special = self.get_vocab(), set(self.all_special_tokens)
        added = {token.content for index, token in self._added_tokens_decoder.items() if index not in self.decoder}
        flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
        listed = sorted((ids[token], token) for token in special | added if token in ids)
        return {str(index): {"content": token, **flags, "special": token in special} for index, token in listed}

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *args: Any,
        push_to_hub: bool = False,
        filename_prefix: str | None = None,
        save_jinja_files: bool = True,
        **kwargs: Any,
    ) -> tuple[str, ...]:
        """Write `vocab.json` and `tokenizer_config.json`, which stock loads with the same ids and nothing beyond, and
        chat templates, if there are any."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (f"{filename_prefix}-{SETTINGS_FILE}" if filename_prefix else SETTINGS_FILE)
        settings, templates = self.save_chat_templates(folder, self.settings(), filename_prefix, save_jinja_files)
        write_json(path, settings)
        saved = (str(path), *templates, *self.save_vocabulary(str(folder), filename_prefix))
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        return saved

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write `vocab.json` without the other files."""
        path = Path(save_directory) / (f"{filename_prefix}-{VOCABULARY_FILE}" if filename_prefix else VOCABULARY_FILE)
        write_json(path, self.vocab)
        return (str(path),)


def saved_options(files: TokenizerFiles, special_names: Iterable[str], setting_names: Iterable[str]) -> dict[str, Any]:
    """What the files say about special tokens and settings, each of the right type. Other settings are stock's own."""
    options: dict[str, Any] = {}
    for name in special_names:
        if name in files.settings:
            options[name] = token_text(files.settings[name], f"{files.source}: {name}") or None
    for name in (*setting_names, "processor_class"):
        value, kind = files.settings.get(name), _TYPES.get(name, bool)
        if value is not None and not isinstance(value, kind):
            kinds = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise TokenizerFileError(f"{files.source}: {SETTINGS_FILE}: {name}={value!r} must be of type {kinds}")
        if value is not None:
            options[name] = value
    if extra := _extra_special_tokens(files, options):
        options["extra_special_tokens"] = extra
    return options


def _extra_special_tokens(files: TokenizerFiles, options: Mapping[str, Any]) -> list[str]:
    """Those beside the named ones, which older releases called additional and wrote twice."""
    listed: list[str] = []
    for name in ("extra_special_tokens", "additional_special_tokens"):
        written = files.settings.get(name)
        for value in written if isinstance(written, list) else []:
            token = token_text(value, f"{files.source}: {name}")
            if token and token not in (*listed, *(value for value in options.values() if isinstance(value, str))):
                listed.append(token)
    return listed


def refuse_other_class(files: TokenizerFiles, wanted: str) -> None:
    """Characters read as phonemes, or the other way round, would give text without or with spaces."""
    named = files.settings.get("tokenizer_class")
    if named != wanted and named in ("Wav2Vec2CTCTokenizer", "Wav2Vec2PhonemeCTCTokenizer"):
        raise TokenizerFileError(f"{files.source}: its tokenizer is a {named}, not a {wanted}")


def special_tokens_of_stock(options: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that stock would have, by name, in the order in which it appends them."""
    named = {name: options.get(name, default) for name, default in _STOCK_DEFAULTS.items()}
    return {name: str(token) for name, token in named.items() if token}


def special_tokens_without_logit(
    files: TokenizerFiles, vocabulary: Mapping[str, int], specials: Mapping[str, str]
) -> list[str]:
    """Names of those that no logit stands for. Said aloud where text depends on them. A vocabulary without its blank
    has no logits yet: then the unknown token comes with the blank."""
    complete = specials.get("pad_token") in vocabulary
    names = ("unk_token", "word_delimiter_token") if complete else ("word_delimiter_token",)
    absent = [name for name in names if specials.get(name) not in (None, *vocabulary)]
    for name in absent:
        logger.warning("%s: %s=%r has no logit and is not used", files.source, name, specials[name])
    return absent


def _is_ctc(config: Mapping[str, Any]) -> bool:
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith("ForCTC") for name in names)


def _logits_of(config: Mapping[str, Any]) -> int | None:
    """How many logits a CTC model has by its `config.json`; None for other models, or when it does not say."""
    size = config.get("vocab_size")
    return size if _is_ctc(config) and isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def refuse_other_blank(files: TokenizerFiles, token_of: Mapping[int, str], blank: str) -> None:
    """The model's blank, `config.pad_token_id`, must be the tokenizer's."""
    index = files.config.get("pad_token_id")
    if not _is_ctc(files.config) or not isinstance(index, int) or token_of.get(index) == blank:
        return
    there = repr(token_of[index]) if index in token_of else "no token"
    own = next((index for index, token in token_of.items() if token == blank), "behind them all")
    raise VocabularyError(
        f"{files.source}: {CONFIG_FILE} says pad_token_id={index}, the CTC blank of the model, but that is {there}; "
        f"the tokenizer's blank {blank!r} has the id {own}"
    )


def token_of_each_logit(files: TokenizerFiles, special_tokens: Mapping[str, str], *, gaps: bool) -> dict[str, int]:
    """One token per logit, from a flat vocabulary. Logits that no token names are said if `gaps`, else refused.

    Stock appends to `vocab.json` the added tokens, then every special token that is still missing, each with the next
    id. How many of them have a logit is `config.json`'s `vocab_size`; without it, all but trailing `<s>` and `</s>`.
    """
    token_of = _named_tokens(files)
    own_ids = set(files.vocabulary.values())
    needless = {special_tokens.get(name) for name in _NEEDLESS}
    needed = [index for index, token in token_of.items() if index in own_ids or token not in needless]
    for token in special_tokens.values():
        if token not in token_of.values():
            token_of.setdefault(len(token_of), token)
    logits = _logits_of(files.config) or 1 + max(needed)
    _refuse_tokens_beyond(files, logits)
    dropped = sorted(token for index, token in token_of.items() if index >= logits)
    if dropped:
        level = logging.INFO if {*dropped} <= {*special_tokens.values()} else logging.WARNING
        logger.log(level, "%s: tokens without a logit are left out: %s", files.source, ", ".join(dropped))
    missing = missing_ids(token_of, logits)
    if missing and not gaps:
        raise VocabularyError(f"{files.source}: {missing}, but there must be one for each of the {logits} logits")
    found = {token_of[index]: index for index in sorted(token_of) if index < logits}
    if 1 + max(found.values(), default=-1) < logits:  # others are said with the vocabulary
        logger.warning("%s: %s, of %d logits: they decode to the unknown token", files.source, missing, logits)
    return found


def _named_tokens(files: TokenizerFiles) -> dict[int, str]:
    """Tokens by id, of `vocab.json` and the added ones."""
    check_tokens(files.vocabulary, f"{files.source}: {VOCABULARY_FILE}")
    token_of: dict[int, str] = {}
    for token, index in files.vocabulary.items():
        _own(token_of, index, token, files.source)
    for index, token in sorted(files.added.items()):
        check_token(token, files.source)
        here = files.vocabulary.get(token, index)
        if here != index:
            raise VocabularyError(
                f"{files.source}: {token!r} has the id {here} in {VOCABULARY_FILE} and {index} among the added tokens"
            )
        _own(token_of, index, token, files.source)
    return token_of


def _own(token_of: dict[int, str], index: int, token: str, source: str) -> None:
    if token_of.setdefault(index, token) != token:
        raise VocabularyError(f"{source}: {token_of[index]!r} and {token!r} share the id {index}")


def _refuse_tokens_beyond(files: TokenizerFiles, logits: int) -> None:
    beyond = sorted((index, token) for token, index in files.vocabulary.items() if index >= logits)
    if beyond:
        raise VocabularyError(
            f"{files.source}: {CONFIG_FILE} says vocab_size={logits}, but {VOCABULARY_FILE} has "
            f"{len(files.vocabulary)} tokens: no logit for {', '.join(token for _, token in beyond[:5])}. The two are "
            "from different runs, or the model's head must be resized"
        )
