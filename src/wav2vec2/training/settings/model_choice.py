"""The model that a run asks for: presets by name, and overrides of the configuration checked before anything starts."""

import inspect
from dataclasses import fields
from types import ModuleType
from typing import Any

from wav2vec2.baselines import (
    CRNNConfig,
    DepthwiseCNNConfig,
    SpectrogramConfig,
    TimeFrequencyLSTMConfig,
    VQWav2VecConfig,
    Wav2VecConfig,
)
from wav2vec2.baselines import presets as baselines
from wav2vec2.configuration import Wav2Vec2Config, presets
from wav2vec2.training.settings.finetuning_config import FINETUNING_CONFIG
from wav2vec2.training.settings.typed_values import Problem, suggestion

#: A configuration of any model that can be trained here.
AnyConfig = Wav2Vec2Config | Wav2VecConfig | SpectrogramConfig

#: What a model can be, by the `model_type` of its configuration.
CONFIGS: dict[str, type[AnyConfig]] = {
    config.model_type: config
    for config in (
        *(Wav2Vec2Config, Wav2VecConfig, VQWav2VecConfig),
        *(CRNNConfig, TimeFrequencyLSTMConfig, DepthwiseCNNConfig),
    )
}


def preset_names() -> list[str]:
    """The published sizes, as functions of `wav2vec2.configuration.presets` and `wav2vec2.baselines.presets`."""
    return [*_functions(presets), *_functions(baselines)]


def is_ancestor(preset: str | None) -> bool:
    """Whether a preset is of wav2vec (2019) or vq-wav2vec, which have another objective than wav2vec 2.0."""
    return preset in _functions(baselines) and issubclass(_kind(str(preset)), Wav2VecConfig)


def is_spectrogram_model(preset: str | None) -> bool:
    """Whether a preset is of a network on log-mel energies, which learns from what people have written down alone."""
    return preset in _functions(baselines) and issubclass(_kind(str(preset)), SpectrogramConfig)


def meant_for(kind: type[AnyConfig], fields_of_config: dict[str, Any]) -> dict[str, Any]:
    """Of what a run says of the configuration, what is meant for one of this kind: for a network on log-mel energies
    not the paper's fine-tuning of wav2vec 2.0, which stands there unless the run says otherwise."""
    if not issubclass(kind, SpectrogramConfig):
        return fields_of_config
    known = field_names(kind)
    return {
        name: value
        for name, value in fields_of_config.items()
        if name in known or name not in FINETUNING_CONFIG or FINETUNING_CONFIG[name] != value
    }


def preset_config(preset: str, fields_of_config: dict[str, Any]) -> AnyConfig:
    """The configuration of a fresh model of a published size, with other values for some fields."""
    if preset not in preset_names():
        raise ValueError(f"model.preset={preset!r} is not known{suggestion(preset, preset_names())}")
    config: AnyConfig = _preset(preset)(**meant_for(_kind(preset), fields_of_config))
    config.check()
    return config


def config_problems(preset: str | None, fields_of_config: dict[str, Any]) -> list[Problem]:
    """What is wrong with the preset's name and with the overrides: unknown fields, and values that cannot work.

    The values for a checkpoint (no preset) are checked by its own configuration when it is loaded.
    """
    kinds: list[type[AnyConfig]]
    if preset is not None and preset not in preset_names():
        kinds = [Wav2Vec2Config]
    elif preset is None:
        kinds = list(CONFIGS.values())
    else:
        kinds = [_kind(preset)]
        fields_of_config = meant_for(kinds[0], fields_of_config)
    known = list(dict.fromkeys(name for kind in kinds for name in field_names(kind)))
    unknown = [name for name in fields_of_config if name not in known]
    problems = [(f"config.{name}", f"is no field of {kinds[0].__name__}{_meant(name, known)}") for name in unknown]
    if preset is None:
        return problems
    if preset not in preset_names():
        return [*problems, ("preset", f"is not known{suggestion(preset, preset_names())}")]
    if unknown:
        return problems
    try:
        preset_config(preset, fields_of_config)
    except ValueError as error:
        head, *lines = str(error).splitlines()
        return [_split(line.strip()) for line in lines] or [("config", head)]
    return problems


def field_names(kind: type[AnyConfig]) -> list[str]:
    """The fields of a configuration that may be set; Transformers' own (ids, labels, dtype) may be set too."""
    return [field.name for field in fields(kind) if not field.name.startswith("_")]


def _functions(module: ModuleType) -> list[str]:
    functions = inspect.getmembers(module, inspect.isfunction)
    return [name for name, function in functions if function.__module__ == module.__name__ and name[0] != "_"]


def _preset(name: str) -> Any:
    return getattr(baselines if name in _functions(baselines) else presets, name)


def _kind(preset: str) -> type[AnyConfig]:
    config: AnyConfig = _preset(preset)()
    return type(config)


def _meant(name: str, known: list[str]) -> str:
    told = suggestion(name, known)
    return told if told.startswith(": ") else ""  # the list of all fields would fill a page


def _split(line: str) -> Problem:
    """`hidden_size=81: must be ...` as the configuration says it."""
    name, _, text = line.partition(": ")
    field, _, _ = name.partition("=")
    return (f"config.{field}", text or line)
