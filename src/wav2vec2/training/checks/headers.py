"""What a manifest says of its recordings against what their headers say: sampling rates, channels, lengths."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from wav2vec2.processing.audio_files import audio_duration, open_recording
from wav2vec2.training.checks.clips import ClipSource
from wav2vec2.training.checks.report import EXAMPLES, Finding, by_share, example
from wav2vec2.training.data.audio_clips import HEADER_TOLERANCE, SAMPLING_RATE
from wav2vec2.training.data.durations import reason_of
from wav2vec2.training.settings.random_seeds import seed_of

#: Headers that are read of one source: all of a small one, a sample of a large one.
HEADERS = 300

#: Headers that are read at the same time.
_THREADS = 8


@dataclass(frozen=True)
class AudioHeader:
    """What a file says of itself."""

    #: The clip it is of.
    index: int
    #: Samples a second.
    rate: int = 0
    #: How many channels there are.
    channels: int = 0
    #: How long the recording is.
    seconds: float = float("nan")
    #: Why the header cannot be read, empty if it can.
    reason: str = ""

    @property
    def kind(self) -> str:
        """Rate and channels in words, as "44.1 kHz stereo"."""
        channels = {1: "mono", 2: "stereo"}.get(self.channels, f"with {self.channels} channels")
        return f"{self.rate / 1000:g} kHz {channels}"


def chosen(source: ClipSource, most: int, seed: int, purpose: str) -> list[int]:
    """At most `most` of the usable clips whose audio is there, the same ones for the same seed."""
    usable = source.usable()
    if not source.complete:
        usable = np.array([index for index in usable if source.audio(int(index)) != b""], np.int64)
    if len(usable) > most:
        generator = np.random.default_rng(seed_of(seed, purpose))
        usable = np.sort(generator.choice(usable, most, replace=False))
    return [int(index) for index in usable]


def read_some_headers(source: ClipSource, seed: int) -> list[AudioHeader]:
    """The headers of a sample, several at a time."""

    def read(index: int) -> AudioHeader:
        try:
            audio = source.audio(index)
            with open_recording(audio) as recording:
                rate, channels = recording.rate, recording.channels
            return AudioHeader(index, rate, channels, audio_duration(audio))
        except MemoryError:
            raise
        except Exception as error:
            return AudioHeader(index, reason=reason_of(error))

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="headers") as pool:
        return list(pool.map(read, chosen(source, HEADERS, seed, "validated headers")))


def header_findings(source: ClipSource, headers: list[AudioHeader], max_bad_share: float) -> Iterator[Finding]:
    """Contradictions between manifest and headers, and what loading will change."""
    if bad := [one for one in headers if one.reason]:
        yield Finding(
            "unreadable",
            by_share(len(bad), len(headers), max_bad_share),
            source.where,
            "recordings whose headers were read cannot be opened: they are left out",
            len(bad),
            len(headers),
            [example(source.id(one.index), detail=one.reason) for one in bad[:EXAMPLES]],
            "files that are there and play to their end, with paths relative to the manifest",
        )
    read = [one for one in headers if not one.reason]
    yield from _other_rates(source, read)
    yield from _other_lengths(source, read, max_bad_share)
    yield from _converted(source, read)


def _other_rates(source: ClipSource, headers: list[AudioHeader]) -> Iterator[Finding]:
    """The header is what audio is loaded by; a manifest that says otherwise was made from other files."""
    wrong = [one for one in headers if source.rates[one.index] not in (None, one.rate)]
    if wrong:
        by_clip = {one.index: one for one in wrong}
        pairs = Counter((one.kind, source.rates[one.index]) for one in wrong)
        said = ", ".join(f"{n} {kind} labelled {(rate or 0) / 1000:g} kHz" for (kind, rate), n in pairs.most_common(3))
        yield source.finding(
            "wrong_rate",
            "problem",
            f"recordings have another sampling rate than the manifest says: {said}",
            by_clip,
            len(headers),
            "in `sample_rate` the rate of the file, and in `duration` its samples divided by that; other rates than "
            "16 kHz are resampled when they are loaded",
            lambda index: f"manifest {source.rates[index]} Hz, file {by_clip[index].rate} Hz",
        )


def _other_lengths(source: ClipSource, headers: list[AudioHeader], allowed: float) -> Iterator[Finding]:
    """Batches are planned by the lengths that a manifest says, so these must be true."""
    known = [one for one in headers if not np.isnan(source.seconds[one.index])]
    wrong = [
        one for one in known if abs(one.seconds - source.seconds[one.index]) > max(HEADER_TOLERANCE, 0.01 * one.seconds)
    ]
    if wrong:
        by_clip = {one.index: one for one in wrong}
        ratio = float(np.median([source.seconds[one.index] / one.seconds for one in wrong]))
        yield source.finding(
            "wrong_duration",
            by_share(len(wrong), len(headers), allowed),
            f"recordings have another length than the manifest says (it says {ratio:.2f} times theirs, in the median)",
            by_clip,
            len(headers),
            "the seconds of the file in `duration`, or nothing there: then they are read from the file",
            lambda index: f"manifest {source.seconds[index]:.2f} s, file {by_clip[index].seconds:.2f} s",
        )


def _converted(source: ClipSource, headers: list[AudioHeader]) -> Iterator[Finding]:
    """What loading does without being asked: other rates are resampled, channels mixed down."""
    for converted, kind, done in (
        ([one for one in headers if one.rate != SAMPLING_RATE], "resampled", "resampled to 16 kHz"),
        ([one for one in headers if one.rate == SAMPLING_RATE], "mixed_down", ""),
    ):
        mixed = [one for one in converted if one.channels > 1]
        shown = converted if done else mixed
        if not shown:
            continue
        kinds = ", ".join(f"{count} at {name}" for name, count in Counter(one.kind for one in shown).most_common(5))
        mix = "mixed down to one channel" if mixed else ""
        yield Finding(
            kind,
            "note",
            source.where,
            f"recordings will be {' and '.join(part for part in (done, mix) if part)} when they are loaded: {kinds}",
            len(shown),
            len(headers),
        )
