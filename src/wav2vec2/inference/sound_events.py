"""`SoundEventDetector`: what is heard in a recording of any length when, from a model that names every frame.

The recording is read and computed in windows, as for a transcript; what becomes of the frames does not depend on how
they were cut, and the memory does not grow with the recording.

Shapes: T frames, N labels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.inference.audio_inputs import audio_inputs
from wav2vec2.inference.checkpoint_check import check_head_for_sounds, reach
from wav2vec2.inference.event_captions import SoundEvent, caption_text
from wav2vec2.inference.event_path import EventPath, Stretch
from wav2vec2.inference.listener import Heard, Listener, Progress
from wav2vec2.inference.windows_and_segments import WindowPlan
from wav2vec2.modeling import Wav2Vec2ForAudioFrameClassification
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor

#: Labels of frames in which nothing happens that has a name.
_BACKGROUND = ("none", "background")


@dataclass(frozen=True)
class EventRules:
    """What of a model's frames is an event."""

    #: How many nats a change of label costs: of two like one another, a sound is not cut for single frames.
    switching_cost: float = 3.0
    #: Seconds that every label lasts at least; what is shorter belongs to its neighbours.
    minimum: float = 0.14
    #: The least mean probability of an event.
    threshold: float = 0.5
    #: Seconds from which on events of a label are given; of others, all are.
    shortest: Mapping[str, float] = field(default_factory=lambda: {"silence": 2.0})
    #: What captions say of a label, where it is not the label itself; nothing: no caption.
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.switching_cost >= 0 and self.minimum >= 0 and 0 <= self.threshold <= 1):
            raise ValueError(
                f"switching_cost={self.switching_cost}, minimum={self.minimum}, threshold={self.threshold}: "
                "none may be negative, and the threshold is a probability"
            )

    def check_labels(self, labels: list[str]) -> None:
        """A ValueError for a rule about a label that a model does not have."""
        unknown = sorted({*self.names, *self.shortest} - {*labels, "silence"})
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no label of the model, which has {', '.join(labels)}")


class SoundEventDetector:
    """Finds sound events with a frame classifier: `detect`.

    `window_seconds` of a long recording are looked at at once, of which `context_seconds` on either side only inform
    the rest; a batch holds up to `batch_seconds` of audio.
    """

    def __init__(
        self,
        model: Wav2Vec2ForAudioFrameClassification,
        feature_extractor: Wav2Vec2FeatureExtractor,
        rules: EventRules | None = None,
        window_seconds: float = 30.0,
        context_seconds: float = 4.0,
        batch_seconds: float | None = None,
    ) -> None:
        config = model.config
        if config.add_adapter:
            raise ValueError("add_adapter=True drops frames after the convolutions; their times are not known")
        self.rules = rules or EventRules()
        self.labels = [str(config.id2label[number]) for number in range(config.num_labels)]
        self.rules.check_labels(self.labels)
        rate = feature_extractor.sampling_rate
        self.times = FrameTimes(tuple(config.conv_kernel), tuple(config.conv_stride), rate)
        plan = WindowPlan(window_seconds, context_seconds, feature_extractor.do_normalize, self.times)
        self.listener = Listener(model.eval(), plan, batch_seconds)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        device: str | torch.device | None = None,
        rules: EventRules | None = None,
        window_seconds: float = 30.0,
        context_seconds: float = 4.0,
        batch_seconds: float | None = None,
    ) -> "SoundEventDetector":
        """Load a model and its feature extractor from a folder or the Hub, onto the accelerator if there is one."""
        there = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        hub = reach(name_or_path)
        check_head_for_sounds(name_or_path, hub)
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(name_or_path, **hub)
        model = Wav2Vec2ForAudioFrameClassification.from_pretrained(name_or_path, dtype=torch.float32, **hub)
        where = there if device is None else torch.device(device)
        return cls(model.to(where), extractor, rules, window_seconds, context_seconds, batch_seconds)

    def detect(
        self, audio: object, sampling_rate: int | None = None, progress: Progress | None = None
    ) -> tuple[list[SoundEvent], float]:
        """The events of one recording in order, which never overlap, and its seconds.

        A path, the bytes of a file, or samples: (array, rate), or an array with `sampling_rate`. `progress` is called
        with the seconds of audio that each batch has got further.
        """
        ((recording,), _) = audio_inputs([audio], sampling_rate)
        heard = Heard(recording)
        stretches = list(self._stretches(heard, progress))
        if heard.error is not None:
            raise heard.error
        duration = heard.seconds(self.times.sampling_rate)
        return [event for one in stretches if (event := self._event(one, heard, duration)) is not None], duration

    def _stretches(self, heard: Heard, progress: Progress | None) -> Iterator[Stretch]:
        """What the frames of a recording become."""
        fewest = max(1, round(self.rules.minimum * self.times.sampling_rate / self.times.stride))
        path = EventPath([fewest] * len(self.labels), self.rules.switching_cost)
        for pieces in self.listener.hear([heard], progress):
            for _, piece in pieces.of:
                if piece.log_probs.isnan().any():
                    raise ValueError(f"{heard.audio.name}: the model's output is NaN")
                yield from path.add(piece.log_probs.double().numpy())
        yield from path.finish()

    def _event(self, stretch: Stretch, heard: Heard, duration: float) -> SoundEvent | None:
        """A stretch with its times, the first and the last up to the ends of the recording; None if it is none."""
        label = self.labels[stretch.label]
        start, end = self.times.interval(stretch.start, stretch.end, duration)
        start, end = start if stretch.start else 0.0, duration if stretch.end >= heard.known else end
        if label in _BACKGROUND or stretch.confidence < self.rules.threshold:
            return None
        if end - start < self.rules.shortest.get(label, 0.0):
            return None
        return SoundEvent(label, start, end, stretch.confidence, caption_text(label, self.rules.names))
