"""Labels for clips, labels for frames, and voices that can be told apart, as the loop sees them.

Shapes: B clips, S samples, T frames, N labels, E embedding size, C clips of the evaluation.
"""

import math
import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wav2vec2.baselines import SpectrogramConfig
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import FrameGrid, conv_output_length, frame_stride, receptive_field
from wav2vec2.inference.label_rule import several_labels
from wav2vec2.modeling.input_checks import require
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.data.audio_clips import EVALUATION, SAMPLING_RATE, ClipFacts, clip_seed
from wav2vec2.training.tasks.supervised_task import NO_LABEL, SupervisedTask, encoder_inputs, frames_of
from wav2vec2.training.tasks.task import Inputs, Sums, exact

#: One stretch of `segments_of`, as "0.35-1.20 speech".
_SEGMENT = re.compile(r"\s*(\d+(?:\.\d*)?)\s*-\s*(\d+(?:\.\d*)?)\s+(\S.*?)\s*")

#: Clips of an evaluation of which every pair is compared at once.
_ROWS = 1024


class ClipLabelTask(SupervisedTask):
    """One label per clip, which stands where other data has the transcript: keywords, commands, intents."""

    criterion = "error"

    def __init__(
        self,
        config: Wav2Vec2Config | SpectrogramConfig,
        feature_extractor: Wav2Vec2FeatureExtractor,
        labels: Sequence[str],
        seed: int,
        freeze_updates: int | None = 0,
    ) -> None:
        super().__init__(config, feature_extractor, seed, freeze_updates)
        self.labels = list(labels)
        self.numbers = {label: number for number, label in enumerate(labels)}

    def label_of(self, clip: ClipFacts) -> str | None:
        """What is to be learnt of a clip."""
        return clip.transcript

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """With labels (B,). A label that is not known counts for nothing."""
        numbers = [self.numbers.get(self.label_of(clip) or "", NO_LABEL) for clip in clips]
        return waveforms | {"labels": in_first_rows(numbers, waveforms, NO_LABEL)}

    def counts(self, inputs: Inputs) -> Tensor:
        """Labelled clips."""
        return (inputs["labels"] != NO_LABEL).sum().float()[None]

    def sums(self, output: Any, inputs: Inputs) -> Sums:
        """What figures are made of."""
        labels = inputs["labels"]
        return {
            "loss": exact(output.loss),
            "labelled": exact((labels != NO_LABEL).sum()),
            "right": exact((output.logits.argmax(-1) == labels).sum()),
        }

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """Means over what is labelled."""
        labelled = max(sums["labelled"], 1.0)
        return {"loss": sums["loss"] / labelled, "accuracy": sums["right"] / labelled}

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """The same, and how often which label was taken for which."""
        output = self.forward(model, inputs)
        confusion = confusion_table(output.logits.argmax(-1), inputs["labels"], len(self.labels))
        return self.sums(output, inputs) | {"confusion": exact(confusion)}

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """With the share that was wrong, and the confusion table: a row for each label, what it was taken for."""
        table = [[round(count) for count in row] for row in sums["confusion"]]
        figures = self.figures(sums)
        return figures | {"error": 1.0 - figures["accuracy"], "labels": self.labels, "confusion": table}


class MultiLabelTask(ClipLabelTask):
    """Any number of labels per clip, each true or not by itself. What is counted are pairs of a clip and a label."""

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """With labels (B, N): 1 for those of a clip, 0 for the others."""
        labels = torch.full((len(waveforms["sample_lengths"]), len(self.labels)), float(NO_LABEL))
        for row, clip in zip(labels, clips, strict=False):
            own = set(several_labels(self.label_of(clip) or ""))
            if own:
                row.copy_(torch.tensor([float(label in own) for label in self.labels]))
        return waveforms | {"labels": labels}

    def forward(self, model: Any, inputs: Inputs) -> Any:
        """The model's output, its loss as a sum over the pairs."""
        output = model(**encoder_inputs(inputs, self.config))
        labels, known = inputs["labels"], (inputs["labels"] != NO_LABEL).float()
        losses = F.binary_cross_entropy_with_logits(output.logits.float(), labels.clamp(min=0), reduction="none")
        output.loss = (losses * known).sum()
        return output

    def sums(self, output: Any, inputs: Inputs) -> Sums:
        """How many pairs are right, and those of clips and labels that belong together, were taken to, or both."""
        labels, taken = inputs["labels"], output.logits > 0
        known = labels != NO_LABEL
        return {
            "loss": exact(output.loss),
            "labelled": exact(known.sum()),
            "right": exact(((labels == 1) == taken)[known].sum()),
            "true": exact((labels == 1).sum()),
            "taken": exact((taken & known).sum()),
            "found": exact((taken & (labels == 1)).sum()),
        }

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """The same; what was taken for what has no meaning here."""
        return self.sums(self.forward(model, inputs), inputs)

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """With the F1 of all pairs at a probability of one half; the error is what lacks to 1."""
        f1 = 2 * sums["found"] / max(sums["true"] + sums["taken"], 1.0)
        return self.figures(sums) | {"f1": f1, "error": 1.0 - f1, "labels": self.labels}


