"""Which decoder a checkpoint is read with: the one saved beside it, one with the caller's language model, or none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.decoder_files import settings_of_model
from wav2vec2.language_models.hub_language_model import (
    ALPHABET_FILE,
    DECODER_FILE,
    MODEL_FOLDER,
    fetched_folder,
    read_hub_folder,
)
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
from wav2vec2.processing.tokenizer_files import find_file

Hotwords = Iterable[str] | Mapping[str, float]
Lexicon = Iterable[str] | Mapping[str, Iterable[str]]

#: The settings of a saved decoder that must be the tokenizer's.
_OF_VOCABULARY = ("vocabulary", "blank", "word_delimiter", "special_tokens")


@dataclass(frozen=True)
class Wanted:
    """What the caller says of the search; it goes before what was saved."""

    #: A file, a folder with a saved decoder, or a folder as on the Hub.
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
    if wanted.language_model is None:
        settings = _saved(checkpoint, greedy, hub)
    elif Path(wanted.language_model).is_dir():
        settings = _of_folder(Path(wanted.language_model), greedy)
    else:
        settings = _with_model(NgramLanguageModel.from_file(wanted.language_model), Path(checkpoint), greedy)
    given = {"beam": wanted.beam, "hotwords": wanted.hotwords, "lexicon": wanted.lexicon}
    settings |= {name: value for name, value in given.items() if value is not None}
    return CTCDecoder(**greedy.settings() | settings) if settings else None


def _with_model(model: NgramLanguageModel, folder: Path, greedy: CTCDecoder) -> dict[str, Any]:
    """The settings that were tuned with this very model and saved in the checkpoint's folder, or the model alone."""
    if (folder / DECODER_FILE).is_file():
        saved = _of_folder(folder, greedy)
        if saved["language_model"] is not None and model.same_as(saved["language_model"]):
            return saved
    return {"language_model": model}


def _saved(checkpoint: str | Path, greedy: CTCDecoder, hub: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the decoder in the checkpoint's folder or repository; empty if there is none."""
    folder = Path(checkpoint)
    if folder.is_dir():
        there = (folder / DECODER_FILE).is_file() or (folder / MODEL_FOLDER).is_dir()
        return _of_folder(folder, greedy) if there else {}
    if all(find_file(checkpoint, name, hub) is None for name in (DECODER_FILE, ALPHABET_FILE)):
        return {}
    return _of_folder(fetched_folder(str(checkpoint), **hub), greedy)


def _of_folder(folder: Path, greedy: CTCDecoder) -> dict[str, Any]:
    """The settings of a folder with a saved decoder, which must be for the same vocabulary, or as on the Hub."""
    if not (folder / DECODER_FILE).is_file():
        return settings_of_model(read_hub_folder(folder))
    saved = CTCDecoder.from_pretrained(folder)
    ours, theirs = greedy.speller, saved.speller
    letters = {token: number for token, number in theirs.letters.items() if number not in ours.special}
    if (letters, theirs.blank, theirs.delimiter) != (ours.letters, ours.blank, ours.delimiter):
        differing = sorted({*letters.items()} ^ {*ours.letters.items()}, key=lambda pair: pair[1])[:5]
        raise ValueError(
            f"{folder / DECODER_FILE}: was saved for another vocabulary than the tokenizer's: letters {differing}, "
            f"blank {theirs.blank} and {ours.blank}, delimiter {theirs.delimiter} and {ours.delimiter}"
        )
    settings = {name: value for name, value in saved.settings().items() if name not in _OF_VOCABULARY}
    return settings | {"frame_times": replace(greedy.frame_times, bias=saved.frame_times.bias)}
