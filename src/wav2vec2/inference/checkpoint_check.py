"""Can this checkpoint be reached, and does it write text? Asked before anything large is loaded.

`config.json` is asked for first and once. The libraries would ask for each file of a repository six times with growing
pauses, and then say that the first of them is missing.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wav2vec2.files.shipped_checkpoints import comes_with_the_package, known_names
from wav2vec2.processing.tokenizer_files import CONFIG_FILE, VOCABULARY_FILE, find_file, read_json

#: Seconds that the Hub has to answer the first request.
_PATIENCE = 10.0

_HEAD_FOR_TEXT = "lm_head.weight"


def reach(name: str | Path) -> dict[str, Any]:
    """The options with which the files of a checkpoint are to be asked for; a `ConnectionError` if there is no way.

    Of what lies in the cache nothing more is asked where the Hub cannot be reached.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if Path(name).exists() or Path(name).is_absolute() or str(name).startswith(".") or comes_with_the_package(name):
        return {}
    reason = "it is switched off by HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else _unreachable(str(name))
    if reason is None:
        return {}
    if isinstance(try_to_load_from_cache(str(name), CONFIG_FILE), str):
        return {"local_files_only": True}
    raise ConnectionError(
        f"{name}: no such folder here, it is not in the cache {constants.HF_HUB_CACHE}, and the Hub cannot be reached "
        f"({reason}). Fetch it where there is a network, and give the folder{known_names(name)}"
    )


def _unreachable(name: str) -> str | None:
    """Why the Hub gives no answer; None if it gives any."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, validate_repo_id

    validate_repo_id(name)
    url = hf_hub_url(name, CONFIG_FILE)
    try:
        get_session().head(url, headers=build_hf_headers(), timeout=_PATIENCE)
    except Exception as error:  # of httpx or httpx2, by release; whatever it is, there was no answer
        return f"{url}: {error or type(error).__name__}"
    return None


def check_head_for_text(name: str | Path, hub: dict[str, Any]) -> None:
    """A ValueError for a checkpoint that has no CTC head: what it is instead, and what to do first."""
    path = find_file(name, CONFIG_FILE, hub)
    config = {} if path is None else read_json(path)
    architectures = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(architectures, list) or not architectures:
        architectures = []
    if path is None or any(str(one).endswith("ForCTC") for one in architectures):
        return
    tensors = _tensors(path.parent)
    if _HEAD_FOR_TEXT in tensors or not (architectures or tensors):
        return
    what = ", ".join(map(str, architectures)) or "no architecture named in its config.json"
    if any(str(one).endswith(("ForPreTraining", "Model")) for one in architectures) or not architectures:
        raise ValueError(
            f"{name}: pretrained ({what}), no head for text yet: "
            f"`wav2vec2 finetune RECIPE model.checkpoint={name} ...` with transcripts first"
        )
    raise ValueError(f"{name}: is a {what}; only a Wav2Vec2ForCTC writes text here")


def check_head_for_sounds(name: str | Path, hub: dict[str, Any]) -> None:
    """A ValueError for a checkpoint that does not name frames: what it is instead, and what to do first."""
    path = find_file(name, CONFIG_FILE, hub)
    config = {} if path is None else read_json(path)
    architectures = config.get("architectures") if isinstance(config, dict) else None
    named = ", ".join(map(str, architectures)) if isinstance(architectures, list) else ""
    if path is None or "ForAudioFrameClassification" in named:
        return
    if not named or "ForPreTraining" in named or named.endswith("Model"):
        raise ValueError(
            f"{name}: no head that names sounds ({named or 'no architecture named in its config.json'}): train one "
            "first, with the recipe events_small_minutes (docs/sound_events.md)"
        )
    raise ValueError(f"{name}: is a {named}; only a Wav2Vec2ForAudioFrameClassification names sounds")


def _tensors(folder: Path) -> set[str]:
    """The names of the tensors in a folder's safetensors files; none where there are only other files."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return set(read_json(index).get("weight_map", {}))
    path = folder / "model.safetensors"
    if not path.is_file():
        return set()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stored:
            return set(stored.keys())
    except SafetensorError:  # damaged: loading says how
        return set()


def languages_of(name: str | Path, hub: dict[str, Any]) -> list[str] | None:
    """The languages of a checkpoint with several, such as MMS; None for a model of one language."""
    path = find_file(name, VOCABULARY_FILE, hub)
    vocabulary = {} if path is None else read_json(path)
    values: Iterable[Any] = vocabulary.values() if isinstance(vocabulary, dict) else ()
    several = bool(vocabulary) and all(isinstance(value, dict) for value in values)
    return sorted(vocabulary) if several else None
