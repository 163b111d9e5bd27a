"""Language models as they lie on the Hub, beside a checkpoint.

The layout is that of pyctcdecode, which Transformers' `Wav2Vec2ProcessorWithLM` writes: `alphabet.json`, and a folder
`language_model/` with `attrs.json`, `unigrams.txt` and one model file. Here the folder is found, or fetched, and read
but for the model file itself, which is for `NgramLanguageModel.from_file`.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2vec2.language_models.ngram_trie import LanguageModelError

#: What `CTCDecoder.save_pretrained` writes: its settings, and the compact file of its language model.
DECODER_FILE, MODEL_FILE = "decoder.json", "language_model.ngrams"

#: What pyctcdecode writes: the labels, and the folder of the language model with its settings and its words.
ALPHABET_FILE, MODEL_FOLDER = "alphabet.json", "language_model"
_ATTRIBUTES, _UNIGRAMS = "attrs.json", "unigrams.txt"


@dataclass(frozen=True)
class HubFolder:
    """Where a published language model is, and the settings and the alphabet it was published with."""

    model_file: Path
    #: The words that count as known; None where the folder does not say.
    unigrams: list[str] | None
    #: One label per logit: "" is the blank, " " the word delimiter, "⁇" unknown; None without alphabet.json.
    labels: list[str] | None
    #: Whether the labels are word pieces rather than characters.
    is_bpe: bool = False
    #: The weight of the language model's natural-log probability.
    alpha: float = 0.5
    #: The bonus for each word.
    beta: float = 1.5
    #: What is added to the log10 probability of a word that is not known.
    unk_score_offset: float = -10.0
    #: Whether <s> and </s> are scored.
    score_boundary: bool = True

    @property
    def unknown_penalty(self) -> float:
        """The offset as `CTCDecoder` adds it: a natural log, weighted as the model is."""
        return self.alpha * self.unk_score_offset * math.log(10)


def local_folder(name_or_path: Path | str, revision: str | None = None) -> Path:
    """The folder itself, or a folder of this machine with the decoder of a repository on the Hub ("user/name")."""
    folder = Path(name_or_path)
    if folder.exists() or folder.is_absolute() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(name_or_path)):
        return folder
    return fetched_folder(str(name_or_path), revision=revision)


def fetched_folder(repository: str, **hub: Any) -> Path:
    """A folder of this machine with all that a repository on the Hub holds of a decoder, in either layout.

    `hub` are options of `snapshot_download`, such as `revision` and `local_files_only`.
    """
    from huggingface_hub import snapshot_download

    wanted = [DECODER_FILE, MODEL_FILE, ALPHABET_FILE, f"{MODEL_FOLDER}/*"]
    return Path(snapshot_download(repository, allow_patterns=wanted, **hub))


def read_hub_folder(folder: Path | str) -> HubFolder:
    """Read the folder of a checkpoint, or its `language_model/` itself, or a repository on the Hub."""
    folder = local_folder(folder)
    inner = folder / MODEL_FOLDER if (folder / MODEL_FOLDER).is_dir() else folder
    alphabet = next((place for place in (folder, inner.parent) if (place / ALPHABET_FILE).is_file()), None)
    return HubFolder(
        model_file=_model_file(inner),
        unigrams=_read_unigrams(inner / _UNIGRAMS),
        **(_read_alphabet(alphabet / ALPHABET_FILE) if alphabet else {"labels": None}),
        **_read_attributes(inner / _ATTRIBUTES),
    )


def _model_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    others = {_ATTRIBUTES, _UNIGRAMS, ALPHABET_FILE}
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
