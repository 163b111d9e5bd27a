"""What pretraining would take: hours, cost and bottleneck for a size of model, so many hours of audio, so many cards.

    python benchmarks/scale.py                                # the table
    python benchmarks/scale.py --models xls_r_1b --hours 4300000 --cards 256,512 --set euros_per_card_hour=2.2
    python benchmarks/scale.py --assumptions                  # every number that goes in, and where it is from
    python benchmarks/scale.py --check                        # predictions beside 1, 2, 4, 8 processes on this machine

An update is: computing (operations of the model by `update_operations`, at the measured speed, in the measured share
that the whole loop reaches of a step), or what the host needs to start its kernels, if that is more; then the part of
the sum of gradients that does not hide behind the backward pass. Readers and storage work beside it, and whichever is
slowest sets the pace. Crashes cost what was not saved and a start. What is assumed and not measured says so.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

import torch
from scale_check import check

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.configuration import presets
from wav2vec2.training.progress.throughput import update_operations

#: Seconds of a clip, which the operations of attention depend on a little.
CLIP_SECONDS = 15.6
RATE = 16_000


def said(value: float, source: str) -> Any:
    """A field of the assumptions with the source of its number."""
    return field(default=value, metadata={"source": source})


_H200 = "measured, one H200 (benchmarks/on_accelerator.nvidia-h200.loop.json)"
_LARGE = "measured, one H200 (benchmarks/on_accelerator.nvidia-h200.json)"
_ASSUMED = "assumed, not measured: put yours"


@dataclass(frozen=True)
class Assumptions:
    """Every number that is not the model's or the recipe's own."""

    base_step_audio_seconds: float = said(4810.4, f"audio a second in a step of base, 16 x 15.6 s: {_H200}")
    large_step_audio_seconds: float = said(1849.6, f"audio a second in a step of large, 8 x 15.6 s: {_LARGE}")
    loop_share: float = said(0.7104, f"the whole loop's speed in the step's, base: {_H200}; taken for all sizes")
    kernels_per_layer: float = said(1686 / 12, f"kernels started in a step of base, a layer's share: {_LARGE}")
    seconds_per_kernel: float = said(11e-6, "measured on that machine's host (docs/performance.md)")
    seconds_per_micro_batch: float = said(250.0, f"audio of a micro-batch on a card: as in {_H200}")
    padding: float = said(0.0329, f"padding in the run: {_H200}")
    readers_audio_seconds: float = said(27037.5, f"audio a second that 14 readers of one card give: {_H200}")
    bytes_per_audio_second: float = said(19_900.0, "measured: 27 minutes of LibriSpeech as FLAC")
    storage_bytes_per_second: float = said(10e9, f"what the storage gives to all machines together: {_ASSUMED}")
    cards_per_machine: float = said(8, f"cards that share NVLink: {_ASSUMED}")
    bytes_per_second_inside: float = said(450e9, "NVLink 4 of a card, one direction: data sheet")
    bytes_per_second_between: float = said(50e9, "one network port of 400 Gbit/s for each card: data sheet")
    network_share: float = said(0.7, f"of these figures that a sum of gradients reaches: {_ASSUMED}")
    seconds_per_hop: float = said(20e-6, f"delay of each step of a ring: {_ASSUMED}")
    hidden_share: float = said(0.5, f"of the step behind which the sum can hide: {_ASSUMED}")
    bytes_per_gradient: float = said(4.0, "float32, as Accelerate's data-parallel training sums them")
    card_hours_per_crash: float = said(50_700, "419 in 54 days of 16,384 H100 (Llama 3, arXiv 2407.21783, 3.3.4)")
    seconds_per_crash: float = said(
        420.0, f"half of ten minutes between checkpoints, and two of a new start: {_ASSUMED}"
    )
    euros_per_card_hour: float = said(3.0, f"price: {_ASSUMED}")


@dataclass(frozen=True)
class Model:
    """A size, with how it is pretrained."""

    name: str
    #: Operations, forward and backward, for a second of audio.
    operations: float
    parameters: float
    layers: int
    #: Seconds of audio of an update, and how many updates its recipe has.
    seconds_per_update: float
    updates: float


@dataclass(frozen=True)
class Prediction:
    """What a run would take."""

    #: Hours of audio heard, and passes over the data that these are.
    heard: float
    passes: float
    #: Seconds of an update, and of each of its parts, by their names.
    update: float
    parts: dict[str, float]
    #: Hours by the clock, hours of cards, and what they cost.
    hours: float
    card_hours: float
    euros: float

    @property
    def bottleneck(self) -> str:
        """The part that sets the pace."""
        return max(self.parts, key=lambda name: self.parts[name])


@cache
def model_named(name: str) -> Model:
    """A preset, with the schedule of its recipe: BASE 400,000 updates of 1.6 h (arXiv 2006.11477); XLS-R a million of
    4.3 h (examples/recipes/xls_r_300m.yaml says which of these could be checked), the same for 1b."""
    config = getattr(presets, name)()
    with torch.device("meta"):
        parameters = sum(one.numel() for one in Wav2Vec2ForPreTraining(config).parameters())
    operations = update_operations(config, [round(CLIP_SECONDS * RATE)]) / CLIP_SECONDS
    seconds, updates = (5760.0, 4e5) if name == "base" else (15480.0, 1e6)
    return Model(name, operations, parameters, config.num_hidden_layers, seconds, updates)


def audio_seconds_per_second(model: Model, assumed: Assumptions) -> float:
    """Audio that a step of this model takes in a second. What is neither base nor of large's shape is computed from its
    operations, at large's operations a second."""
    if model.name == "base":
        return assumed.base_step_audio_seconds
    large = model_named("large_lv60k")
    return assumed.large_step_audio_seconds * large.operations / model.operations


