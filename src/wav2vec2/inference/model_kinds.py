"""What a checkpoint answers with, by its `config.json`: text, labels of whole clips, or sounds in them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wav2vec2.processing.slot_marks import slots_of_vocabulary
from wav2vec2.processing.tokenizer_files import CONFIG_FILE, VOCABULARY_FILE, find_file, read_json

#: What a model is taken for that is nothing else.
TEXT = "text"

#: One label out of several for each clip, or any number of them.
LABELS = "labels"

#: Slots of whole clips and their values, one or none of each slot.
SLOTS = "slots"

#: Text in which slots are marked.
MARKED_TEXT = "marked text"

#: What is heard in a recording when.
SOUNDS = "sounds"


def _gives_labels(config: Mapping[str, Any]) -> bool:
    return any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or [])


def _fills_slots(config: Mapping[str, Any]) -> bool:
    return any(str(name).endswith("ForSlots") for name in config.get("architectures") or [])


def _names_frames(config: Mapping[str, Any]) -> bool:
    return any(str(name).endswith("ForAudioFrameClassification") for name in config.get("architectures") or [])


#: What else there is, and how its configuration is known; what comes first goes first.
_KNOWN_BY: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    LABELS: _gives_labels,
    SLOTS: _fills_slots,
    SOUNDS: _names_frames,
}


def kind_of_model(name: str | Path, hub: Mapping[str, Any]) -> str:
    """The kind of the model in a folder or on the Hub, whose files are asked for with the options `hub`."""
    path = find_file(name, CONFIG_FILE, hub)
    config = {} if path is None else read_json(path)
    if not isinstance(config, dict):
        return TEXT
    kind = next((kind for kind, is_one in _KNOWN_BY.items() if is_one(config)), TEXT)
    if kind == TEXT and (vocabulary := find_file(name, VOCABULARY_FILE, hub)) is not None:
        return MARKED_TEXT if slots_of_vocabulary(read_json(vocabulary)) else TEXT
    return kind
