"""Switching the language of an MMS model: adapters, head and vocabulary change together, or nothing does."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wav2vec2.files.hub_files import local_path
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.modeling.transformer_encoder import Wav2Vec2AttnAdapterLayer


class LanguageSwitch(Wav2Vec2PreTrainedModel):
    """A model with a head over tokens, `lm_head`, that changes its language if its layers have language adapters."""

    lm_head: nn.Linear

    #: The language whose adapters are in place, if one was chosen.
    target_lang: str | None = None

    def set_language(self, language: str, tokenizer: Any = None, **hub_options: Any) -> None:
        """Load `adapter.<language>.safetensors` (or `.bin`) from the model's own folder or repository.

        Everything is read and checked first: names, shapes, and against `vocab.json` the number of tokens. A
        `tokenizer` with `set_target_lang` switches too. If anything does not fit, `CheckpointError` or `ValueError`
        says what, and model and tokenizer are as they were.
        """
        if self.config.adapter_attn_dim is None:
            raise ValueError(
                f"set_language({language!r}): this model has no language adapters (adapter_attn_dim is None)"
            )
        if not language or Path(language).name != language:
            raise ValueError(f"{language!r} is not the name of a language, as 'eng' or 'fra'")
        source = self.config._name_or_path
        tensors, file = _read_adapter(source, language, hub_options)
        current = language_parameters(self)
        _check_fit(file, tensors, current)
        tokens = tensors["lm_head.weight"].shape[0]
        blank = self.config.pad_token_id
        if blank is None or blank >= tokens:
            raise ValueError(f"pad_token_id={blank}: the CTC blank must be one of the {tokens} tokens of {language!r}")
        _check_vocabulary(source, language, tokens, hub_options)
        if tokenizer is not None:
            _compare_sizes("the tokenizer", getattr(tokenizer, "vocab", {}), language, tokens)
            tokenizer.set_target_lang(language)
        self._put_in_place(tensors, current, tokens)
        self.target_lang = language

    def load_adapter(self, target_lang: str, force_load: bool = True, **options: Any) -> Any:
        """The name that stock Transformers has for `set_language`, with its `use_safetensors` to choose between two
        files. With a `peft_config` or `adapter_name` it loads a PEFT adapter instead."""
        if "adapter_name" in options or "peft_config" in options:
            return super().load_adapter(target_lang, **options)
        if force_load or target_lang != self.target_lang:
            self.set_language(target_lang, **options)
        return None

    def _get_adapters(self) -> dict[str, nn.Parameter]:
        """Stock's name for the parameters of one language, which scripts save as `adapter.<language>.safetensors`."""
        if self.config.adapter_attn_dim is None:
            raise ValueError("this model has no language adapters (adapter_attn_dim is None)")
        return language_parameters(self)

    def init_adapter_layers(self) -> None:
        """Start every language adapter and the head afresh, whatever was loaded into them."""
        for module in self.modules():
            if isinstance(module, Wav2Vec2AttnAdapterLayer) or module is self.lm_head:
                self.start_afresh(module)

    def _put_in_place(self, tensors: dict[str, Tensor], current: dict[str, nn.Parameter], tokens: int) -> None:
        if tokens != self.lm_head.out_features:
            old = self.lm_head.weight
            self.lm_head = nn.Linear(old.shape[1], tokens, device=old.device, dtype=old.dtype)
            self.config.vocab_size = tokens
            current = language_parameters(self)
        with torch.no_grad():
            for name, tensor in tensors.items():
                current[name].copy_(tensor)


def language_parameters(model: LanguageSwitch) -> dict[str, nn.Parameter]:
    """The parameters of one language: all adapters and the head, by name."""
    parameters = {
        f"{prefix}.{name}": parameter
        for prefix, module in model.named_modules()
        if isinstance(module, Wav2Vec2AttnAdapterLayer)
        for name, parameter in module.named_parameters()
    }
    return parameters | {f"lm_head.{name}": p for name, p in model.lm_head.named_parameters()}


def _read_adapter(source: str, language: str, hub_options: dict[str, Any]) -> tuple[dict[str, Tensor], Path]:
    wanted = hub_options.get("use_safetensors")
    found_where = {name: value for name, value in hub_options.items() if name != "use_safetensors"}
    names = [f"adapter.{language}.safetensors"] * (wanted is not False) + [f"adapter.{language}.bin"] * (not wanted)
    for name in names:
        file = local_path(source, name, found_where) if source else None
        if file is None:
            continue
        return _read_tensors(file), file
    raise CheckpointError(f"{source or 'this model'} has no adapter for {language!r}: {names[0]} was not found there")


def _read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of one file, by name."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a reader raises, the file is to blame: nothing else happens here
        raise CheckpointError(f"{file}: truncated or corrupt ({type(error).__name__}: {error})") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file}: corrupt, holds no tensors by name")
    return content


def _check_fit(file: Path, tensors: dict[str, Tensor], current: dict[str, nn.Parameter]) -> None:
    complaints = [f"{name}: missing" for name in sorted(current.keys() - tensors.keys())]
    complaints += [f"{name}: unknown" for name in sorted(tensors.keys() - current.keys())]
    for name in sorted(current.keys() & tensors.keys()):
        saved, wanted = tuple(tensors[name].shape), tuple(current[name].shape)
        free = 1 if name.startswith("lm_head.") else 0  # the number of tokens is the language's own
        if len(saved) != len(wanted) or saved[free:] != wanted[free:]:
            complaints.append(f"{name}: {saved} in the file, {wanted} in the model")
    if complaints:
        listing = "\n  ".join(complaints)
        raise CheckpointError(f"{file} does not fit this model:\n  {listing}")
    if tensors["lm_head.weight"].shape[0] != tensors["lm_head.bias"].shape[0]:
        raise CheckpointError(f"{file}: lm_head.weight and lm_head.bias disagree on the number of tokens")


def _check_vocabulary(source: str, language: str, tokens: int, hub_options: dict[str, Any]) -> None:
    """Compare the head with the language's part of a nested `vocab.json`, where there is one."""
    file = local_path(source, "vocab.json", hub_options) if source else None
    if file is None:
        return
    try:
        vocabulary = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: truncated or corrupt ({error})") from error
    if not isinstance(vocabulary, dict):
        raise CheckpointError(f"{file}: corrupt, is no vocabulary from tokens to numbers")
    _compare_sizes(str(file), vocabulary, language, tokens)


def _compare_sizes(what: str, vocabulary: dict[str, Any], language: str, tokens: int) -> None:
    if not any(isinstance(entry, dict) for entry in vocabulary.values()):
        return  # one language, which does not say how it is called
    if language not in vocabulary:
        known = ", ".join(sorted(vocabulary)[:10])
        raise CheckpointError(f"{what} has no vocabulary for {language!r}; it begins with {known}")
    if len(vocabulary[language]) != tokens:
        raise CheckpointError(
            f"{what}: {len(vocabulary[language])} tokens for {language!r}, but its adapter has a head of {tokens}"
        )