class FrameLabelTask(ClipLabelTask):
    """One label per frame: voice activity, who speaks when. A transcript is a list of stretches (`segments_of`)."""

    #: The label of frames of which a clip's list says nothing: the first one.
    background = 0

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """With labels (B, T)."""
        labels = torch.full((len(waveforms["sample_lengths"]), frames_of(waveforms, self.config)), NO_LABEL)
        for row, clip in zip(labels, clips, strict=False):
            own = int(conv_output_length(clip.length, self.config.conv_kernel, self.config.conv_stride))
            row[:own] = self.frame_labels(clip.transcript or "", own, clip.speed)
        return waveforms | {"labels": labels}

    def frame_labels(self, segments: str, frames: int, speed: float = 1.0) -> Tensor:
        """The number (T,) of the label in the middle of each frame; of overlapping stretches, of the last. They are
        said of the file, of which the clip may be a copy at another speed."""
        middles = frame_middles(self.config, frames) * speed
        labels = torch.full((frames,), self.background)
        for start, end, label in segments_of(segments):
            labels[(middles >= start) & (middles < end)] = self.numbers.get(label, NO_LABEL)
        return labels

    def forward(self, model: Any, inputs: Inputs) -> Any:
        """The model's output, its loss as a sum over the labelled frames."""
        output = model(**encoder_inputs(inputs, self.config))
        logits, labels = output.logits.float().flatten(0, 1), inputs["labels"].flatten()
        output.loss = F.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
        return output


class SpeakerTask(ClipLabelTask):
    """Voices of training speakers apart from each other; judged on pairs of clips of other speakers.

    `clips` is the number of the evaluation's clips. Every pair of them is compared, over all parts and processes: each
    clip has a row of its own in a table of embeddings, which are added up like everything else.
    """

    criterion = "equal_error_rate"

    def __init__(
        self,
        config: Wav2Vec2Config | SpectrogramConfig,
        feature_extractor: Wav2Vec2FeatureExtractor,
        labels: Sequence[str],
        seed: int,
        freeze_updates: int | None = 0,
        clips: int = 0,
    ) -> None:
        super().__init__(config, feature_extractor, labels, seed, freeze_updates)
        self.rows = {clip_seed(seed, EVALUATION, index): index for index in range(clips)}

    def label_of(self, clip: ClipFacts) -> str | None:
        """Who speaks."""
        return clip.speaker

    def with_targets(self, waveforms: Inputs, clips: Sequence[ClipFacts]) -> Inputs:
        """With a number for every speaker, be it one of the training's or not; 0 where none is named."""
        voices = in_first_rows([voice_number(clip.speaker) for clip in clips], waveforms, 0)
        return super().with_targets(waveforms, clips) | {"voices": voices}

    def forward(self, model: Any, inputs: Inputs) -> Any:
        """The model's output, its loss as a sum."""
        known = inputs["labels"] != NO_LABEL
        known |= inputs["sample_lengths"] == 0
        require(known.all(), "a clip of no training speaker is among those of a training batch")
        return super().forward(model, inputs)

    def sums(self, output: Any, inputs: Inputs) -> Sums:
        """What figures are made of: the scores of speakers stay inside the loss."""
        return {"loss": exact(output.loss), "labelled": exact((inputs["labels"] != NO_LABEL).sum())}

    def figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """The mean over clips."""
        return {"loss": sums["loss"] / max(sums["labelled"], 1.0)}

    def evaluation_part(self, model: Any, inputs: Inputs) -> Sums:
        """Embeddings (C, E) and voices (C,), each clip in its row, and zeros in all others."""
        output = model(**encoder_inputs(inputs, self.config))
        size = output.embeddings.shape[1]
        embeddings = torch.zeros(len(self.rows), size, dtype=torch.float64)
        voices = torch.zeros(len(self.rows), dtype=torch.float64)
        seeds, spoken = inputs["clip_seeds"].tolist(), inputs["voices"].tolist()
        for seed, vector, voice in zip(seeds, output.embeddings.double().cpu(), spoken, strict=True):
            if voice:
                embeddings[self.rows[seed]], voices[self.rows[seed]] = vector, voice
        device = output.logits.device
        return {"embeddings": exact(embeddings.to(device)), "voices": exact(voices.to(device))}

    def evaluation_figures(self, sums: dict[str, Any]) -> dict[str, Any]:
        """How well the cosine of two embeddings tells whether it was the same voice."""
        voices = torch.tensor(sums["voices"], dtype=torch.float64)
        vectors = torch.tensor(sums["embeddings"], dtype=torch.float64)[voices > 0]
        same, other = pair_scores(vectors, voices[voices > 0])
        rate, threshold = equal_error_rate(same, other)
        pairs = {"same_pairs": len(same), "other_pairs": len(other)}
        return {"equal_error_rate": rate, "threshold": threshold} | pairs


