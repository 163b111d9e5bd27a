"""`Labeller`: recordings in, labels with their probabilities out.

Shapes: B clips of a batch, S samples, N labels.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from wav2vec2.baselines import SPECTROGRAM_CLASSIFIERS
from wav2vec2.configuration.frame_arithmetic import receptive_field
from wav2vec2.inference.audio_inputs import AudioInput, audio_inputs
from wav2vec2.inference.checkpoint_check import reach
from wav2vec2.inference.label_rule import LabelRule, plain_rule, read_rule
from wav2vec2.inference.model_kinds import LABELS, kind_of_model
from wav2vec2.modeling import Wav2Vec2ForSequenceClassification
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.tokenizer_files import CONFIG_FILE, find_file, read_json

#: Of a model that may give several labels to a clip, the `problem_type` of its configuration.
SEVERAL = "multi_label_classification"


@dataclass(frozen=True)
class Labelled:
    """What a recording is."""

    #: The file, or what the caller's samples are called.
    path: str
    #: The labels that hold, the most probable first; empty for none of these.
    labels: list[str] = field(default_factory=list)
    #: The probability of each label of the model.
    probabilities: dict[str, float] = field(default_factory=dict)
    #: Of the recording, in seconds.
    duration: float = 0.0
    #: Why there is no answer, if the recording could not be used.
    error: str | None = None


class Labeller:
    """Names what a clip is, with a classifier and the `rule` that makes answers of probabilities.

    A batch holds up to `batch_seconds` of audio. A label is of a whole clip: longer ones than `longest_seconds` are
    refused.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        extractor: Wav2Vec2FeatureExtractor,
        rule: LabelRule | None = None,
        batch_seconds: float = 60.0,
        longest_seconds: float = 60.0,
    ) -> None:
        self.model, self.extractor = model.eval(), extractor
        self.rule = rule or plain_rule(gives_several(model))
        self.batch_seconds, self.longest_seconds = batch_seconds, longest_seconds

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        device: str | torch.device | None = None,
        threshold: float | None = None,
        batch_seconds: float = 60.0,
    ) -> Self:
        """Load model and rule from a folder or the Hub; with a `threshold`, that alone is the rule.

        `device`: by default the accelerator that is there (cuda, mps, ...), else cpu.
        """
        there = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        hub = reach(name_or_path)
        kind = kind_of_model(name_or_path, hub)
        path = find_file(name_or_path, CONFIG_FILE, hub)
        if path is not None and kind != LABELS:
            what = ", ".join(map(str, read_json(path).get("architectures") or ["model without a head"]))
            raise ValueError(
                f"{name_or_path}: is a {what}, which gives clips no labels: `wav2vec2 finetune RECIPE --task "
                "classification` makes a model that does"
            )
        network = {} if path is None else read_json(path)
        model_class = SPECTROGRAM_CLASSIFIERS.get(network.get("model_type", ""), Wav2Vec2ForSequenceClassification)
        model = model_class.from_pretrained(name_or_path, dtype=torch.float32, **hub).to(device or there)
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(name_or_path, **hub)
        several = gives_several(model)
        rule = read_rule(name_or_path, labels_of(model), several, hub)
        return cls(model, extractor, rule if threshold is None else plain_rule(several, threshold), batch_seconds)

    @property
    def labels(self) -> list[str]:
        """Those of the model, in its order."""
        return labels_of(self.model)

    def label(self, audio: object, sampling_rate: int | None = None) -> Labelled | list[Labelled]:
        """The labels of one recording, or of a list or folder of them, as `Transcriber.transcribe` takes them. One
        recording alone that cannot be used is a ValueError; of several it is told in `Labelled.error`."""
        inputs, alone = audio_inputs(audio, sampling_rate)
        found = list(self.label_each(inputs))
        if not alone:
            return found
        if found[0].error is not None:
            raise ValueError(found[0].error)
        return found[0]

    def label_each(
        self, inputs: Iterable[AudioInput], progress: Callable[[float], None] | None = None
    ) -> Iterator[Labelled]:
        """Label recordings in their order, batch by batch; one that cannot be used does not stop the others. `progress`
        is called with the seconds of audio that were done."""
        rate = self.extractor.sampling_rate
        waiting: list[tuple[AudioInput, NDArray[np.float32] | str]] = []
        seconds = 0.0
        for one in inputs:
            waiting.append((one, self._read(one)))
            found = waiting[-1][1]
            seconds += 0.0 if isinstance(found, str) else len(found) / rate
            if seconds >= self.batch_seconds:
                yield from self._batch(waiting)
                if progress is not None:
                    progress(seconds)
                waiting, seconds = [], 0.0
        yield from self._batch(waiting)
        if progress is not None:
            progress(seconds)

    def _read(self, audio: AudioInput) -> NDArray[np.float32] | str:
        """The samples (S,) of a recording, or why it cannot be used."""
        rate, config = self.extractor.sampling_rate, self.model.config
        try:
            blocks = audio.blocks(rate, round(self.longest_seconds * rate), 0)
            samples = next(blocks, np.zeros(0, np.float32))
            if next(blocks, None) is not None:
                raise ValueError(f"longer than {self.longest_seconds:g} s: a label is of a whole clip, so cut it")
            if len(samples) < (least := receptive_field(config.conv_kernel, config.conv_stride)):
                raise ValueError(f"{len(samples)} samples at {rate} Hz: the model needs {least}")
            if samples.max() == samples.min():
                raise ValueError("silent: all samples are equal")
        except (ValueError, OSError) as error:
            return str(error) if audio.name in str(error) else f"{audio.name}: {error}"
        return samples

    def _batch(self, read: list[tuple[AudioInput, NDArray[np.float32] | str]]) -> Iterator[Labelled]:
        """The answers for recordings that were read, in their order."""
        clips = [samples for _, samples in read if not isinstance(samples, str)]
        probabilities = iter(self._probabilities(clips).tolist() if clips else [])
        for audio, samples in read:
            if isinstance(samples, str):
                yield Labelled(audio.name, error=samples)
                continue
            values = dict(zip(self.labels, next(probabilities), strict=True))
            if any(value != value for value in values.values()):  # NaN alone is no equal of itself
                yield Labelled(audio.name, error=f"{audio.name}: the model's output is NaN")
                continue
            duration = len(samples) / self.extractor.sampling_rate
            yield Labelled(audio.name, self.rule.answer(values), values, duration)

    def _probabilities(self, clips: list[NDArray[np.float32]]) -> Tensor:
        """Of each label, of clips: (B, N)."""
        inputs = self.extractor(clips, padding=True, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        with torch.no_grad():
            logits = self.model(**inputs.to(self.model.device)).logits.float()
        return (logits.sigmoid() if self.rule.several else logits.softmax(-1)).cpu()


def labels_of(model: PreTrainedModel) -> list[str]:
    """The labels of a model by the number of its output."""
    return [str(model.config.id2label[number]) for number in range(model.config.num_labels)]


def gives_several(model: PreTrainedModel) -> bool:
    """Whether a clip may have any number of the model's labels."""
    return bool(model.config.problem_type == SEVERAL)
