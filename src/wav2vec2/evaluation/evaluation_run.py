"""From a model and a manifest to an `Evaluation`: transcribe, count, compare, say with what.

Memory: the texts of all utterances; audio and the model's output come and go in the `Transcriber`.
"""

import copy
import datetime
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.evaluation import (
    FORMAT,
    Decoding,
    DecodingComparison,
    EvaluatedData,
    EvaluatedModel,
    Evaluation,
    Failure,
    Setting,
    compare,
    error_rate,
)
from wav2vec2.evaluation.normalisers import MODEL, Normaliser, normaliser_of
from wav2vec2.evaluation.provenance import hardware, sha256_of, versions, weight_files
from wav2vec2.evaluation.scoring import UtteranceScore, score_utterances
from wav2vec2.evaluation.text_tables import check_once
from wav2vec2.inference.labeller import Labeller
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.processing.manifests import Recording, read_manifest

_GREEDY: dict[str, Setting] = {"search": "greedy"}


class RecognitionReport(Protocol):
    """What is told while recordings are recognised, which takes a while."""

    def advance(self, seconds: float) -> None:
        """So many more seconds of audio have been recognised."""

    def finished(self, line: str) -> None:
        """One more file is finished; `line` says what of it."""


class _Silence:
    """A report to nobody."""

    def advance(self, seconds: float) -> None:
        pass

    def finished(self, line: str) -> None:
        pass


@dataclass(frozen=True)
class DataNames:
    """What the publisher of the data calls it."""

    #: The name of the data set; None takes that of the manifest.
    name: str | None = None
    #: Its configuration, if it has several.
    config: str | None = None
    #: Its split, such as test.
    split: str | None = None
    #: Its version.
    revision: str | None = None


@dataclass(frozen=True)
class Setup:
    """How to evaluate: everything but the model and the manifest."""

    #: The name of what is done to references and hypotheses before their words are compared.
    normalizer: str = MODEL
    #: How the intervals are made.
    resampling: Resampling = Resampling()
    #: What the data is called in the results.
    names: DataNames = DataNames()
    #: The name of the file that the decoder's language model came from.
    language_model: str | None = None


@dataclass(frozen=True)
class EvaluatedUtterance:
    """One line of the manifest after evaluation."""

    #: Its name, which tells nothing of this machine.
    id: str
    #: Who speaks, if that is known.
    speaker: str | None
    #: How long it is.
    seconds: float
    #: What was said, as the manifest has it.
    reference: str
    #: What was recognised, by the name of the decoding.
    hypotheses: dict[str, str]
    #: The errors, by the name of the decoding.
    scores: dict[str, UtteranceScore]


@dataclass(frozen=True)
class Evaluated:
    """The figures, and the utterances they come from in the order of the manifest."""

    evaluation: Evaluation
    utterances: list[EvaluatedUtterance]


@dataclass(frozen=True)
class _Pass:
    """All recordings transcribed in one way."""

    #: What was recognised, by the id of the recording.
    texts: dict[str, str]
    #: How long each recording is, by its id.
    durations: dict[str, float]
    #: Why others could not be read, by their ids.
    reasons: dict[str, str]
    #: How long all of it took by the clock.
    seconds: float


def evaluate_manifest(
    transcriber: Transcriber,
    model: EvaluatedModel,
    manifest: Path,
    setup: Setup | None = None,
    report: RecognitionReport | None = None,
) -> Evaluated:
    """Evaluate greedy search and, where the transcriber has a decoder, beam search as well, on the same recordings.

    Each way transcribes everything anew, so that its time is its own. Recordings that cannot be read are listed and
    left out of both.
    """
    started, setup = time.perf_counter(), setup or Setup()
    treat = normaliser_of(setup.normalizer, transcriber.processor.tokenizer)
    recordings = named_recordings(manifest)
    passes = {
        name: _transcribed(way, recordings, manifest, report or _Silence()) for name, way in ways(transcriber).items()
    }
    reasons = {name: reason for one in passes.values() for name, reason in one.reasons.items()}
    kept = {name: one for name, one in recordings.items() if name not in reasons}
    if not kept:
        first = next(iter(reasons.values()), "it has no lines")
        raise ValueError(f"{manifest}: none of its {len(recordings)} recordings could be evaluated: {first}")
    utterances, names, how = _scored(kept, passes, treat), setup.names, setup.resampling
    known = [one.speaker for one in utterances if one.speaker is not None]
    speakers = known if len(known) == len(utterances) else None
    settings = {"greedy": _GREEDY, "beam": beam_settings(transcriber.decoder, setup.language_model)}
    evaluation = Evaluation(
        format=FORMAT,
        model=model,
        data=EvaluatedData(
            names.name or manifest.stem, names.config, names.split, names.revision, manifest.name, sha256_of(manifest)
        ),
        utterances=len(utterances),
        hours=sum(one.seconds for one in utterances) / 3600,
        speakers=None if speakers is None else len(set(speakers)),
        normalizer=treat.name,
        normalizer_steps=treat.steps,
        resampling=how,
        decodings=[_decoding(way, settings[way], utterances, speakers, one, how) for way, one in passes.items()],
        comparison=_comparison(utterances, speakers, how),
        failures=[Failure(name, reasons[name]) for name in recordings if name in reasons],
        versions=versions(),
        hardware=hardware(transcriber.model.device),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        seconds=time.perf_counter() - started,
    )
    return Evaluated(evaluation, utterances)


