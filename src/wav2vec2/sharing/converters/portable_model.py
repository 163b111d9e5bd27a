"""A model between two frameworks: its configuration, its tensors under our names, its tokens.

Every reader makes one, and every writer takes one. What both kinds have in common is here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.sharing.converters.architecture import (
    config_from_shapes,
    expected_shapes,
    published_settings,
    shapes_under,
    under_our_names,
)
from wav2vec2.sharing.converters.lazy_tensors import ChosenRows, LazyTensor, MadeTensor
from wav2vec2.sharing.converters.tensor_names import OUR_TRUNK, Naming
from wav2vec2.sharing.converters.vocabularies import NEVER, Arranged, Vocabulary, read_vocabulary

CTC, PRETRAINING, TRUNK = "Wav2Vec2ForCTC", "Wav2Vec2ForPreTraining", "Wav2Vec2Model"
_MASK = "masked_spec_embed"


@dataclass(frozen=True)
class Given:
    """What the user says because the source does not."""

    #: The file of the tokens of a CTC head.
    dictionary: Path | None = None
    #: Fields of the configuration; they go before whatever was found.
    config: Mapping[str, Any] = field(default_factory=dict)
    #: Whether waveforms are brought to mean 0 and variance 1.
    normalize: bool | None = None
    #: Which language of a model with language adapters is to be in place.
    language: str | None = None


@dataclass
class Language:
    """The adapters and the head of one language, under our names, and its `vocabulary`."""

    tensors: dict[str, LazyTensor]
    vocabulary: Vocabulary


@dataclass
class PortableModel:
    """A model on its way."""

    #: Where it was read.
    source: Path
    #: The class that it is for.
    architecture: str
    #: What it is.
    config: Wav2Vec2Config
    #: Its tensors, under the names of that class.
    tensors: dict[str, LazyTensor]
    #: Whether waveforms are brought to mean 0 and variance 1 for it.
    normalize: bool
    #: The tokens of its CTC head; None of other models.
    vocabulary: Vocabulary | None = None
    #: Its languages, where it has language adapters.
    languages: dict[str, Language] = field(default_factory=dict)
    #: Which of them is in place.
    language: str | None = None
    #: What a user should know: what was made, and what was left behind.
    notes: list[str] = field(default_factory=list)


def assembled(
    source: Path,
    origin: str,
    tensors: Mapping[str, LazyTensor],
    known: Mapping[str, Any],
    given: Given,
    vocabulary: Callable[[], Vocabulary | None],
    trunk: str = "",
) -> PortableModel:
    """The model of an origin's tensors. `known` are fields of its configuration that the origin states; `trunk` is
    what the names of its encoder begin with; the `vocabulary` is asked for only if there is a CTC head."""
    tensors = dict(tensors)
    stated = {**known, **given.config}
    naming = _naming(origin, tensors, stated, trunk)
    architecture = _architecture(naming, tensors)
    shape_of = shapes_under(naming, tensors)
    norms = {"feat_extract_norm": naming.feat_extract_norm, "do_stable_layer_norm": naming.pre_norm}
    config = config_from_shapes(
        source, lambda name: None if name.startswith("lm_head") and architecture != CTC else shape_of(name),
        norms | stated,
    )  # fmt: skip
    expected = expected_shapes(architecture, config)
    names = naming.of_all(expected)
    own_mask = f"{'' if architecture == TRUNK else OUR_TRUNK}{_MASK}"
    has_mask = naming.foreign(own_mask) in tensors
    if not has_mask:
        names = {name: ours for name, ours in names.items() if ours != own_mask}
    model = PortableModel(
        source, architecture, config, under_our_names(source, tensors, names, expected),
        normalize=config.feat_extract_norm == "layer" if given.normalize is None else given.normalize,
        notes=_overruled(given.config, {**published_settings(config), **known}),
    )  # fmt: skip
    if not has_mask:
        add_mask_embedding(model, own_mask)
        config.apply_spec_augment = bool(given.config.get("apply_spec_augment", False))
    if architecture == CTC:
        model.vocabulary = _fitting(source, vocabulary(), given, config)
    return model


def _overruled(given: Mapping[str, Any], stated: Mapping[str, Any]) -> list[str]:
    """What the user says that the source, or a published model of this size, says otherwise."""
    return [
        f"{name}: {value} as given, where the source or the published model of this size has {stated[name]}"
        for name, value in given.items()
        if name in stated and stated[name] != value
    ]


def _naming(origin: str, tensors: Mapping[str, LazyTensor], stated: Mapping[str, Any], trunk: str) -> Naming:
    each = Naming(origin, "layer", True, trunk).foreign("feature_extractor.conv_layers.1.layer_norm.weight")
    norm = "layer" if each in tensors else "group"
    return Naming(origin, norm, bool(stated.get("do_stable_layer_norm", norm == "layer")), trunk)


def _architecture(naming: Naming, tensors: Mapping[str, LazyTensor]) -> str:
    """fairseq2 calls the heads of both kinds alike: one for pretraining is known by its codebooks."""
    if naming.foreign("quantizer.codevectors") in tensors:
        return PRETRAINING
    return CTC if naming.foreign("lm_head.weight") in tensors else TRUNK


def add_mask_embedding(model: PortableModel, name: str) -> None:
    """Draw what takes the place of masked frames, as a new model would; the same for every conversion."""
    generator = torch.Generator().manual_seed(0)
    dtype = next(iter(model.tensors.values())).dtype
    model.tensors[name] = MadeTensor(torch.rand(model.config.hidden_size, generator=generator).to(dtype))
    model.notes.append(f"{name}: drawn anew, the source has none; only training with masks uses it")


def _fitting(source: Path, found: Vocabulary | None, given: Given, config: Wav2Vec2Config) -> Vocabulary:
    """The tokens of a head: the user's before the source's, and as many as the head has rows."""
    rows = config.vocab_size
    vocabulary = found if given.dictionary is None else read_vocabulary(given.dictionary)
    if vocabulary is None:
        raise CheckpointError(
            f"{source}: has a CTC head of {rows} tokens and does not say which. Give them: --dictionary FILE, a "
            "dict.ltr.txt of fairseq, a model of sentencepiece, a vocab.json, or one token in a line"
        )
    check_rows(given.dictionary or source, vocabulary, rows)
    return vocabulary


def check_rows(source: object, vocabulary: Vocabulary, rows: int | None) -> None:
    """As many tokens as the head has rows."""
    if len(vocabulary.tokens) != rows:
        raise CheckpointError(f"{source}: {len(vocabulary.tokens)} tokens, but the CTC head has {rows} rows")


def under_their_names(model: PortableModel, origin: str, trunk: str = "") -> dict[str, LazyTensor]:
    """The tensors as an origin calls them. What it has no place for is noted; what it computes otherwise, refused."""
    refuse_what_is_fixed(model, origin)
    naming = Naming.of(model.config, origin, trunk)
    named = {ours: naming.foreign(ours) for ours in model.tensors}
    if left := sorted(ours for ours, name in named.items() if name is None):
        if adapters := [ours for ours in left if ".adapter_layer." in ours]:
            raise CheckpointError(f"{model.source}: {origin} has no language adapters, as {adapters[0]} belongs to")
        model.notes.append(f"not in {origin}, left out: {', '.join(left)}")
    return {name: model.tensors[ours] for ours, name in named.items() if name is not None}


#: Other frameworks compute with these alone.
_FIXED = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
    "add_adapter": False,
    "ctc_head": "linear",
}


def refuse_what_is_fixed(model: PortableModel, origin: str) -> None:
    """A setting that an origin does not have would be lost without a word."""
    other = [f"{name}={getattr(model.config, name)!r}" for name, value in _FIXED.items() if getattr(model.config, name) != value]  # fmt: skip  # noqa: E501
    if other:
        raise CheckpointError(f"{model.source}: {origin} has no models with {', '.join(other)}")


def arrange_head(model: PortableModel, arranged: Arranged, origin: str) -> None:
    """Bring the rows of the head into an origin's order; rows for tokens of its own are never chosen."""
    if arranged.rows == tuple(range(len(model.vocabulary.tokens if model.vocabulary else ()))):
        return
    for name, fill in (("lm_head.weight", 0.0), ("lm_head.bias", NEVER)):
        model.tensors[name] = ChosenRows(model.tensors[name], arranged.rows, fill)
    if arranged.added:
        model.notes.append(
            f"tokens that {origin} requires were added, and are never chosen: {', '.join(arranged.added)}"
        )


def check_language(where: object, model: PortableModel, language: Mapping[str, LazyTensor]) -> None:
    """The adapters and the head of a language are those of the model; only the number of tokens is the language's."""
    own = {name: one for name, one in model.tensors.items() if ".adapter_layer." in name or name.startswith("lm_head.")}
    complaints = [f"{name}: missing" for name in own if name not in language]
    complaints += [f"{name}: unknown" for name in language if name not in own]
    for name in own.keys() & language.keys():
        free = 1 if name.startswith("lm_head.") else 0
        found, wanted = language[name].shape, own[name].shape
        if len(found) != len(wanted) or found[free:] != wanted[free:]:
            complaints.append(f"{name}: {found} in the file, {wanted} in the model")
    if complaints:
        listing = "\n  ".join(sorted(complaints)[:30])
        raise CheckpointError(f"{where} does not fit the model:\n  {listing}")
