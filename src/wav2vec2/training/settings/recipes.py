"""Runs from recipes: YAML and dotted overrides in, a checked run out, or one error that names everything wrong.

    run = read_run(PretrainRun, "base_960h", ["data.train.0.path=LibriSpeech", "run.output=outputs/base"])

Paths in a recipe are relative to the current directory; only `extends` is relative to the recipe that says it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

from wav2vec2.training.settings.recipe_files import Layers, add_overrides, find_recipe, read_layers
from wav2vec2.training.settings.run_config import Run, to_dict
from wav2vec2.training.settings.strict_yaml import Tree
from wav2vec2.training.settings.typed_values import ABSENT, INVALID, Complaint, construct

T = TypeVar("T", bound=Run)


class RunConfigError(ValueError):
    """A run that cannot be started. `problems` has one line for everything that is wrong."""

    def __init__(self, what: str, problems: Sequence[str]) -> None:
        listing = "\n  ".join(problems)
        super().__init__(f"{what} cannot be started ({len(problems)} to correct):\n  {listing}")
        self.problems = list(problems)


@dataclass
class ResolvedRun(Generic[T]):
    """A run, and where its values came from."""

    run: T
    layers: Layers


def read_run(kind: type[T], recipe: Path | str | None, overrides: Sequence[str] = ()) -> T:
    """The run that a recipe (a path, or a shipped one's name) and dotted overrides describe."""
    return resolve(kind, recipe, overrides).run


def resolve(kind: type[T], recipe: Path | str | None, overrides: Sequence[str] = ()) -> ResolvedRun[T]:
    """As `read_run`, with the source of every value. `RunConfigError` names everything that is wrong."""
    layers = read_layers(recipe)
    own_batch = _seconds_per_update(kind, layers.values)
    add_overrides(layers, overrides)
    problems = list(layers.problems)
    what = "the run" if recipe is None else f"{recipe}"
    if problems and not layers.values:
        raise RunConfigError(what, problems)  # nothing was read, so whatever else is missing says nothing
    if recipe is not None and "origin" not in layers.values:
        origin = {"recipe": find_recipe(recipe).name, "seconds_per_update": own_batch}
        layers.add({"origin": origin}, {f"origin.{name}": "filled in" for name in origin})
    complaints: list[Complaint] = []
    run: T = construct(kind, layers.values, "", complaints)
    problems += [_line(complaint, layers) for complaint in complaints]
    if problems:
        raise RunConfigError(what, problems)
    return ResolvedRun(run, layers)


def task_said(recipe: Path | str | None, overrides: Sequence[str] = ()) -> object:
    """The value of `task` that a recipe and overrides give; None where they say none, or cannot be read."""
    layers = read_layers(recipe)
    add_overrides(layers, overrides)
    return layers.values.get("task")


def from_dict(kind: type[T], values: Tree) -> T:
    """The run that `to_dict` has written."""
    complaints: list[Complaint] = []
    run: T = construct(kind, values, "", complaints)
    if complaints:
        raise RunConfigError("the run", [_line(complaint, Layers()) for complaint in complaints])
    return run


def check_run(run: Run) -> None:
    """Check a run that was made in Python as if it had been read from a recipe."""
    from_dict(type(run), to_dict(run))


def _seconds_per_update(kind: type[T], values: Tree) -> Any:
    """The recipe's own batch size: what it says, or the default of this kind of run."""
    default = get_type_hints(kind)["data"]().seconds_per_update
    data = values.get("data")
    stated = data.get("seconds_per_update", default) if isinstance(data, dict) else default
    valid = construct(float, stated, "", []) is not INVALID and stated > 0
    return float(stated) if valid else None


def _line(complaint: Complaint, layers: Layers) -> str:
    shown = "" if complaint.value is ABSENT else f"={_shown(complaint.value)}"
    source = layers.source_around(complaint.key) if complaint.value is ABSENT else layers.source_of(complaint.key)
    where = "" if source is None else f" ({source})"
    return f"{complaint.key}{shown}{where}: {complaint.text}"


def _shown(value: Any) -> str:
    """The value as YAML would have it, cut where it is long."""
    named = value is None or isinstance(value, bool)
    text = {None: "null", True: "true", False: "false"}[value] if named else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
