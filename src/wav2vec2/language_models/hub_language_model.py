"""Language models as they lie on the Hub: `alphabet.json` and a folder `language_model/` with attrs.json, unigrams.txt
and one model file. This is the layout of pyctcdecode, which Transformers' `Wav2Vec2ProcessorWithLM` writes.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2vec2.language_models.compact_model_file import MAGIC
from wav2vec2.language_models.kenlm_language_model import KENLM_MAGIC, KenlmLanguageModel
from wav2vec2.language_models.language_model_error import LanguageModelError
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel

_FOLDER, _ATTRIBUTES, _UNIGRAMS, _ALPHABET = "language_model", "attrs.json", "unigrams.txt", "alphabet.json"


@dataclass(frozen=True)
class HubLanguageModel:
    """A language model with the settings and the alphabet it was published with."""

    model: NgramLanguageModel
    unigrams: list[str] | None
    """The words that count as known; None where the folder does not say."""
    labels: list[str] | None
    """One label per logit: "" is the blank, " " the word delimiter, "⁇" unknown; None without alphabet.json."""
    is_bpe: bool = False
    """Whether the labels are word pieces rather than characters."""
    alpha: float = 0.5
    """Weight of the language model's natural-log probability."""
    beta: float = 1.5
    """Bonus for each word."""
    unk_score_offset: float = -10.0
    """Added to the log10 probability of a word that is not known."""
    score_boundary: bool = True
    """Whether <s> and </s> are scored."""

    @property
    def unknown_penalty(self) -> float:
        """The offset as `CTCDecoder` adds it: a natural log, weighted as the model is."""
        return self.alpha * self.unk_score_offset * math.log(10)


#: What a repository may hold of a decoder: the layout of pyctcdecode, and what `CTCDecoder.save_pretrained` writes.
_OF_A_DECODER = ["decoder.json", "language_model.ngrams", _ALPHABET, f"{_FOLDER}/*"]


def local_folder(name_or_path: Path | str, revision: str | None = None) -> Path:
    """The folder itself, or a folder of this machine with the decoder of a repository on the Hub ("user/name")."""
    folder = Path(name_or_path)
    if folder.exists() or folder.is_absolute() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(name_or_path)):
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(name_or_path), revision=revision, allow_patterns=_OF_A_DECODER))


def read_hub_folder(folder: Path | str) -> HubLanguageModel:
    """Read the folder of a checkpoint, or its `language_model/` itself, or a repository on the Hub."""
    folder = local_folder(folder)
    inner = folder / _FOLDER if (folder / _FOLDER).is_dir() else folder
    unigrams = _read_unigrams(inner / _UNIGRAMS)
    alphabet = next((place for place in (folder / _ALPHABET, inner.parent / _ALPHABET) if place.is_file()), None)
    return HubLanguageModel(
        model=read_language_model(_model_file(inner), unigrams or ()),
        unigrams=unigrams,
        **(_read_alphabet(alphabet) if alphabet else {"labels": None}),
        **_read_attributes(inner / _ATTRIBUTES),
    )


def read_language_model(path: Path | str, words: Any = ()) -> NgramLanguageModel:
    """Read a compact file, a KenLM binary or an ARPA file, whatever its name; `words` is for KenLM binaries alone."""
    with Path(path).open("rb") as stream:
        start = stream.read(len(KENLM_MAGIC))
    if start.startswith(MAGIC):
        return NgramLanguageModel.load(path)
    if start == KENLM_MAGIC:
        return KenlmLanguageModel(path, words)
    return NgramLanguageModel.from_arpa(path)


def _model_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    others = {_ATTRIBUTES, _UNIGRAMS, _ALPHABET}
    found = sorted(p for p in folder.iterdir() if p.is_file() and p.name not in others and not p.name.startswith("."))
    known = [p for p in found if p.suffix in (".arpa", ".bin", ".binary", ".klm", ".trie", ".ngrams")]
    known = known or [p for p in found if p.name.endswith(".arpa.gz")]
    if len(known) != 1:
        names = ", ".join(p.name for p in found) or "nothing"
        raise LanguageModelError(
            f"{folder}: expected one model file (.arpa, .arpa.gz, .bin, .binary, .klm, .trie or .ngrams), found {names}"
        )
    return known[0]


def _read_unigrams(path: Path) -> list[str] | None:
    if not path.is_file():
        return None
    try:
        return path.read_text("utf-8").split() or None  # an empty list says nothing
    except UnicodeDecodeError as error:
        raise LanguageModelError(f"{path}: not UTF-8: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise LanguageModelError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise LanguageModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _read_alphabet(path: Path) -> dict[str, Any]:
    content = _read_json(path)
    labels, is_bpe = content.get("labels"), content.get("is_bpe", False)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise LanguageModelError(f"{path}: `labels` should be a list of strings")
    if not isinstance(is_bpe, bool):
        raise LanguageModelError(f"{path}: `is_bpe` should be true or false")
    return {"labels": labels, "is_bpe": is_bpe}


def _read_attributes(path: Path) -> dict[str, Any]:
    """The settings that attrs.json has; the defaults hold for the others."""
    content = _read_json(path) if path.is_file() else {}
    found: dict[str, Any] = {}
    for name in ("alpha", "beta", "unk_score_offset"):
        if name in content:
            value = content[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e6 or value != value:
                raise LanguageModelError(f"{path}: {name}={value!r} should be a number")
            found[name] = float(value)
    if "score_boundary" in content:
        if not isinstance(content["score_boundary"], bool):
            raise LanguageModelError(f"{path}: score_boundary={content['score_boundary']!r} should be true or false")
        found["score_boundary"] = content["score_boundary"]
    return found
