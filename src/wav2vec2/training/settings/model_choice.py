"""The model that a run asks for: presets by name, and overrides of the configuration checked before anything starts."""

import inspect
from dataclasses import fields
from typing import Any

from wav2vec2.configuration import Wav2Vec2Config, presets
from wav2vec2.training.settings.typed_values import Problem, suggestion


def preset_names() -> list[str]:
    """The published sizes, as functions of `wav2vec2.configuration.presets`."""
    functions = inspect.getmembers(presets, inspect.isfunction)
    return [name for name, function in functions if function.__module__ == presets.__name__ and name[0] != "_"]


def preset_config(preset: str, fields_of_config: dict[str, Any]) -> Wav2Vec2Config:
    """The configuration of a fresh model of a published size, with other values for some fields."""
    if preset not in preset_names():
        raise ValueError(f"model.preset={preset!r} is not known{suggestion(preset, preset_names())}")
    config: Wav2Vec2Config = getattr(presets, preset)(**fields_of_config)
    config.check()
    return config


def config_problems(preset: str | None, fields_of_config: dict[str, Any]) -> list[Problem]:
    """What is wrong with the preset's name and with the overrides: unknown fields, and values that cannot work.

    The values for a checkpoint (no preset) are checked by its own configuration when it is loaded.
    """
    known = _field_names()
    unknown = [name for name in fields_of_config if name not in known]
    problems = [(f"config.{name}", f"is no field of Wav2Vec2Config{_meant(name, known)}") for name in unknown]
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


def _field_names() -> list[str]:
    # Transformers' own fields (ids, labels, dtype) may be set too; what starts with _ is not for recipes
    return [field.name for field in fields(Wav2Vec2Config) if not field.name.startswith("_")]


def _meant(name: str, known: list[str]) -> str:
    told = suggestion(name, known)
    return told if told.startswith(": ") else ""  # the list of all fields would fill a page


def _split(line: str) -> Problem:
    """`hidden_size=81: must be ...` as the configuration says it."""
    name, _, text = line.partition(": ")
    field, _, _ = name.partition("=")
    return (f"config.{field}", text or line)
