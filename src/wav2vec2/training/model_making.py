"""The model that a run starts from: a fresh one of a published size, or a checkpoint, whatever head it has.

A checkpoint is looked at before hours of audio are looked through. Of `model.config` its weights can have most values,
but not those of `LAYOUT`.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from wav2vec2.baselines import SpectrogramConfig, Wav2VecConfig
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.files.shipped_checkpoints import comes_with_the_package, known_names, located
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.tokenizer_files import find_file
from wav2vec2.training.saving.consolidation import in_parts
from wav2vec2.training.settings.model_choice import CONFIGS, AnyConfig, field_names, meant_for, preset_config
from wav2vec2.training.settings.random_seeds import seed_of
from wav2vec2.training.settings.run_sections import ModelSection
from wav2vec2.training.sharding import gets_weights

Model = TypeVar("Model", bound=PreTrainedModel)

_CONFIG, _FEATURES_FILE = "config.json", "preprocessor_config.json"
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "model*.safetensors.index.json")

#: What weights were trained for and no shape of theirs tells: under another value they load, and compute nonsense.
LAYOUT = (
    "do_stable_layer_norm",
    "num_attention_heads",
    "conv_stride",
    "hidden_act",
    "feat_extract_activation",
    # of wav2vec (2019) and vq-wav2vec
    "activation",
    "log_compression",
    "residual_scale",
    "conv_skip_connections",
    "context_skip_connections",
    "context_zero_padding",
    "quantizer",
    # of networks on log-mel energies
    "window_length",
    "hop_length",
    "lowest_hertz",
    "highest_hertz",
    "band_by_band",
    "piece_step",
    "layer_strides",
)


def require_checkpoint(model: ModelSection, with_head: bool = True) -> None:
    """A `CheckpointError` if `model.checkpoint` is neither a folder with a model, nor the short name of one that comes
    with the package, nor a name on the Hub, or if `model.config` does not go with it. Of the Hub only the configuration
    is fetched. Where the run is to put a head on it (`with_head`), it must be of a model that has one."""
    if model.checkpoint is None:
        return
    place, said = Path(located(model.checkpoint)), f"model.checkpoint={model.checkpoint}"
    if place.is_dir():
        _require_model_folder(place, said)
    elif place.exists():
        raise CheckpointError(f"{said}: is a file; give the folder that holds {_CONFIG} and model.safetensors")
    elif place.is_absolute() or len(place.parts) > 2 or model.checkpoint.startswith((".", "~")):
        raise CheckpointError(f"{said}: no such folder, nor a name on the Hub")
    try:
        config = checkpoint_config(model)
    except OSError as error:
        if place.is_dir():
            raise
        told = " ".join(str(error).split()) + known_names(model.checkpoint)
        raise CheckpointError(
            f"{said}: no such folder, and as a name on the Hub it cannot be loaded: {told}"
        ) from error
    if not with_head and isinstance(config, SpectrogramConfig):
        raise CheckpointError(
            f"{said}: is a {config.model_type} model, which learns from transcripts or labels alone: fine-tune it"
        )
    if with_head and isinstance(config, Wav2VecConfig):
        raise CheckpointError(f"{said}: is a {config.model_type} model, which has no heads and can be pretrained alone")


def config_of(model: ModelSection) -> AnyConfig:
    """The configuration of the model that a run asks for."""
    return checkpoint_config(model) if model.preset is None else preset_config(model.preset, model.config)


def checkpoint_config(model: ModelSection, **others: Any) -> AnyConfig:
    """The configuration of the checkpoint with the section's values, but for those of `LAYOUT`, and with `others`."""
    said, _ = Wav2Vec2Config.get_config_dict(str(model.checkpoint))
    kind = CONFIGS.get(said.get("model_type", ""), Wav2Vec2Config)
    given = {name: value for name, value in meant_for(kind, model.config).items() if name not in LAYOUT}
    if foreign := given.keys() - set(field_names(kind)):
        raise CheckpointError(f"{model.checkpoint}: {kind.__name__} has no field {', '.join(sorted(foreign))}")
    config: AnyConfig = kind.from_pretrained(model.checkpoint, **{**given, **others})
    config.check()  # Transformers puts in what is given after it has checked the values of the file
    return config


