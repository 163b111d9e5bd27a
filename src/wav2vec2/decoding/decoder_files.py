"""A decoder in the folder of its checkpoint.

`decoder.json` holds everything but the language model, whose compact file lies beside it. Folders of the Hub that were
written for pyctcdecode (`alphabet.json`, `language_model/` with `attrs.json`) are read as well. In memory a decoder's
settings are the arguments that make it, by their names; what makes a decoder of them is the caller's.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from wav2vec2.alignment.frame_times import FrameTimes, TimeBias
from wav2vec2.decoding.confidences import Calibration
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.language_models.hub_language_model import (
    ALPHABET_FILE,
    DECODER_FILE,
    MODEL_FILE,
    MODEL_FOLDER,
    HubFolder,
    read_hub_folder,
)
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

_FIELDS = {
    "vocabulary", "blank", "word_delimiter", "lexicon", "hotwords", "beam", "alpha", "beta", "unknown_penalty",
    "candidates", "token_threshold", "frame_times", "calibration", "language_model",
}  # fmt: skip
#: What files of earlier versions lack; the defaults of `CTCDecoder` hold for it.
_LATER_FIELDS = {"special_tokens", "known_words", "score_boundary", "unknown_word"}

Decoder = TypeVar("Decoder")


class DecoderFileError(ValueError):
    """A saved decoder cannot be read: which file, and what is wrong with it."""


def save_decoder(settings: Mapping[str, Any], folder: Path) -> None:
    """Write `decoder.json`, and the language model first, so that the settings never name a file that is not there."""
    model, lexicon = settings["language_model"], settings["lexicon"]
    if model is not None and not isinstance(model, NgramLanguageModel):
        raise ValueError(f"save_pretrained: a {type(model).__name__} cannot be saved, only an NgramLanguageModel")
    folder.mkdir(parents=True, exist_ok=True)
    if model is not None:
        model.save(folder / MODEL_FILE)
    if isinstance(lexicon, Mapping):
        lexicon = {word: given if isinstance(given, str) else list(given) for word, given in lexicon.items()}
    content = dict(settings) | {
        "lexicon": lexicon,
        "frame_times": _saved_times(settings["frame_times"]),
        "calibration": asdict(settings["calibration"]),
        "language_model": None if model is None else MODEL_FILE,
    }
    if content["unknown_word"] is None:  # earlier versions read no such field
        del content["unknown_word"]
    text = json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False)
    with replaced_file(folder / DECODER_FILE) as stream:
        stream.write(f"{text}\n".encode())


def push_decoder(
    settings: Mapping[str, Any], name: str, private: bool | None, revision: str | None, token: str | None
) -> str:
    """Save the decoder aside and publish its files in one commit; the address of that commit."""
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="wav2vec2")
    with tempfile.TemporaryDirectory() as folder:
        save_decoder(settings, Path(folder))
        name = api.create_repo(name, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        return str(
            api.upload_folder(repo_id=name, folder_path=folder, revision=revision, commit_message="Upload decoder")
        )


def load_decoder(folder: Path, make: Callable[..., Decoder]) -> Decoder:
    """What `make` makes of the settings that are saved in a folder."""
    path = folder / DECODER_FILE
    if not path.is_file():
        return make(**_settings_of_hub_layout(folder))
    settings = _read_settings(path)
    model_file = settings.pop("language_model")
    if model_file not in (None, MODEL_FILE):
        raise DecoderFileError(f"{path}: language_model is {model_file!r}; only {MODEL_FILE!r} beside it is read")
    try:
        times, calibration = settings.pop("frame_times"), settings.pop("calibration")
        times["bias"] = TimeBias(*times["bias"])
        settings["frame_times"], settings["calibration"] = FrameTimes(**times), Calibration(**calibration)
        model = None if model_file is None else NgramLanguageModel.load(folder / MODEL_FILE)
        return make(language_model=model, **settings)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise DecoderFileError(f"{path}: {error}") from error


def _saved_times(times: FrameTimes) -> dict[str, Any]:
    """The times of frames by their fields. A stride behind the convolutions is written where there is one: earlier
    versions read no such field."""
    saved = asdict(times)
    if times.every == 1:
        del saved["every"]
    return saved


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DecoderFileError(f"{path}: not JSON: {error}") from error
    found = set(settings) if isinstance(settings, dict) else set()
    missing, unknown = sorted(_FIELDS - found), sorted(found - _FIELDS - _LATER_FIELDS)
    if not isinstance(settings, dict) or missing or unknown:
        raise DecoderFileError(f"{path}: missing {missing}, unknown {unknown}; need one JSON object")
    return settings


def _settings_of_hub_layout(folder: Path) -> dict[str, Any]:
    if not (folder / MODEL_FOLDER).is_dir():
        raise FileNotFoundError(
            f"{folder}: no decoder is saved here: neither {DECODER_FILE} nor the folder language_model/ with "
            "alphabet.json. Make one with CTCDecoder(...) and save_pretrained it here"
        )
    hub, alphabet = read_hub_folder(folder), folder / ALPHABET_FILE
    if hub.labels is None or "" not in hub.labels:
        raise DecoderFileError(f'{alphabet}: needs `labels`, one per logit, with "" for the blank')
    if hub.is_bpe:
        raise DecoderFileError(f"{alphabet}: word pieces (is_bpe) are not supported, only characters")
    vocabulary = ["<pad>" if label == "" else label for label in hub.labels]
    of_vocabulary = {"vocabulary": vocabulary, "blank": hub.labels.index(""), "word_delimiter": " "}
    return of_vocabulary | settings_of_model(hub)


def settings_of_model(hub: HubFolder) -> dict[str, Any]:
    """The settings that a published language model brings with it."""
    return {
        "language_model": NgramLanguageModel.from_file(hub.model_file, hub.unigrams or ()),
        "alpha": hub.alpha,
        "beta": hub.beta,
        "unknown_penalty": hub.unknown_penalty,
        "known_words": hub.unigrams,
        "score_boundary": hub.score_boundary,
    }
