"""A decoder in the folder of its checkpoint.

`decoder.json` holds everything but the language model, whose compact file lies beside it. Folders of the Hub that were
written for pyctcdecode (`alphabet.json`, `language_model/` with `attrs.json`) are read as well.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wav2vec2.alignment.frame_times import FrameTimes, TimeBias
from wav2vec2.decoding.confidences import Calibration
from wav2vec2.language_models.hub_language_model import read_hub_folder
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

if TYPE_CHECKING:
    from wav2vec2.decoding.ctc_decoder import CTCDecoder

DECODER_FILE, MODEL_FILE = "decoder.json", "language_model.ngrams"
_FIELDS = {
    "vocabulary", "blank", "word_delimiter", "lexicon", "hotwords", "beam", "alpha", "beta", "unknown_penalty",
    "candidates", "token_threshold", "frame_times", "calibration", "language_model",
}  # fmt: skip
#: What files of earlier versions lack; the defaults of `CTCDecoder` hold for it.
_LATER_FIELDS = {"special_tokens", "known_words", "score_boundary"}


class DecoderFileError(ValueError):
    """A saved decoder cannot be read: which file, and what is wrong with it."""


def save_decoder(decoder: CTCDecoder, folder: Path) -> None:
    """Write `decoder.json`, and the language model first, so that the settings never name a file that is not there."""
    model = decoder.language_model
    if model is not None and not isinstance(model, NgramLanguageModel):
        raise ValueError(f"save_pretrained: a {type(model).__name__} cannot be saved, only an NgramLanguageModel")
    folder.mkdir(parents=True, exist_ok=True)
    if model is not None:
        model.save(folder / MODEL_FILE)
    settings = {
        "vocabulary": decoder.speller.vocabulary,
        "blank": decoder.speller.blank,
        "word_delimiter": decoder.speller.word_delimiter,
        "lexicon": _listed(decoder.lexicon),
        "hotwords": decoder.hotwords,
        "beam": decoder.beam,
        **asdict(decoder.weights),
        "candidates": decoder.candidates,
        "token_threshold": decoder.token_threshold,
        "frame_times": asdict(decoder.frame_times),
        "calibration": asdict(decoder.calibration),
        "language_model": None if model is None else MODEL_FILE,
        "special_tokens": decoder.speller.special_tokens,
        "known_words": decoder.known_words,
        "score_boundary": decoder.score_boundary,
    }
    text = json.dumps(settings, ensure_ascii=False, indent=2, allow_nan=False)
    (folder / DECODER_FILE).write_text(text + "\n", encoding="utf-8")


def push_decoder(decoder: CTCDecoder, name: str, private: bool | None, revision: str | None, token: str | None) -> str:
    """Save the decoder aside and publish its files in one commit; the address of that commit."""
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="wav2vec2")
    with tempfile.TemporaryDirectory() as folder:
        save_decoder(decoder, Path(folder))
        name = api.create_repo(name, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        return str(
            api.upload_folder(repo_id=name, folder_path=folder, revision=revision, commit_message="Upload decoder")
        )


def load_decoder(folder: Path) -> CTCDecoder:
    """The decoder of a folder."""
    from wav2vec2.decoding.ctc_decoder import CTCDecoder

    path = folder / DECODER_FILE
    if not path.is_file():
        return _load_hub_layout(folder)
    settings = _read_settings(path)
    model_file = settings.pop("language_model")
    if model_file not in (None, MODEL_FILE):
        raise DecoderFileError(f"{path}: language_model is {model_file!r}; only {MODEL_FILE!r} beside it is read")
    try:
        times, calibration = settings.pop("frame_times"), settings.pop("calibration")
        times["bias"] = TimeBias(*times["bias"])
        settings["frame_times"], settings["calibration"] = FrameTimes(**times), Calibration(**calibration)
        model = None if model_file is None else NgramLanguageModel.load(folder / MODEL_FILE)
        return CTCDecoder(language_model=model, **settings)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise DecoderFileError(f"{path}: {error}") from error


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


def _listed(lexicon: Any) -> Any:
    if isinstance(lexicon, dict):
        return {word: variants if isinstance(variants, str) else list(variants) for word, variants in lexicon.items()}
    return lexicon


def _load_hub_layout(folder: Path) -> CTCDecoder:
    from wav2vec2.decoding.ctc_decoder import CTCDecoder

    if not (folder / "language_model").is_dir():
        raise FileNotFoundError(
            f"{folder}: no decoder is saved here: neither {DECODER_FILE} nor the folder language_model/ with "
            "alphabet.json. Make one with CTCDecoder(...) and save_pretrained it here"
        )
    hub = read_hub_folder(folder)
    if hub.labels is None or "" not in hub.labels:
        raise DecoderFileError(f'{folder / "alphabet.json"}: needs `labels`, one per logit, with "" for the blank')
    if hub.is_bpe:
        raise DecoderFileError(f"{folder / 'alphabet.json'}: word pieces (is_bpe) are not supported, only characters")
    vocabulary = ["<pad>" if label == "" else label for label in hub.labels]
    return CTCDecoder(
        vocabulary,
        blank=hub.labels.index(""),
        word_delimiter=" ",
        language_model=hub.model,
        alpha=hub.alpha,
        beta=hub.beta,
        unknown_penalty=hub.unknown_penalty,
        known_words=hub.unigrams,
        score_boundary=hub.score_boundary,
    )
