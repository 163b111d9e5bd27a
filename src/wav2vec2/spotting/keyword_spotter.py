"""`KeywordSpotter`: keywords in recordings of any length, with any CTC model as it is, in bounded memory.

Recordings go through the model as a `Transcriber` takes them: in windows, which share batches. Their frames are
searched as they come, so that an hour of audio needs no more memory than a minute. `live` gives what hears streams.

Shapes: T frames, V tokens.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.alignment.keyword_scores import KeywordPaths
from wav2vec2.inference.audio_inputs import AudioInput, audio_inputs
from wav2vec2.inference.listener import Heard, Progress
from wav2vec2.inference.transcriber import Transcriber, greedy_decoder
from wav2vec2.spotting.keyword_search import KeywordSearch, ScoredFrames
from wav2vec2.spotting.keywords import Keyword, keywords_for
from wav2vec2.spotting.picked_hits import PATIENCE, HitPicker, Peak

#: Where nothing was calibrated: a guess.
UNCALIBRATED_THRESHOLD = 0.3


@dataclass(frozen=True)
class Hit:
    """A keyword that was said, when in seconds, and how well it fits, from 0 to 1."""

    keyword: str
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Found:
    """What is new of a recording: its `hits`, and whether it is `complete`; or the `error` that ended it."""

    name: str
    hits: tuple[Hit, ...] = ()
    #: How much of it was heard.
    seconds: float = 0.0
    complete: bool = False
    error: Exception | None = None


@dataclass
class Searched(Heard):
    """A recording on its way through the model, and where the search stands in it."""

    paths: KeywordPaths | None = None
    #: What makes hits of its scores.
    picker: HitPicker | None = None
    #: Hits that were found and not handed out.
    hits: list[Hit] = field(default_factory=list)


#: What is told all scores: the name of a recording and its next frames, as they come.
Trace = Callable[[str, ScoredFrames], None]


class KeywordSpotter:
    """Finds keywords with the model of a transcriber; a hit has a score of at least its keyword's threshold.

    `thresholds` has one for each keyword, between 0 and 1; None stands for a guess that nothing was calibrated for.
    """

    def __init__(
        self, transcriber: Transcriber, keywords: Sequence[Keyword], thresholds: Sequence[float | None] | None = None
    ) -> None:
        speller = greedy_decoder(transcriber.model, transcriber.processor).speller
        self.transcriber, self.keywords = transcriber, list(keywords)
        self.search = KeywordSearch(keywords, speller)
        given = [None] * len(self.keywords) if thresholds is None else list(thresholds)
        if len(given) != len(self.keywords):
            raise ValueError(f"{len(given)} thresholds for {len(self.keywords)} keywords: one of each is needed")
        self.thresholds = [UNCALIBRATED_THRESHOLD if one is None else one for one in given]
        wrong = [one for one in self.thresholds if not 0 < one <= 1]
        if wrong:
            raise ValueError(f"threshold={wrong[0]}: must be above 0 and at most 1")

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        keywords: str | Sequence[str],
        thresholds: Sequence[float | None] | None = None,
        phones: Sequence[str] = (),
        text_language: str | None = None,
        **options: Any,
    ) -> "KeywordSpotter":
        """Load model and processor from a folder or the Hub; `options` are those of `Transcriber.from_pretrained`.

        `keywords` are texts; `phones` are more of them, in IPA, for a model that has phones.
        """
        transcriber = Transcriber.from_pretrained(name_or_path, **options)
        texts = [keywords] if isinstance(keywords, str) else keywords
        return cls(transcriber, keywords_for(transcriber.processor.tokenizer, texts, phones, text_language), thresholds)

    @property
    def frame_times(self) -> FrameTimes:
        """When the frames are."""
        return self.transcriber.frame_times

    @property
    def patience(self) -> int:
        """Frames after which a hit is told."""
        return round(PATIENCE * self.frame_times.sampling_rate / self.frame_times.stride)

    def picker(self) -> HitPicker:
        """What makes hits of the scores of one stream."""
        return HitPicker(self.thresholds, self.patience)

    def hit(self, peak: Peak) -> Hit:
        """A hit with its times."""
        start, end = self.frame_times.interval(peak.first, peak.last + 1, math.inf)
        return Hit(self.keywords[peak.keyword].text, start, end, peak.score)

    def spot(self, audio: object, sampling_rate: int | None = None) -> list[Hit]:
        """The hits in one recording, in order: what `Transcriber.transcribe` takes as one."""
        ((recording,), _) = audio_inputs([audio], sampling_rate)
        hits: list[Hit] = []
        for found in self.spot_each([recording]):
            if found.error is not None:
                raise found.error
            hits += found.hits
        return hits

    def spot_each(
        self, recordings: Iterable[AudioInput], progress: Progress | None = None, trace: Trace | None = None
    ) -> Iterator[Found]:
        """What is found in recordings, in their order, while it goes on; several share the batches of the model.

        `progress` is called with the seconds of audio that each batch has got further, `trace` with all scores.
        """
        begun: deque[Searched] = deque()

        def each() -> Iterator[Searched]:
            for audio in recordings:
                begun.append(Searched(audio, paths=self.search.begin(), picker=self.picker()))
                yield begun[-1]

        for pieces in self.transcriber.listener.hear(each(), progress):
            self._search([(recording, segment.log_probs) for recording, segment in pieces.of], trace)
            yield from self._news(begun)
        yield from self._news(begun)

    def _search(self, pieces: Sequence[tuple[Searched, Tensor]], trace: Trace | None) -> None:
        """Search what came of each recording: all of a batch side by side."""
        of_each: dict[int, tuple[Searched, list[Tensor]]] = {}
        for recording, rows in pieces:
            of_each.setdefault(id(recording), (recording, []))[1].append(rows)
        joined = [(recording, torch.cat(parts)) for recording, parts in of_each.values()]
        for recording, rows in joined:
            if rows.isnan().any():
                recording.error = ValueError(f"{recording.audio.name}: the model's output is NaN")
        sound = [(recording, rows) for recording, rows in joined if recording.error is None]
        paths = [recording.paths for recording, _ in sound if recording.paths is not None]
        for (recording, _), scored in zip(sound, self.search.score(paths, [rows for _, rows in sound]), strict=True):
            assert recording.picker is not None
            recording.hits += map(self.hit, recording.picker.add(*scored))
            if trace is not None:
                trace(recording.audio.name, scored)

    def _news(self, begun: deque[Searched]) -> Iterator[Found]:
        """What can be told of the recordings at the front of the queue; later ones wait for those before them."""
        while begun:
            recording = begun[0]
            name, seconds = recording.audio.name, recording.seconds(self.frame_times.sampling_rate)
            complete = recording.complete
            if complete and recording.error is None and recording.picker is not None:
                recording.hits += map(self.hit, recording.picker.finish())
            if complete or recording.hits:
                yield Found(name, tuple(recording.hits), seconds, complete, recording.error)
            recording.hits = []
            if not complete:
                return
            begun.popleft()
