"""One's own recordings as a corpus: which are kept from training, and what is wrong with them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wav2vec2.processing.manifests import ManifestError, Recording, read_manifest
from wav2vec2.quickstart.manifest_files import LONGEST, SHORTEST, Corpus, Utterance, minutes_of, write_manifest
from wav2vec2.training.data.clip_tables import FileTable
from wav2vec2.training.data.durations import DurationCache, measure
from wav2vec2.training.data.source_reading import read_source
from wav2vec2.training.settings.run_config import Source

#: With fewer transcribed recordings, or less of them, there is nothing to learn from and nothing to measure on.
FEWEST, FEWEST_SECONDS = 10, 20.0

#: Shares of the transcribed audio that are measured on (at most so many minutes), and that are chosen by.
_TEST, _MOST_TEST_MINUTES, _DEVELOPMENT, _MOST_DEVELOPMENT_MINUTES = 0.15, 10.0, 0.1, 2.0

#: A test set of whole speakers must leave so much of the audio to train on.
_LEFT = 0.6

_SHOWN = 5


class RecordingsError(ValueError):
    """The recordings cannot be used: which, why, and what would be right."""


@dataclass(frozen=True)
class Split:
    """The transcribed recordings, parted by what they are used for."""

    #: To learn from.
    training: list[Utterance]
    #: To choose by.
    development: list[Utterance]
    #: To measure on.
    test: list[Utterance]
    #: How they were parted, in words.
    how: str


def take_recordings(folder: Path, audio: Path, transcripts: Path, seed: int) -> list[str]:
    """Write the manifests of a corpus from a folder of audio and a manifest with transcripts.

    What there is then, and what could not be used, is given back in sentences.
    """
    labelled, faults = _labelled(audio, transcripts, folder)
    split = split_recordings(labelled, seed)
    everything, unreadable = _audio_of(audio, folder)
    kept_from_training = {one.path.resolve() for one in (*split.test, *split.development)}
    in_folder = [one for one in everything if one.path.resolve() not in kept_from_training]
    known = {one.path.resolve() for one in in_folder}
    in_folder += [replace(one, text=None) for one in split.training if one.path.resolve() not in known]
    corpus = Corpus(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(corpus.audio, in_folder)
    write_manifest(corpus.labelled, split.training)
    write_manifest(corpus.development, split.development)
    write_manifest(corpus.test, split.test)
    return [
        f"{minutes_of(in_folder):.1f} minutes of audio without labels ({len(in_folder)} recordings), "
        f"{minutes_of(split.training):.1f} minutes with their text ({len(split.training)})",
        f"kept from training: {minutes_of(split.test):.1f} minutes ({len(split.test)} recordings) to measure on, "
        f"{minutes_of(split.development):.1f} minutes ({len(split.development)}) to choose by",
        f"parted {split.how}",
        *_told("recordings cannot be used and are left out", [*faults, *unreadable]),
    ]


def split_recordings(labelled: Sequence[Utterance], seed: int) -> Split:
    """Part them by speaker where all speakers are known and there are enough, else by recording; by seed."""
    minutes = minutes_of(labelled)
    if len(labelled) < FEWEST or 60 * minutes < FEWEST_SECONDS:
        raise RecordingsError(
            f"{len(labelled)} usable recordings with a transcript, {60 * minutes:.0f} s together: need at least "
            f"{FEWEST} and {FEWEST_SECONDS:g} s, and hundreds of recordings for a model that is of use"
        )
    chance = random.Random(seed)
    wanted = min(_TEST * minutes, _MOST_TEST_MINUTES)
    test, rest, how = _by_speaker(labelled, chance, wanted) or (*_by_recording(labelled, chance, wanted), "")
    wanted = min(_DEVELOPMENT * minutes, _MOST_DEVELOPMENT_MINUTES)
    development, training = _by_recording(rest, chance, wanted)
    how = how or (
        "by recording, since not every speaker is known or there are too few (column `speaker`): the same voices are "
        "in both, and new ones will have more errors"
    )
    return Split(training, development, test, how)


def _by_speaker(
    labelled: Sequence[Utterance], chance: random.Random, wanted: float
) -> tuple[list[Utterance], list[Utterance], str] | None:
    """Test set, rest and how they were parted, with whole speakers to measure on; None where that cannot be."""
    speakers = sorted({one.speaker for one in labelled if one.speaker is not None})
    if len(speakers) < 3 or any(one.speaker is None for one in labelled):
        return None
    chance.shuffle(speakers)
    held: set[str] = set()
    for speaker in speakers:
        if minutes_of(one for one in labelled if one.speaker in held) < wanted:
            held.add(speaker)
    test = [one for one in labelled if one.speaker in held]
    rest = [one for one in labelled if one.speaker not in held]
    if minutes_of(rest) < _LEFT * minutes_of(labelled):
        return None
    return test, rest, f"by speaker: {len(held)} of {len(speakers)} are only measured on"


def _by_recording(
    labelled: Sequence[Utterance], chance: random.Random, wanted: float
) -> tuple[list[Utterance], list[Utterance]]:
    order = list(labelled)
    chance.shuffle(order)
    taken: list[Utterance] = []
    while minutes_of(taken) < wanted or len(taken) < 2:
        taken.append(order[len(taken)])
    chosen = {one.path for one in taken}
    return [one for one in labelled if one.path in chosen], [one for one in labelled if one.path not in chosen]


def _labelled(audio: Path, transcripts: Path, folder: Path) -> tuple[list[Utterance], list[str]]:
    """The readable recordings with a text, each once, and what is wrong with the others."""
    try:
        listed = list(read_manifest(transcripts))
    except (OSError, ManifestError) as error:
        raise RecordingsError(
            f"--transcripts: {error}; need a table with TAB between the columns and the header "
            "`path<TAB>transcript`, and `speaker` where it is known"
        ) from error
    spoken = [one for one in listed if one.transcript and one.transcript.strip()]
    if not spoken:
        raise RecordingsError(
            f"--transcripts: {transcripts} has {len(listed)} lines and no text in a column `transcript`; its columns "
            "are separated by TAB, and the header must name `path` and `transcript`"
        )
    located = {_located(one, audio).resolve(): one for one in spoken}
    paths = list(located)
    table = FileTable(paths, [path.name for path in paths], np.full(len(paths), np.nan))
    measure(table, DurationCache(folder / "durations", str(transcripts.resolve())))
    seconds, faults = table.seconds, [f"{one.id}: {one.reason}" for one in table.problems]
    if len(faults) == len(paths):
        raise RecordingsError(
            f"--transcripts: of the {len(paths)} recordings in {transcripts} none can be read, as "
            f"{spoken[0].path} ({table.problems[0].reason}); paths are relative to the manifest or to {audio}"
        )
    usable = (seconds >= SHORTEST) & (seconds <= LONGEST)  # false for NaN
    faults += [
        f"{paths[index].name}: {seconds[index]:.1f} s long, must be {SHORTEST:g} to {LONGEST:g} s"
        for index in np.flatnonzero(~usable & ~np.isnan(seconds))
    ]
    return [
        Utterance(path, float(length), one.speaker, one.transcript)
        for (path, one), length, use in zip(located.items(), seconds, usable, strict=True)
        if use
    ], faults


def _located(recording: Recording, audio: Path) -> Path:
    """Where it is: beside the manifest, or, where nothing is there, in the folder with audio."""
    parts = () if recording.path.exists() else recording.path.parts
    for first in range(len(parts)):
        if (found := audio.joinpath(*parts[first:])).exists() and parts[first] != recording.path.anchor:
            return found
    return recording.path


def _audio_of(audio: Path, folder: Path) -> tuple[list[Utterance], list[str]]:
    if not audio.is_dir():
        raise RecordingsError(f"--audio: {audio} is not a folder")
    table = read_source(Source(str(audio), format="folder"), folder / "durations")
    assert isinstance(table, FileTable)
    return [
        Utterance(path, float(length), None, None)
        for path, length in zip(table.paths, table.seconds, strict=True)
        if not np.isnan(length)
    ], [f"{one.id}: {one.reason}" for one in table.problems]


def _told(what: str, faults: Sequence[str]) -> list[str]:
    """A sentence that says how many faults there are, and the first of them; none if there are none."""
    faults = list(dict.fromkeys(faults))
    if not faults:
        return []
    more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return [f"{len(faults)} {what}: {'; '.join(faults[:_SHOWN])}{more}"]
