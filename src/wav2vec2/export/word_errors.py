"""Word error rates of a model in torch and in another runtime, and whether the change is more than chance.

Both hear every recording whole and take the best token of each frame: what differs is the runtime alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wav2vec2.evaluation.bootstrap import Interval, Resampling, by_group, improvement
from wav2vec2.evaluation.evaluation_run import named_recordings
from wav2vec2.evaluation.normalisers import MODEL, normaliser_of
from wav2vec2.evaluation.scoring import UtteranceScore, score_utterances, total
from wav2vec2.export.checkpoint import Array, Checkpoint
from wav2vec2.export.refusal import ExportError
from wav2vec2.export.targets import Precision, Runtime
from wav2vec2.processing.audio_files import load_audio

#: A change of the word error rate that is as large as that, and no chance, is too much.
MOST_CHANGE = 0.005

#: Seconds of a recording that runtimes, which hear it whole, are given.
LONGEST = 120

#: Recordings whose samples are held at once.
_AT_ONCE = 100


@dataclass(frozen=True)
class WordErrors:
    """The rate of a runtime beside torch's, on the same recordings."""

    #: Errors per word in torch.
    torch: float
    #: The same in the runtime.
    runtime: float
    #: The change, and where it lies for other recordings; None for fewer than two.
    change: float
    interval: Interval | None
    #: Texts that are the same, of so many.
    same_texts: int
    recordings: int
    #: Words of the references.
    words: int
    #: What was done to texts before.
    normaliser: str

    @property
    def too_much(self) -> bool:
        """Whether it makes clearly more errors: above 0.5 points, in nearly all resamples more than none."""
        return self.change > MOST_CHANGE and self.interval is not None and self.interval.low > 0


def word_errors(
    checkpoint: Checkpoint, runtimes: Mapping[Precision, Runtime], manifest: Path
) -> dict[Precision, WordErrors]:
    """The rates of each runtime on a manifest with transcripts."""
    recordings = named_recordings(manifest)
    if not recordings:
        raise ExportError(f"{manifest}: has no recordings")
    rate = checkpoint.extractor.sampling_rate
    said: list[str] = []
    heard: dict[Precision, list[str]] = {precision: [] for precision in runtimes}
    paths = [one.path for one in recordings.values()]
    for begin in range(0, len(paths), _AT_ONCE):
        clips = [_whole(path, rate) for path in paths[begin : begin + _AT_ONCE]]
        said += [checkpoint.text(checkpoint.outputs(clip)["logits"]) for clip in clips]
        for precision, runtime in runtimes.items():
            heard[precision] += [" ".join(text.split()) for text in runtime.texts(clips)]
    assert checkpoint.processor is not None
    treat = normaliser_of(MODEL, checkpoint.processor.tokenizer)
    references = [one.transcript or "" for one in recordings.values()]
    before = score_utterances(references, said, treat)
    return {
        precision: _beside(before, score_utterances(references, texts, treat), said, texts, treat.name)
        for precision, texts in heard.items()
    }


def _whole(path: Path, rate: int) -> Array:
    clip = load_audio(path, rate)
    if len(clip) > LONGEST * rate:
        raise ExportError(f"{path}: has {len(clip) / rate:.0f} s; runtimes hear it whole, so cut it to {LONGEST} s")
    return clip


def _beside(
    before: Sequence[UtteranceScore],
    after: Sequence[UtteranceScore],
    said: Sequence[str],
    heard: Sequence[str],
    normaliser: str,
) -> WordErrors:
    each = range(len(before))
    first, second = (by_group([one.words.errors for one in scores], each) for scores in (before, after))
    words = by_group([one.words.reference for one in before], each)
    compared = improvement(first, second, words, Resampling())
    old, new = (total(one.words for one in scores).rate for scores in (before, after))
    same = sum(one == other for one, other in zip(said, heard, strict=True))
    interval = None if compared is None else compared.interval
    return WordErrors(old, new, new - old, interval, same, len(said), int(words.sum()), normaliser)
