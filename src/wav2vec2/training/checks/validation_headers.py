"""What a manifest says of its recordings against what their headers say: sampling rates, channels, lengths."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from wav2vec2.processing.audio_files import audio_duration, open_recording
from wav2vec2.training.checks.validation_clips import Audio, ClipSource
from wav2vec2.training.checks.validation_report import EXAMPLES, Example, Finding, by_share, example
from wav2vec2.training.data.audio_clips import HEADER_TOLERANCE, SAMPLING_RATE
from wav2vec2.training.data.durations import reason_of
from wav2vec2.training.settings.random_seeds import seed_of

#: Headers that are read of one source: all of a small one, a sample of a large one.
HEADERS = 300

_THREADS = 8


@dataclass(frozen=True)
class Header:
    """What a file says of itself; `reason` why it cannot be read."""

    index: int
    rate: int = 0
    channels: int = 0
    seconds: float = float("nan")
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


def read_some_headers(source: ClipSource, seed: int) -> list[Header]:
    """The headers of a sample, several at a time."""

    def read(index: int) -> Header:
        try:
            return _header(index, source.audio(index))
        except MemoryError:
            raise
        except Exception as error:
            return Header(index, reason=reason_of(error))

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="headers") as pool:
        return list(pool.map(read, chosen(source, HEADERS, seed, "validated headers")))


def _header(index: int, audio: Audio) -> Header:
    with open_recording(audio) as recording:
        rate, channels = recording.rate, recording.channels
    return Header(index, rate, channels, audio_duration(audio))


def header_findings(where: str, source: ClipSource, headers: list[Header], max_bad_share: float) -> Iterator[Finding]:
    """Contradictions between manifest and headers, and what loading will change."""
    yield from _unreadable(where, source, [one for one in headers if one.reason], len(headers), max_bad_share)
    read = [one for one in headers if not one.reason]
    yield from _other_rates(where, source, read)
    yield from _other_lengths(where, source, read, max_bad_share)
    yield from _converted(where, source, read)


def _unreadable(where: str, source: ClipSource, bad: list[Header], total: int, allowed: float) -> Iterator[Finding]:
    if bad:
        yield Finding(
            "unreadable",
            by_share(len(bad), total, allowed),
            where,
            "recordings whose headers were read cannot be opened: they are left out",
            len(bad),
            total,
            [example(source.ids[one.index], detail=one.reason) for one in bad[:EXAMPLES]],
            "files that are there and play to their end, with paths relative to the manifest",
        )


def _other_rates(where: str, source: ClipSource, headers: list[Header]) -> Iterator[Finding]:
    """The header is what audio is loaded by; a manifest that says otherwise was made from other files."""
    wrong = [one for one in headers if source.rates[one.index] not in (None, one.rate)]
    if wrong:
        pairs = Counter((one.kind, source.rates[one.index]) for one in wrong)
        said = ", ".join(f"{n} {kind} labelled {(rate or 0) / 1000:g} kHz" for (kind, rate), n in pairs.most_common(3))
        yield Finding(
            "wrong_rate",
            "problem",
            where,
            f"recordings have another sampling rate than the manifest says: {said}",
            len(wrong),
            len(headers),
            [
                _of(source, one, f"manifest {source.rates[one.index]} Hz, file {one.rate} Hz")
                for one in wrong[:EXAMPLES]
            ],
            "in `sample_rate` the rate of the file, and in `duration` its samples divided by that; other rates than "
            "16 kHz are resampled when they are loaded",
        )


def _other_lengths(where: str, source: ClipSource, headers: list[Header], allowed: float) -> Iterator[Finding]:
    known = [one for one in headers if not np.isnan(source.seconds[one.index])]
    wrong = [
        one for one in known if abs(one.seconds - source.seconds[one.index]) > max(HEADER_TOLERANCE, 0.01 * one.seconds)
    ]
    if wrong:
        ratio = float(np.median([source.seconds[one.index] / one.seconds for one in wrong]))
        yield Finding(
            "wrong_duration",
            by_share(len(wrong), len(headers), allowed),
            where,
            f"recordings have another length than the manifest says (it says {ratio:.2f} times theirs, in the median)",
            len(wrong),
            len(headers),
            [
                _of(source, one, f"manifest {source.seconds[one.index]:.2f} s, file {one.seconds:.2f} s")
                for one in wrong[:EXAMPLES]
            ],
            "the seconds of the file in `duration`, or nothing there: then they are read from the file",
        )


def _converted(where: str, source: ClipSource, headers: list[Header]) -> Iterator[Finding]:
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
            where,
            f"recordings will be {' and '.join(part for part in (done, mix) if part)} when they are loaded: {kinds}",
            len(shown),
            len(headers),
        )


def _of(source: ClipSource, header: Header, detail: str) -> Example:
    return example(source.ids[header.index], source.transcripts[header.index], detail)
