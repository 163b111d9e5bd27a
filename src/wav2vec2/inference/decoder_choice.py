"""Which decoder a checkpoint is read with: the one saved beside it, one with the caller's language model, or none."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.decoder_files import DECODER_FILE, MODEL_FILE, load_decoder
from wav2vec2.language_models.hub_language_model import read_hub_folder
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
from wav2vec2.processing.tokenizer_files import find_file

Hotwords = Iterable[str] | Mapping[str, float]
Lexicon = Iterable[str] | Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class Wanted:
    """What the caller says of the search; it goes before what was saved."""

    language_model: str | Path | None = None
    beam: int | None = None
    hotwords: Hotwords | None = None
    lexicon: Lexicon | None = None


def beam_decoder(
    checkpoint: str | Path, greedy: CTCDecoder, wanted: Wanted, hub: Mapping[str, Any]
) -> CTCDecoder | None:
    """The decoder for beam search, or None where nothing asks for more than greedy search.

    `greedy` has the vocabulary and frame times of the checkpoint; `hub` says how its files are asked for.
    """
    place = wanted.language_model
    settings = _saved(checkpoint, greedy, hub) if place is None else _with_model(Path(place), greedy)
    given = {"beam": wanted.beam, "hotwords": wanted.hotwords, "lexicon": wanted.lexicon}
    settings |= {name: value for name, value in given.items() if value is not None}
    if not settings:
        return None
    speller = greedy.speller
    settings["frame_times"] = settings.get("frame_times", greedy.frame_times)
    settings["special_tokens"] = speller.special_tokens
    return CTCDecoder(speller.vocabulary, speller.blank, speller.word_delimiter, **settings)


def _saved(checkpoint: str | Path, greedy: CTCDecoder, hub: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the decoder in the checkpoint's folder or repository; empty if there is none."""
    if (settings := find_file(checkpoint, DECODER_FILE, hub)) is not None:
        find_file(checkpoint, MODEL_FILE, hub)  # of a repository: fetched into the folder of the settings
        return _of_decoder(settings.parent, greedy)
    if Path(checkpoint, "language_model").is_dir():
        return _of_hub_folder(Path(checkpoint))
    if not Path(checkpoint).is_dir() and find_file(checkpoint, "alphabet.json", hub) is not None:
        from huggingface_hub import snapshot_download

        wanted = ["alphabet.json", "language_model/*"]
        return _of_hub_folder(Path(snapshot_download(str(checkpoint), allow_patterns=wanted, **hub)))
    return {}


def _with_model(place: Path, greedy: CTCDecoder) -> dict[str, Any]:
    """The settings that a language model brings: a file, a saved decoder's folder, or a folder as on the Hub."""
    if (place / DECODER_FILE).is_file():
        return _of_decoder(place, greedy)
    if place.is_dir():
        return _of_hub_folder(place)
    return {"language_model": NgramLanguageModel.from_file(place)}


def _of_hub_folder(folder: Path) -> dict[str, Any]:
    hub = read_hub_folder(folder)
    weights = {"alpha": hub.alpha, "beta": hub.beta, "unknown_penalty": hub.unknown_penalty}
    return {
        "language_model": hub.model,
        "known_words": hub.unigrams,
        "score_boundary": hub.score_boundary,
        **weights,
    }


def _of_decoder(folder: Path, greedy: CTCDecoder) -> dict[str, Any]:
    decoder = load_decoder(folder)
    ours, theirs = greedy.speller, decoder.speller
    letters = {token: number for token, number in theirs.letters.items() if number not in ours.special}
    if (letters, theirs.blank, theirs.delimiter) != (ours.letters, ours.blank, ours.delimiter):
        differing = sorted({*letters.items()} ^ {*ours.letters.items()}, key=lambda pair: pair[1])[:5]
        raise ValueError(
            f"{folder / DECODER_FILE}: was saved for another vocabulary than the tokenizer's: letters {differing}, "
            f"blank {theirs.blank} and {ours.blank}, delimiter {theirs.delimiter} and {ours.delimiter}"
        )
    return {
        "language_model": decoder.language_model,
        "lexicon": decoder.lexicon,
        "hotwords": decoder.hotwords,
        "beam": decoder.beam,
        "candidates": decoder.candidates,
        "token_threshold": decoder.token_threshold,
        "calibration": decoder.calibration,
        "known_words": decoder.known_words,
        "score_boundary": decoder.score_boundary,
        "frame_times": _with_bias(greedy.frame_times, decoder.frame_times),
        **asdict(decoder.weights),
    }


def _with_bias(times: FrameTimes, saved: FrameTimes) -> FrameTimes:
    return replace(times, bias=saved.bias)