def parts_of_update(model: Model, cards: int, assumed: Assumptions) -> dict[str, float]:
    """Seconds of what an update consists of."""
    seconds = model.seconds_per_update / cards
    step = seconds * (1 + assumed.padding) / audio_seconds_per_second(model, assumed)
    micro_batches = math.ceil(seconds / assumed.seconds_per_micro_batch)
    kernels = assumed.kernels_per_layer * model.layers * micro_batches
    computing = step / (assumed.loop_share * (1 + assumed.padding))  # the loop's share has its padding in it already
    starting = kernels * assumed.seconds_per_kernel
    hidden = assumed.hidden_share * max(computing, starting) / micro_batches  # behind the last one alone
    total_bytes = model.seconds_per_update * assumed.bytes_per_audio_second
    return {
        "computing": computing,
        "starting kernels": starting,
        "summing gradients": max(0.0, gradient_seconds(model, cards, assumed) - hidden),
        "readers": seconds / assumed.readers_audio_seconds,
        "storage": total_bytes / assumed.storage_bytes_per_second,
    }


def gradient_seconds(model: Model, cards: int, assumed: Assumptions) -> float:
    """A ring of all cards: twice (n - 1) / n of the gradients pass each, in 2 (n - 1) hops."""
    if cards == 1:
        return 0.0
    inside = cards <= assumed.cards_per_machine
    speed = assumed.bytes_per_second_inside if inside else assumed.bytes_per_second_between
    passed = 2 * (cards - 1) / cards * model.parameters * assumed.bytes_per_gradient
    hops = 2 * (min(cards, assumed.cards_per_machine) - 1) + (0 if inside else math.log2(cards) * 2)
    return passed / (speed * assumed.network_share) + hops * assumed.seconds_per_hop


def predict(model: Model, data_hours: float, cards: int, assumed: Assumptions) -> Prediction:
    """The recipe's updates, or as many as one pass over the data takes, if these are more."""
    updates = max(model.updates, data_hours * 3600 / model.seconds_per_update)
    heard = updates * model.seconds_per_update / 3600
    parts = parts_of_update(model, cards, assumed)
    step = max(parts["computing"], parts["starting kernels"]) + parts["summing gradients"]
    update = max(step, parts["readers"], parts["storage"])
    hours = updates * update / 3600
    crashes = hours * cards / assumed.card_hours_per_crash
    hours += crashes * assumed.seconds_per_crash / 3600
    card_hours = hours * cards
    euros = card_hours * assumed.euros_per_card_hour
    return Prediction(heard, heard / data_hours, update, parts, hours, card_hours, euros)


def table(models: Sequence[str], data_hours: Sequence[float], cards: Sequence[int], assumed: Assumptions) -> list[str]:
    """Lines of a table in Markdown."""
    lines = [
        "| model | hours of audio | hours heard | cards | an update | days | card-hours | cost | what limits it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in models:
        model = model_named(name)
        for hours in data_hours:
            for count in cards:
                found = predict(model, hours, count, assumed)
                share = found.parts[found.bottleneck] / found.update
                lines.append(
                    f"| {name} | {hours:,.0f} | {found.heard:,.0f} ({found.passes:.3g} passes) | {count} "
                    f"| {1000 * found.update:,.0f} ms | {found.hours / 24:,.1f} | {found.card_hours:,.0f} "
                    f"| {found.euros:,.0f} | {found.bottleneck} ({share:.0%}) |"
                )
    return lines


def changed(assumed: Assumptions, settings: Sequence[str]) -> Assumptions:
    """The assumptions with those that NAME=VALUE changes."""
    for setting in settings:
        name, equals, value = setting.partition("=")
        names = [one.name for one in fields(Assumptions)]
        if name not in names:
            raise SystemExit(f"--set {setting}: no such assumption; there are: {', '.join(names)}")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (equals and number > 0 and math.isfinite(number)) and not (name == "padding" and number == 0):
            raise SystemExit(f"--set {setting}: must be {name}=NUMBER, above 0")
        assumed = replace(assumed, **{name: number})
    return assumed


def show(lines: Sequence[str]) -> None:
    """Print them."""
    for line in lines:
        print(line)


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", default="base,xls_r_300m,xls_r_1b")
    parser.add_argument("--hours", default="960,60000,436000,4300000", help="hours of audio that there are")
    parser.add_argument("--cards", default="8,64,512")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another assumption")
    parser.add_argument("--assumptions", action="store_true", help="list them, with their sources")
    parser.add_argument("--check", action="store_true", help="measure processes on this machine beside predictions")
    parser.add_argument("--rounds", type=int, default=5, help="of the check: its figures are medians")
    options = parser.parse_args()
    if options.check:
        show(check(options.rounds))
        return
    assumed = changed(Assumptions(), options.set)
    if options.assumptions:
        show([f"{one.name} = {getattr(assumed, one.name):g}: {one.metadata['source']}" for one in fields(assumed)])
        return
    hours, cards = [float(one) for one in options.hours.split(",")], [int(one) for one in options.cards.split(",")]
    show(table(options.models.split(","), hours, cards, assumed))


if __name__ == "__main__":
    main()
