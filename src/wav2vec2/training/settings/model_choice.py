"""The model that a run asks for: presets by name, and overrides of the configuration checked before anything starts."""

import inspect
from dataclasses import fields
from types import ModuleType
from typing import Any

from wav2vec2.baselines import VQWav2VecConfig, Wav2VecConfig
from wav2vec2.baselines import presets as ancestors
from wav2vec2.configuration import Wav2Vec2Config, presets
from wav2vec2.training.settings.typed_values import Problem, suggestion

#: What a model can be, by the `model_type` of its configuration.
CONFIGS: dict[str, type[Wav2Vec2Config | Wav2VecConfig]] = {
    config.model_type: config for config in (Wav2Vec2Config, Wav2VecConfig, VQWav2VecConfig)
}


def preset_names() -> list[str]:
    """The published sizes, as functions of `wav2vec2.configuration.presets` and `wav2vec2.baselines.presets`."""
    return [*_functions(presets), *_functions(ancestors)]


def is_ancestor(preset: str | None) -> bool:
    """Whether a preset is of wav2vec (2019) or vq-wav2vec, which have another objective than wav2vec 2.0."""
    return preset in _functions(ancestors)


def preset_config(preset: str, fields_of_config: dict[str, Any]) -> Wav2Vec2Config | Wav2VecConfig:
    """The configuration of a fresh model of a published size, with other values for some fields."""
    if preset not in preset_names():
        raise ValueError(f"model.preset={preset!r} is not known{suggestion(preset, preset_names())}")
    config: Wav2Vec2Config | Wav2VecConfig = _preset(preset)(**fields_of_config)
    config.check()
    return config


def config_problems(preset: str | None, fields_of_config: dict[str, Any]) -> list[Problem]:
    """What is wrong with the preset's name and with the overrides: unknown fields, and values that cannot work.

    The values for a checkpoint (no preset) are checked by its own configuration when it is loaded.
    """
    if preset is not None and preset not in preset_names():
        kinds = [Wav2Vec2Config]
    elif preset is None:
        kinds = list(CONFIGS.values())
    else:
        kinds = [type(_preset(preset)())]
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


def field_names(kind: type[Wav2Vec2Config | Wav2VecConfig]) -> list[str]:
    """The fields of a configuration that may be set; Transformers' own (ids, labels, dtype) may be set too."""
    return [field.name for field in fields(kind) if not field.name.startswith("_")]


def _functions(module: ModuleType) -> list[str]:
    functions = inspect.getmembers(module, inspect.isfunction)
    return [name for name, function in functions if function.__module__ == module.__name__ and name[0] != "_"]


def _preset(name: str) -> Any:
    return getattr(ancestors if is_ancestor(name) else presets, name)


def _meant(name: str, known: list[str]) -> str:
    told = suggestion(name, known)
    return told if told.startswith(": ") else ""  # the list of all fields would fill a page


def _split(line: str) -> Problem:
    """`hidden_size=81: must be ...` as the configuration says it."""
    name, _, text = line.partition(": ")
    field, _, _ = name.partition("=")
    return (f"config.{field}", text or line)
