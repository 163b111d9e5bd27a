"""A tokenizer in a folder: `vocab.json` and `tokenizer_config.json`, from every release of stock and for every one."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from transformers import PreTrainedTokenizer
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from wav2vec2.processing.chat_templates import read_chat_template
from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.processing.tokenizer_files import (
    SETTINGS_FILE,
    VOCABULARY_FILE,
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

#: Special tokens that CTC has no use for; whoever names them gets them.
NAMED_ELSEWHERE = ("cls_token", "sep_token", "mask_token")
#: Settings of any tokenizer of Transformers and their defaults, which are not written.
_OF_ANY_TOKENIZER = {"model_max_length": VERY_LARGE_INTEGER, "padding_side": "right", "truncation_side": "right"}


class SavedAsStock(PreTrainedTokenizer):
    """Loading and saving. What a tokenizer is, its subclasses say."""

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
    #: The word delimiter of stock's, where no file names one.
    default_delimiter: ClassVar[str | None] = None

    vocab: Any
    encoder: dict[str, int]
    decoder: dict[int, str]
    normalization: TextNormalization
    unknown_counts: Counter[str]
    _word_delimiter_token: str | None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *init_inputs: Any, **kwargs: Any) -> Self:
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
        """Special tokens that the vocabulary lacks and the caller names."""
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
        added = {token for index, token in self._contents_of_added_tokens().items() if index not in self.decoder}
        flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
        listed = sorted((ids[token], token) for token in special | added if token in ids)
        return {str(index): {"content": token, **flags, "special": token in special} for index, token in listed}

    def _contents_of_added_tokens(self) -> dict[int, str]:
        return {index: token.content for index, token in self._added_tokens_decoder.items()}

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
        """Write `vocab.json` alone."""
        path = Path(save_directory) / (f"{filename_prefix}-{VOCABULARY_FILE}" if filename_prefix else VOCABULARY_FILE)
        write_json(path, self.vocab)
        return (str(path),)
