"""From background audio without the keywords to their thresholds."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.listener import Progress
from wav2vec2.pronunciation.assessing import head_sha256
from wav2vec2.spotting.keyword_search import ScoredFrames
from wav2vec2.spotting.keyword_spotter import Hit, KeywordSpotter
from wav2vec2.spotting.keywords import token_names
from wav2vec2.spotting.live_spotter import LiveSpotter
from wav2vec2.spotting.thresholds import (
    KeptScores,
    KeywordThreshold,
    Thresholds,
    allowed_alarms,
    chosen_threshold,
)

#: False alarms that are told, the highest scores first.
TOLD = 5


@dataclass(frozen=True)
class Alarm:
    """A false alarm, and the recording that it is in."""

    name: str
    hit: Hit


@dataclass
class Calibrated:
    """Thresholds, where their false alarms are, and the recordings that could not be heard."""

    thresholds: Thresholds
    alarms: list[Alarm] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def calibrate(
    spotter: KeywordSpotter,
    background: Iterable[AudioInput],
    name: str,
    false_alarms_per_hour: float,
    live: LiveSpotter | None = None,
    progress: Progress | None = None,
) -> Calibrated:
    """Choose thresholds on background audio, which is called `name`, so that each keyword has at most so many false
    alarms an hour in it. It is heard as files are, or as the streams of a `live` spotter.

    Memory: a few bytes for each frame in which a keyword is likely at all. A ValueError where a keyword is heard so
    often that no threshold will do: then it is said there, or the model cannot tell.
    """
    if not false_alarms_per_hour > 0:
        raise ValueError(f"false alarms per hour: {false_alarms_per_hour:g} must be above 0")
    kept: dict[str, list[KeptScores]] = {}
    faults: list[str] = []
    seconds = 0.0

    def trace(of: str, scored: ScoredFrames) -> None:
        rows = kept.setdefault(of, [KeptScores(of) for _ in spotter.keywords])
        for row, scores, began in zip(rows, scored.scores.T, scored.began.T, strict=True):
            row.add(scores, began)

    for found in (spotter if live is None else live).spot_each(background, progress, trace):
        if found.error is not None:
            kept.pop(found.name, None)
            faults.append(str(found.error))
        elif found.complete:
            seconds += found.seconds
    if not seconds:
        raise ValueError("; ".join(["no background audio was heard", *faults]))
    found_thresholds, alarms = [], []
    for number, keyword in enumerate(spotter.keywords):
        scores = [rows[number] for rows in kept.values()]
        allowed = allowed_alarms(false_alarms_per_hour, seconds / 3600)
        threshold = chosen_threshold(scores, allowed, spotter.patience)
        if threshold is None:
            raise ValueError(_heard_everywhere(spotter, number, scores, allowed))
        hits = _hits(spotter, number, scores, threshold)
        alarms += hits
        tokens = token_names(spotter.transcriber.processor.tokenizer, keyword.tokens)
        latency = None if live is None else live.latency
        found_thresholds.append(
            KeywordThreshold(
                keyword.text, tokens, threshold, false_alarms_per_hour, len(hits), seconds / 3600, name, latency
            )
        )
    return Calibrated(Thresholds(head_sha256(spotter.transcriber), found_thresholds), alarms, faults)


def _hits(spotter: KeywordSpotter, number: int, scores: Iterable[KeptScores], threshold: float) -> list[Alarm]:
    """The hits of one keyword in all recordings, the highest scores first."""
    found = [
        Alarm(one.name, spotter.hit(peak._replace(keyword=number)))
        for one in scores
        for peak in one.hits(threshold, spotter.patience)
    ]
    return sorted(found, key=lambda alarm: -alarm.hit.score)


def _heard_everywhere(spotter: KeywordSpotter, number: int, scores: list[KeptScores], allowed: int) -> str:
    hits = _hits(spotter, number, scores, 1.0)
    places = ", ".join(f"{alarm.name} at {alarm.hit.start:.2f} s" for alarm in hits[:TOLD])
    return (
        f"keyword {spotter.keywords[number].text!r}: the model writes it {len(hits)} times in the background, where "
        f"{allowed} may be ({places}). If it is said there, leave that audio out"
    )
