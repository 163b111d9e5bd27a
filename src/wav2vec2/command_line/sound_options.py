"""What `wav2vec2 transcribe` is told of the sounds that are no speech."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from wav2vec2.inference.sound_events import SoundEventDetector

Sounds = Annotated[
    str | None,
    typer.Option(help="Folder or Hub name of a model that names sounds: [music], [applause] ... as captions."),
]
Names = Annotated[
    str | None,
    typer.Option(help="What captions call its labels, between commas: music=Musik,applause=Applaus; nothing: none."),
]
Threshold = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="The least probability of a sound; 0.5.")]
Shortest = Annotated[
    str | None, typer.Option(help="Seconds from which on a sound is told, by label: silence=5,beep=0.3; silence: 2.")
]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Wanted:
    """What the options say; None stands for one that was left out."""

    #: The model.
    model: str | None
    #: Where to compute.
    device: str | None
    #: Its labels in captions.
    names: str | None
    #: The least probability.
    threshold: float | None
    #: The fewest seconds.
    shortest: str | None
    #: How many seconds of audio a batch may have.
    batch_seconds: float | None

    def check_options(self, format: str) -> None:
        """What says nothing without another option, or is no pair, is a bad option."""
        given = {"--sound-names": self.names, "--sound-threshold": self.threshold, "--shortest-sound": self.shortest}
        for option, value in given.items():
            if value is not None and self.model is None:
                raise typer.BadParameter("says something of the sounds that --sounds MODEL finds", param_hint=option)
        if self.model is not None and format == "txt":
            raise typer.BadParameter(
                "txt has no sounds: take --format vtt, srt, json, jsonl or tsv", param_hint="--sounds"
            )
        _pairs(self.names, "--sound-names", str)
        _pairs(self.shortest, "--shortest-sound", float)

    def load(self) -> "SoundEventDetector | None":
        """What finds the sounds; ValueError or OSError for a model that does not."""
        if self.model is None:
            return None
        from wav2vec2.inference.sound_events import EventRules, SoundEventDetector

        usual = EventRules()
        rules = EventRules(
            threshold=usual.threshold if self.threshold is None else self.threshold,
            shortest={**usual.shortest, **_pairs(self.shortest, "--shortest-sound", float)},
            names=_pairs(self.names, "--sound-names", str),
        )
        return SoundEventDetector.from_pretrained(self.model, self.device, rules, batch_seconds=self.batch_seconds)


def _pairs(text: str | None, option: str, kind: Callable[[str], Value]) -> dict[str, Value]:
    """Labels with their values."""
    found = {}
    for pair in (text or "").split(",") if text else []:
        label, equals, value = pair.partition("=")
        try:
            if not (equals and label.strip()):
                raise ValueError
            found[label.strip()] = kind(value.strip())
        except ValueError as error:
            raise typer.BadParameter(f"{pair!r}: must be LABEL=VALUE, between commas", param_hint=option) from error
    return found