def make_model(
    kind: type[Model], section: ModelSection, attention: str | None, head: tuple[str, ...] = (), **values: Any
) -> tuple[Model, list[str], list[str]]:
    """A model in float32, the names of parameters beside its head that the checkpoint does not have, and what else is
    to be said of it.

    `values` are fields of the configuration that the run decides: how many tokens, which labels. `head` names the
    modules that may have another size than the checkpoint's; without any, everything must be there and fit.
    Convolutions that get no gradient (`feature_grad_mult` 0, as the paper fine-tunes) are frozen, so that no decay
    moves them either.

    Where a process is handed the weights of a divided model by the main one, its model has none yet, and nothing of
    the checkpoint but the configuration is read.
    """
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    missing: list[str] = []
    if section.checkpoint is None:
        config = preset_config(str(section.preset), {**section.config, **values})
    else:
        config = checkpoint_config(section, **values)
        options["dtype"] = torch.float32
    if gets_weights():
        with no_init_weights():  # memory that nothing is written into is no memory yet
            model = kind._from_config(config, **options)
    elif section.checkpoint is None:
        model = kind._from_config(config, **options)
    elif not head:
        model = kind.from_pretrained(section.checkpoint, config=config, **options)
    else:
        model, missing = _under_another_head(kind, section.checkpoint, head, {"config": config, **options})
    notes = layout_notes(section, model.config)
    if comes_with_the_package(section.checkpoint):
        notes.append(f"model.checkpoint={section.checkpoint}: the model that comes with wav2vec2")
    if getattr(model.config, "feature_grad_mult", 1) == 0:
        model.freeze_feature_encoder()
        notes.append("the convolutional encoder is not trained")
    return model, missing, notes


def _under_another_head(
    kind: type[Model], checkpoint: str, head: tuple[str, ...], options: dict[str, Any]
) -> tuple[Model, list[str]]:
    """Of sizes that do not fit, those of the head are let pass; others are a `CheckpointError`."""
    prefixes = tuple(f"{name}." for name in head)
    model, info = kind.from_pretrained(checkpoint, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    wrong = [
        f"{name}: {tuple(saved)} in the checkpoint, {tuple(wanted)} in the model"
        for name, saved, wanted in info["mismatched_keys"]
        if not name.startswith(prefixes)
    ]
    if wrong:
        raise CheckpointError("\n  ".join([f"{checkpoint} does not fit model.config:", *sorted(wrong)]))
    return model, sorted(name for name in info["missing_keys"] if not name.startswith(prefixes))


def start_afresh(layer: Any, seed: int, deviation: float) -> None:
    """Random weights for the layer of a head, which follow from the run's seed alone, and a bias of zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("head", seed))
        nn.init.normal_(layer.weight, std=deviation)
    if isinstance(layer, nn.Linear):
        nn.init.zeros_(layer.bias)


def make_extractor(section: ModelSection, normalize: bool) -> tuple[Wav2Vec2FeatureExtractor, list[str]]:
    """What turns samples into inputs: the checkpoint's, since its model knows no other; else a new one."""
    if section.checkpoint is None or find_file(section.checkpoint, _FEATURES_FILE, {}) is None:
        return Wav2Vec2FeatureExtractor(do_normalize=normalize), []
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(section.checkpoint)
    if extractor.do_normalize == normalize:
        return extractor, []
    said = "are" if extractor.do_normalize else "are not"
    return extractor, [f"waveforms {said} normalised, as the checkpoint's are, not as data.normalize says"]


def layout_notes(model: ModelSection, config: Any) -> list[str]:
    """A sentence on each value that was asked for and is the checkpoint's own instead."""

    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    return [
        f"model.config.{name}={model.config[name]} is not used: the checkpoint was trained with {getattr(config, name)}"
        for name in LAYOUT
        if model.checkpoint is not None
        and name in model.config
        and hasattr(config, name)
        and plain(model.config[name]) != plain(getattr(config, name))
    ]


def _require_model_folder(place: Path, said: str) -> None:
    lacking = [] if (place / _CONFIG).is_file() else [_CONFIG]
    if not any(file for pattern in _WEIGHTS for file in place.glob(pattern)):
        lacking.append("model.safetensors")
    if not lacking:
        return
    inside = place / "model"
    hint = f"; did you mean {inside}?" if (inside / _CONFIG).is_file() else ""
    if in_parts(place):
        hint = f": its weights are in parts, of which this makes a model: wav2vec2 consolidate {place} -o FOLDER"
    raise CheckpointError(f"{said}: the folder has no {' and no '.join(lacking)}{hint}")
