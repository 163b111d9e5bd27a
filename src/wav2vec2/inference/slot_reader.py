"""`SlotReader`: recordings in, slots with their values out.

Two kinds of models do it: one that gives each slot of a clip a value or none, with probabilities; and a recogniser
whose text marks slots, which also says what was said, and when.

Shapes: B clips of a batch, S samples, T frames, V tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2vec2.baselines import CRNNForSlots, DepthwiseCNNForSlots
from wav2vec2.configuration.frame_arithmetic import logits_length
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.checkpoint_check import reach
from wav2vec2.inference.labeller import Labelled, Labeller
from wav2vec2.inference.model_kinds import MARKED_TEXT, SLOTS, kind_of_model
from wav2vec2.inference.recogniser_class import recogniser_class
from wav2vec2.modeling.for_slots import Wav2Vec2ForSlots, slot_values_of
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.processor import load_tokenizer
from wav2vec2.processing.slot_marks import slots_of_vocabulary
from wav2vec2.processing.slot_texts import read_pieces
from wav2vec2.processing.tokenizer_files import CONFIG_FILE, find_file, read_json

#: Networks on log-mel energies that fill slots, by the `model_type` of their configuration.
_NETWORKS: dict[str, Any] = {kind.config_class.model_type: kind for kind in (CRNNForSlots, DepthwiseCNNForSlots)}


@dataclass(frozen=True)
class FilledSlot:
    """A slot that was heard."""

    #: Its name.
    name: str
    #: Its value.
    value: str
    #: How probable that value is; None of a recogniser.
    probability: float | None = None
    #: When it was said, in seconds; None where only a recogniser would know.
    start: float | None = None
    #: When that was over.
    end: float | None = None


@dataclass(frozen=True)
class Filled(Labelled):
    """What a recording asks for: `slots` in their order, and of a recogniser the `text` without marks."""

    slots: tuple[FilledSlot, ...] = ()
    text: str | None = None

    @property
    def values(self) -> dict[str, list[str]]:
        """The values of each slot that was heard."""
        found: dict[str, list[str]] = {}
        for slot in self.slots:
            found.setdefault(slot.name, []).append(slot.value)
        return found


class SlotReader(Labeller):
    """Fills slots. A value that is less probable than `threshold` is none."""

    threshold = 0.0

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        device: str | torch.device | None = None,
        threshold: float | None = None,
        batch_seconds: float = 60.0,
    ) -> Self:
        """Load a model from a folder or the Hub. `device`: by default the accelerator that is there, else cpu."""
        there = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        hub = reach(name_or_path)
        kind = kind_of_model(name_or_path, hub)
        if kind not in (SLOTS, MARKED_TEXT):
            raise ValueError(
                f"{name_or_path}: fills no slots: `wav2vec2 finetune RECIPE --task slots` makes a model that does"
            )
        if kind == MARKED_TEXT and threshold is not None:
            raise ValueError(
                f"{name_or_path}: writes text with slots, which has no probabilities: leave out --threshold"
            )
        path = find_file(name_or_path, CONFIG_FILE, hub)
        network = {} if path is None else read_json(path)
        model_class = _NETWORKS.get(network.get("model_type", ""), Wav2Vec2ForSlots)
        if kind == MARKED_TEXT:
            model_class = recogniser_class(name_or_path, hub)
        model = model_class.from_pretrained(name_or_path, dtype=torch.float32, **hub).to(device or there)
        reader = cls(model, Wav2Vec2FeatureExtractor.from_pretrained(name_or_path, **hub), None, batch_seconds)
        reader.tokenizer = load_tokenizer(name_or_path, **hub) if kind == MARKED_TEXT else None
        reader.threshold = threshold or 0.0
        return reader

    #: What reads the paths of a recogniser.
    tokenizer: Any = None

    @property
    def writes(self) -> bool:
        """Whether it also says what was said."""
        return self.tokenizer is not None

    @property
    def names(self) -> list[str]:
        """The slots that there are."""
        return (
            slots_of_vocabulary(self.tokenizer.encoder) if self.writes else [*slot_values_of(self.model.config).slots]
        )

    def read(self, audio: object, sampling_rate: int | None = None) -> Filled | list[Filled]:
        """The slots of one recording, or of a list or folder of them. One recording alone that cannot be used is a
        ValueError; of several it is told in `Filled.error`."""
        return cast("Filled | list[Filled]", self.label(audio, sampling_rate))

    def read_each(
        self, inputs: Iterable[AudioInput], progress: Callable[[float], None] | None = None
    ) -> Iterator[Filled]:
        """Recordings in their order, batch by batch; one that cannot be used does not stop the others."""
        return cast("Iterator[Filled]", self.label_each(inputs, progress))

    def _batch(self, read: list[tuple[AudioInput, NDArray[np.float32] | str]]) -> Iterator[Labelled]:
        clips = [samples for _, samples in read if not isinstance(samples, str)]
        logits: Iterator[Tensor] = iter(self._logits(clips) if clips else [])
        for audio, samples in read:
            if isinstance(samples, str):
                yield Filled(audio.name, error=samples)
                continue
            own = next(logits)
            if not own.isfinite().all():
                yield Filled(audio.name, error=f"{audio.name}: the model's output is NaN")
                continue
            slots, text = self._written(own, len(samples)) if self.writes else (self._chosen(own), None)
            seconds = len(samples) / self.extractor.sampling_rate
            yield Filled(audio.name, duration=seconds, slots=tuple(slots), text=text)

    def _logits(self, clips: Sequence[NDArray[np.float32]]) -> Tensor:
        """Of clips: (B, N), or of a recogniser (B, T, V)."""
        rate = self.extractor.sampling_rate
        inputs = self.extractor(
            list(clips), padding=True, sampling_rate=rate, return_attention_mask=True, return_tensors="pt"
        )
        with torch.no_grad():
            return cast("Tensor", self.model(**inputs.to(self.model.device)).logits.float().cpu())

    def _chosen(self, logits: Tensor) -> Iterator[FilledSlot]:
        """The most probable value (N,) of each slot, where there is one."""
        known = slot_values_of(self.model.config)
        for name, own in known.of_each(logits).items():
            probability, number = own.softmax(-1).max(-1)
            if number and probability >= self.threshold:
                yield FilledSlot(name, known.slots[name][int(number) - 1], round(float(probability), 4))

    def _written(self, logits: Tensor, samples: int) -> tuple[list[FilledSlot], str]:
        """What the likeliest path of a clip (T, V) marks, and its text."""
        tokenizer, config = self.tokenizer, self.model.config
        path = logits[: int(logits_length(samples, config))].argmax(-1)
        found = read_pieces(tokenizer.pieces(path, skip_special_tokens=True), tokenizer.word_delimiter_token)
        frame = config.inputs_to_logits_ratio / self.extractor.sampling_rate
        slots = [
            FilledSlot(slot.name, slot.value, start=round(slot.start * frame, 3), end=round(slot.end * frame, 3))
            for slot in found.slots
        ]
        return slots, found.text
