"""What a run must remember beside the weights and the optimizer to go on as if it had never stopped.

Little is left to remember: the random numbers of an update follow from (seed, update, process), and so do its learning
rate, its temperature and the clips it sees. Where a stream stands is the one thing that a count cannot give back.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from wav2vec2.modeling.loading import CheckpointError

#: Rises when the meaning of a field changes. A state of another version is refused, not guessed at.
VERSION = 1

#: The packages whose versions decide which bits come out of an update.
PACKAGES = ("wav2vec2", "torch", "transformers", "accelerate", "numpy")


@dataclass
class TrainingState:
    """Where a run stands after `update` updates. Everything in it is JSON, so that a person can read it."""

    #: How many updates the weights have seen.
    update: int = 0
    #: Passes over the data so far.
    epoch: float = 0.0
    #: Where the data stands after this update; empty if that follows from the update.
    position: dict[str, Any] = field(default_factory=dict)
    #: What the guards have counted.
    guards: dict[str, Any] = field(default_factory=dict)
    #: The last evaluation: its update and its figures.
    metrics: dict[str, Any] = field(default_factory=dict)
    #: What has been added up since the last line of the log.
    running: dict[str, Any] = field(default_factory=dict)
    #: How long the log was: what was written to it later belongs to updates that resuming does again.
    log_bytes: int = 0
    #: On how many processes the run was. Filled in on saving.
    processes: int = 1
    #: The loss scale of fp16 and its counters. Filled in on saving.
    scaler: dict[str, Any] | None = None
    #: What the run ran on. Filled in on saving.
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The state as text. A value that JSON would give back as another one (a tuple, say) is refused by name."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        for name, value in values.items():
            _check_plain(value, name)
        return json.dumps({"version": VERSION} | values, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: object = "the training state") -> "TrainingState":
        """The state that `to_json` wrote; `CheckpointError` says what in `source` does not fit."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise CheckpointError(f"{source}: is not JSON ({error})") from error
        if not isinstance(values, dict) or values.pop("version", None) != VERSION:
            raise CheckpointError(f"{source}: must be a training state of version {VERSION}")
        names = {entry.name for entry in dataclasses.fields(cls)}
        if set(values) != names:
            missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
            raise CheckpointError(f"{source}: missing {missing}, unknown {unknown}")
        state = cls(**values)
        if type(state.update) is not int or state.update < 0:
            raise CheckpointError(f"{source}: update={state.update!r} must be a whole number, at least 0")
        return state


def _check_plain(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: the key {key!r} must be text, or resuming would see another key")
            _check_plain(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"{where}: a {type(value).__name__} must not be in a training state, only what JSON has")