def evaluated_model(checkpoint: str, user: Transcriber | Labeller, language: str | None = None) -> EvaluatedModel:
    """Which model was measured. Of a folder its last name alone is told, of a model on the Hub its whole name."""
    name = Path(checkpoint).resolve().name if Path(checkpoint).is_dir() else checkpoint
    model = user.model
    parameters = sum(tensor.numel() for tensor in model.parameters())
    narrow = any(tensor.dtype == torch.int8 for tensor in model.parameters())
    precision = "int8" if narrow else str(model.dtype).removeprefix("torch.")
    return EvaluatedModel(name, weight_files(checkpoint, language), parameters, precision, language)


def ways(transcriber: Transcriber) -> dict[str, Transcriber]:
    """Greedy search, and beam search if there is a decoder for it; one model for both."""
    if transcriber.decoder is None:
        return {"greedy": transcriber}
    greedy = copy.copy(transcriber)
    greedy.decoder = None
    return {"greedy": greedy, "beam": transcriber}


def beam_settings(decoder: CTCDecoder | None, language_model: str | None) -> dict[str, Setting]:
    """What a beam search depends on, by name."""
    if decoder is None:
        return {}
    model = decoder.language_model
    return {
        "search": "beam",
        "beam": decoder.beam,
        "candidates": decoder.candidates,
        "token_threshold": decoder.token_threshold,
        "alpha": decoder.alpha,
        "beta": decoder.beta,
        "unknown_penalty": decoder.weights.unknown_penalty,
        "language_model": None if model is None else language_model or "saved with the checkpoint",
        "language_model_order": getattr(model, "order", None),
        "lexicon": decoder.lexicon is not None,
        "hotwords": len(decoder.hotwords),
    }


def named_recordings(manifest: Path) -> dict[str, Recording]:
    """The recordings of a manifest with transcripts, by names that tell nothing of this machine."""
    recordings = recordings_by_name(manifest)
    if any(one.transcript is None for one in recordings.values()):
        raise ValueError(f"{manifest}: has no column `transcript`, so there is nothing to compare with")
    return recordings


def recordings_by_name(manifest: Path) -> dict[str, Recording]:
    """The recordings of a manifest, by names that tell nothing of this machine.

    A name is the column `id`, else the path relative to the manifest. Of paths outside of the manifest's folder, the
    beginning that they have in common is left out.
    """
    recordings = list(read_manifest(manifest))
    outside = [one.path.parent for one in recordings if not one.path.is_relative_to(manifest.parent)]
    common = Path(os.path.commonpath(outside)) if outside else manifest.parent
    names = []
    for one in recordings:
        above = manifest.parent if one.path.is_relative_to(manifest.parent) else common
        names.append(one.others.get("id") or one.path.relative_to(above).as_posix())
    check_once(manifest.name, names)
    return dict(zip(names, recordings, strict=True))


def without_paths(reason: str, name: str, path: Path, manifest: Path) -> str:
    """The reason for a failure, with the name of the recording where its path was."""
    for spelling in dict.fromkeys((str(path), str(path.absolute()), str(path.resolve()))):
        reason = reason.replace(spelling, name)
    for folder in (manifest.parent.absolute(), manifest.parent.resolve(), Path.home()):
        reason = reason.replace(f"{folder}{os.sep}", "")
    return reason


def _transcribed(
    transcriber: Transcriber, recordings: Mapping[str, Recording], manifest: Path, report: RecognitionReport
) -> _Pass:
    texts, durations, reasons = dict[str, str](), dict[str, float](), dict[str, str]()
    started = time.perf_counter()
    found = transcriber.transcribe_each((one.path for one in recordings.values()), None, report.advance)
    for (name, recording), transcript in zip(recordings.items(), found, strict=True):
        if transcript.error is not None:
            reasons[name] = without_paths(transcript.error, name, recording.path, manifest)
        else:
            texts[name], durations[name] = transcript.text, transcript.duration
        report.finished(f"failed: {transcript.error}" if transcript.error else name)
    return _Pass(texts, durations, reasons, time.perf_counter() - started)


def _scored(kept: Mapping[str, Recording], passes: Mapping[str, _Pass], treat: Normaliser) -> list[EvaluatedUtterance]:
    references = [one.transcript or "" for one in kept.values()]
    scores = {
        way: score_utterances(references, [one.texts[name] for name in kept], treat) for way, one in passes.items()
    }
    durations = next(iter(passes.values())).durations
    return [
        EvaluatedUtterance(
            name,
            recording.speaker,
            durations[name],
            references[number],
            {way: one.texts[name] for way, one in passes.items()},
            {way: scores[way][number] for way in passes},
        )
        for number, (name, recording) in enumerate(kept.items())
    ]


def _decoding(
    name: str,
    settings: dict[str, Setting],
    utterances: Sequence[EvaluatedUtterance],
    speakers: Sequence[str] | None,
    transcribed: _Pass,
    how: Resampling,
) -> Decoding:
    scores = [one.scores[name] for one in utterances]
    return Decoding(
        name,
        settings,
        error_rate([one.words for one in scores], speakers, how),
        error_rate([one.characters for one in scores], speakers, how),
        sum(one.words.errors > 0 for one in scores),
        sum(transcribed.durations.values()),
        transcribed.seconds,
    )


def _comparison(
    utterances: Sequence[EvaluatedUtterance], speakers: Sequence[str] | None, how: Resampling
) -> DecodingComparison | None:
    if "beam" not in utterances[0].scores:
        return None
    beam, greedy = ([one.scores[way] for one in utterances] for way in ("beam", "greedy"))
    return compare(("beam", "greedy"), beam, greedy, speakers, how)