def in_first_rows(numbers: Sequence[int], waveforms: Inputs, otherwise: int) -> Tensor:
    """Numbers of clips (B,); of rows without one, `otherwise`."""
    return torch.tensor([*numbers, *[otherwise] * (len(waveforms["sample_lengths"]) - len(numbers))])


def confusion_table(chosen: Tensor, labels: Tensor, count: int) -> Tensor:
    """How often each label (rows) was taken for each (columns): (N, N), of what is labelled."""
    known = labels != NO_LABEL
    pairs = labels[known] * count + chosen[known]
    return torch.bincount(pairs, minlength=count * count).view(count, count)


def segments_of(text: str) -> list[tuple[float, float, str]]:
    """Stretches with their labels: start and end in seconds, end exclusive.

    >>> segments_of("0.35-1.20 speech; 2-2.5 music")
    [(0.35, 1.2, 'speech'), (2.0, 2.5, 'music')]
    """
    found = []
    for piece in filter(str.strip, text.split(";")):
        match = _SEGMENT.fullmatch(piece)
        if match is None or float(match[1]) >= float(match[2]):
            raise ValueError(f"{piece.strip()!r}: must be `start-end label`, in seconds, as `0.35-1.20 speech`")
        found.append((float(match[1]), float(match[2]), match[3]))
    return found


def frame_middles(config: FrameGrid, frames: int) -> Tensor:
    """The second (T,) in the middle of what each frame hears."""
    first = receptive_field(config.conv_kernel, config.conv_stride) / 2
    step = frame_stride(config.conv_stride)
    return (torch.arange(frames, dtype=torch.float64) * step + first) / SAMPLING_RATE


def voice_number(speaker: str | None) -> int:
    """A number from 1 to 2^52 that stands for a name on every machine, and that a float holds exactly; 0 for none."""
    if not speaker:
        return 0
    digest = blake2b(speaker.encode(), digest_size=8, person=b"wav2vec2 voice").digest()
    return (int.from_bytes(digest, "little") >> 12) + 1


def pair_scores(embeddings: Tensor, voices: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of all pairs out of (C, E): those of one voice (C,), and those of two."""
    unit = F.normalize(embeddings, dim=1)
    same, other = [], []
    for first in range(0, len(unit), _ROWS):
        rows = slice(first, first + _ROWS)
        cosines = unit[rows] @ unit.T
        later = torch.arange(len(unit))[None] > torch.arange(len(unit))[rows, None]
        alike = voices[rows, None] == voices[None]
        same.append(cosines[later & alike])
        other.append(cosines[later & ~alike])
    empty = torch.zeros(0, dtype=torch.float64)
    return torch.cat([empty, *same]), torch.cat([empty, *other])


def equal_error_rate(same: Tensor, other: Tensor) -> tuple[float, float]:
    """The rate at which as many pairs of one voice are refused as pairs of two are accepted, and the threshold.

    A pair is accepted when its score is at least the threshold. With few pairs the two rates never quite meet; their
    mean is given where they are nearest. NaN without pairs of either kind.
    """
    if not len(same) or not len(other):
        return math.nan, math.nan
    thresholds = torch.cat([same, other]).unique()
    refused = torch.searchsorted(same.sort().values, thresholds) / len(same)
    accepted = 1 - torch.searchsorted(other.sort().values, thresholds) / len(other)
    nearest = int((refused - accepted).abs().argmin())
    return float(refused[nearest] + accepted[nearest]) / 2, float(thresholds[nearest])
