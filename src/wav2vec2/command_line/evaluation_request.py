"""What `wav2vec2 evaluate` is asked, and what it shows, whatever kind of model it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2.command_line.recogniser import Recogniser

if TYPE_CHECKING:
    from wav2vec2.evaluation.evaluation import Failure
    from wav2vec2.evaluation.evaluation_run import Setup


@dataclass(frozen=True)
class Request:
    """The options."""

    #: Those of the model.
    recogniser: Recogniser
    #: The manifest.
    data: Path
    #: What texts go through, how intervals are made, what the data is called.
    setup: "Setup"
    #: What the model is called; None: as its folder.
    model_name: str | None
    #: Folder for the files; None: nothing is written.
    output: Path | None

    def refuse(self, kind: str, *names: str) -> None:
        """A ValueError for options that say something to models of another kind alone."""
        if given := [name for name in names if getattr(self.recogniser, name) is not None]:
            option = f"--{given[0].replace('_', '-')}"
            raise ValueError(f"{option} is for models that write text; {self.recogniser.model} is a model of {kind}")


@dataclass(frozen=True)
class Shown:
    """What is printed."""

    #: Lines for people.
    lines: str
    #: The content of `evaluation.json`.
    json: str
    #: The recordings that could not be read.
    failures: "list[Failure]"
