"""What `wav2vec2 evaluate` is asked, and what it shows, whatever kind of model it is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wav2vec2.command_line.recogniser import Recogniser

if TYPE_CHECKING:
    from wav2vec2.evaluation.evaluation import EvaluatedModel, Failure
    from wav2vec2.evaluation.evaluation_run import Setup
    from wav2vec2.inference.labeller import Labeller

T = TypeVar("T", bound="Labeller")


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


def reader_of(asked: Request, gives: str, kind: "type[T]") -> "tuple[T, EvaluatedModel]":
    """What labels clips or fills slots, loaded without the options of recognition, and the model's name and facts."""
    from transformers.utils import logging

    from wav2vec2.command_line.recogniser import check_device
    from wav2vec2.evaluation.evaluation_run import evaluated_model
    from wav2vec2.evaluation.normalisers import MODEL

    asked.refuse(gives, "lm", "beam", "hotwords", "lexicon", "language", "window", "dtype")
    if asked.setup.normalizer != MODEL:
        raise ValueError(f"--normalizer is for models that write text; {asked.recogniser.model} gives {gives}")
    options = asked.recogniser
    if options.device is not None:
        check_device(options.device)
    logging.disable_progress_bar()
    reader = kind.from_pretrained(options.model, options.device, batch_seconds=options.batch_seconds or 60.0)
    model = evaluated_model(options.model, reader)
    return reader, replace(model, name=asked.model_name or model.name)
