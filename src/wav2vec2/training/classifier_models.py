"""The model that a classification run starts from: pretrained weights or fresh ones, with a head for its labels."""

from typing import Any

import torch

from wav2vec2.configuration import Wav2Vec2Config, presets
from wav2vec2.modeling.for_audio_frame_classification import Wav2Vec2ForAudioFrameClassification
from wav2vec2.modeling.for_sequence_classification import Wav2Vec2ForSequenceClassification
from wav2vec2.modeling.for_xvector import Wav2Vec2ForXVector
from wav2vec2.training.chosen_checkpoint import checkpoint_config, load_under_new_head
from wav2vec2.training.settings.random_seeds import seed_of

#: The model and its layer of the labels, by the name of what is learnt.
_HEADS: dict[str, tuple[Any, str]] = {
    "clips": (Wav2Vec2ForSequenceClassification, "classifier"),
    "frames": (Wav2Vec2ForAudioFrameClassification, "classifier"),
    "speakers": (Wav2Vec2ForXVector, "objective"),
}

#: Labels of a checkpoint that are named in a note.
_NAMED = 10


def make_classifier(
    task: str, section: Any, labels: list[str], seed: int, attention: str | None = None, keep_head: bool = True
) -> tuple[Any, list[str]]:
    """A model in float32 for these labels, and what is to be said of it.

    The layer that gives the labels is a checkpoint's where `keep_head`, and the checkpoint names the same labels; in
    another order its rows are put into this one. Otherwise it starts afresh, from the run's seed alone. What lies below
    it is the checkpoint's wherever it has it.
    """
    kind, layer = _HEADS[task]
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    if section.checkpoint is None:
        model = kind._from_config(getattr(presets, section.preset or "")(**section.config, **names), **options)
        notes = ["from scratch: no weight is pretrained"]
    else:
        saved = labels_of_head(section.checkpoint, kind)
        config = checkpoint_config(section, **names)
        model, missing = load_under_new_head(kind, section.checkpoint, config, layer, options)
        kept = keep_head and saved is not None and sorted(saved) == sorted(labels)
        if kept and saved is not None:
            _put_in_order(model.get_submodule(layer), [saved.index(label) for label in labels])
        else:
            _start_afresh(model, layer, seed)
        notes = [_said(layer, labels, saved, kept, missing)]
    if model.config.feature_grad_mult == 0:
        model.freeze_feature_encoder()
        notes.append("the convolutional encoder is not trained")
    return model, notes


def labels_of_head(checkpoint: str, kind: Any) -> list[str] | None:
    """What the outputs of a checkpoint's head mean, None if it has no head of this kind."""
    config = Wav2Vec2Config.from_pretrained(checkpoint)
    if kind.__name__ not in (config.architectures or []):
        return None
    return [str(config.id2label[number]) for number in sorted(config.id2label)]


def _put_in_order(layer: Any, order: list[int]) -> None:
    """A row (of the weights of speakers: a column) for each label, where the labels of this run have it."""
    with torch.no_grad():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.copy_(layer.weight[order].clone())
            layer.bias.copy_(layer.bias[order].clone())
        else:
            layer.weight.copy_(layer.weight[:, order].clone())


def _start_afresh(model: Any, layer: str, seed: int) -> None:
    """Small random weights for labels; for speakers, directions."""
    module = model.get_submodule(layer)
    linear = isinstance(module, torch.nn.Linear)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("head", seed))
        torch.nn.init.normal_(module.weight, std=model.config.initializer_range if linear else 1.0)
    if linear:
        torch.nn.init.zeros_(module.bias)


def _said(layer: str, labels: list[str], saved: list[str] | None, kept: bool, missing: list[str]) -> str:
    fresh = list(missing) + ([] if kept else [f"{layer}, the layer of {len(labels)} labels"])
    if not fresh:
        return "nothing starts afresh: the head is kept, whose labels are the same"
    others = ""
    if saved is not None and sorted(saved) != sorted(labels):
        more = f" and {len(saved) - _NAMED} more" if len(saved) > _NAMED else ""
        others = f" (the checkpoint's are {', '.join(saved[:_NAMED])}{more})"
    return f"starts afresh: {', '.join(fresh)}{others}"
