"""Checkpoints of Transformers, which are this package's: a folder with `config.json`, weights and processor files."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.processor import Wav2Vec2Processor
from wav2vec2.sharing.converters.architecture import ARCHITECTURES, expected_shapes, made_config, under_our_names
from wav2vec2.sharing.converters.lazy_tensors import LazyTensor, StoredTensor
from wav2vec2.sharing.converters.portable_model import (
    CTC,
    Given,
    Language,
    PortableModel,
    add_mask_embedding,
    check_language,
    check_rows,
)
from wav2vec2.sharing.converters.safetensors_files import (
    INDEX,
    WEIGHTS,
    read_index,
    read_safetensors,
    write_safetensors,
    write_weights,
)
from wav2vec2.sharing.converters.torch_files import read_torch_file
from wav2vec2.sharing.converters.vocabularies import (
    read_vocabulary,
    tokenizer_for,
    tokenizer_for_languages,
    vocabulary_of_folder,
)

CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"
#: What the norms and directions of the positional convolution were called before torch 2.
_OLD_SPELLING = re.compile(r"(pos_conv_embed\.conv\.)weight_([gv])$")


def read_transformers(folder: Path, given: Given) -> PortableModel:
    """A checkpoint of Transformers."""
    fields = _json(folder / CONFIG)
    named = fields.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else None
    if fields.get("model_type") != "wav2vec2" or architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{folder}: is a {fields.get('model_type')} with the architecture {architecture}; what other frameworks "
            f"have is a wav2vec2 with {', '.join(ARCHITECTURES)}"
        )
    config = made_config(folder, {**fields, **given.config})
    tensors = {_OLD_SPELLING.sub(_new_spelling, name): one for name, one in _weights(folder).items()}
    expected = expected_shapes(architecture, config)
    mask = next(name for name in expected if name.endswith("masked_spec_embed"))
    names = {name: name for name in expected if name != mask or name in tensors}
    features = _json(folder / _PREPROCESSOR) if (folder / _PREPROCESSOR).is_file() else {}
    normalize = bool(features.get("do_normalize", True)) if given.normalize is None else given.normalize
    model = PortableModel(folder, architecture, config, under_our_names(folder, tensors, names, expected), normalize)
    if mask not in tensors:
        add_mask_embedding(model, mask)
    if architecture == CTC:
        _add_vocabularies(model, folder, given)
    return model


def _new_spelling(found: re.Match[str]) -> str:
    return f"{found[1]}parametrizations.weight.original{'gv'.index(found[2])}"


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: corrupt, must be an object")
    return content


def _weights(folder: Path) -> dict[str, LazyTensor]:
    """All tensors, from whichever files there are, in the order in which stock Transformers looks for them."""
    for name in (WEIGHTS, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json"):
        path = folder / name
        if path.is_file():
            files = read_index(path) if name.endswith(".index.json") else [path]
            return {name: tensor for file in files for name, tensor in weights_of(file).items()}
    raise CheckpointError(f"{folder}: holds no weights: no {WEIGHTS}")


def weights_of(path: Path) -> dict[str, LazyTensor]:
    """The tensors of one file that holds nothing else."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    content = read_torch_file(path).content
    if not isinstance(content, Mapping) or not all(isinstance(one, StoredTensor) for one in content.values()):
        raise CheckpointError(f"{path}: corrupt, holds no tensors by name")
    return {str(name): tensor for name, tensor in content.items()}


def _add_vocabularies(model: PortableModel, folder: Path, given: Given) -> None:
    """The tokens, and where there are files of language adapters, all languages with theirs."""
    files = [*folder.glob("adapter.*.bin"), *folder.glob("adapter.*.safetensors")]
    paths = {path.name.removeprefix("adapter.").removesuffix(path.suffix): path for path in files}
    for name, path in sorted(paths.items()):
        language = Language(weights_of(path), vocabulary_of_folder(folder, name))
        check_language(path, model, language.tensors)
        check_rows(path, language.vocabulary, language.tensors["lm_head.weight"].shape[0])
        model.languages[name] = language
    if given.language is not None:
        if given.language not in model.languages:
            raise CheckpointError(f"{folder}: has no language {given.language!r}")
        model.tensors |= model.languages[given.language].tensors
        model.config.vocab_size = len(model.languages[given.language].vocabulary.tokens)
    model.language = given.language or _language_in_place(model)
    model.vocabulary = (
        vocabulary_of_folder(folder, model.language) if given.dictionary is None else read_vocabulary(given.dictionary)
    )
    check_rows(given.dictionary or folder, model.vocabulary, model.config.vocab_size)


def _language_in_place(model: PortableModel) -> str | None:
    """The language whose head the model has; None of a model without languages."""
    own = model.tensors["lm_head.weight"]
    for name, language in model.languages.items():
        head = language.tensors["lm_head.weight"]
        if head.shape == own.shape and torch.equal(head.read(), own.read()):
            return name
    if model.languages:
        raise CheckpointError(f"{model.source}: has the head of none of its languages; say which, with --language")
    return None


def write_transformers(model: PortableModel, folder: Path) -> None:
    """Write everything that `from_pretrained` asks for, here and in stock Transformers."""
    config = model.config
    config.architectures = [model.architecture]
    config.dtype = _main_dtype(model)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=model.normalize)
    if model.vocabulary is not None:
        _say_tokens(config, model)
        vocabularies = {name: language.vocabulary for name, language in model.languages.items()}
        tokenizer = (
            tokenizer_for(model.vocabulary)
            if model.language is None
            else tokenizer_for_languages(vocabularies, model.language)
        )
        Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    else:
        extractor.save_pretrained(folder)
    config.save_pretrained(folder)
    write_weights(folder, model.tensors)
    for name, language in model.languages.items():
        write_safetensors(folder / f"adapter.{name}.safetensors", language.tensors)


def _say_tokens(config: Wav2Vec2Config, model: PortableModel) -> None:
    """The configuration names the same tokens as the tokenizer does."""
    tokens = model.vocabulary.tokens if model.vocabulary is not None else ()
    config.pad_token_id = tokens.index(model.vocabulary.blank) if model.vocabulary is not None else 0
    config.bos_token_id, config.eos_token_id = (
        tokens.index(token) if token in tokens else None for token in ("<s>", "</s>")
    )


def _main_dtype(model: PortableModel) -> torch.dtype:
    return next(tensor.dtype for tensor in model.tensors.values() if tensor.dtype.is_floating_point)
