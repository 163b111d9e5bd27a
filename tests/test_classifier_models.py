"""The head of a classification run: a checkpoint's where its labels are the same, else a fresh one, and it is said."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import small_config

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification, Wav2Vec2ForXVector
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.training import classification
from wav2vec2.training.settings.classification_run import ClassificationRun
from wav2vec2.training.settings.run_config import FinetuneDataSection, FinetuneModelSection, FinetuneRunSection

ANIMALS = ["owl", "cat", "dog"]
SIZES: dict[str, Any] = {"tdnn_dim": (8, 8), "tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1), "xvector_output_dim": 6}


def checkpoint(folder: Path, kind: Any, labels: list[str] = ANIMALS) -> Any:
    """A saved model of a kind whose outputs have these names; and where it lies, as a run names it."""
    torch.manual_seed(3)
    names: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: n for n, label in enumerate(labels)},
    }
    model = kind(small_config(**SIZES, **names))
    model.save_pretrained(folder)
    return model, section_of(folder)


def section_of(folder: Path, **config: Any) -> FinetuneModelSection:
    return FinetuneModelSection(checkpoint=str(folder), config=config)


def make_classifier(
    task: str, section: FinetuneModelSection, labels: list[str], seed: int, head: str = "auto"
) -> tuple[Any, list[str]]:
    """The model of a run."""
    run = ClassificationRun(
        task=task, head=head, model=section, data=FinetuneDataSection(), run=FinetuneRunSection(seed=seed)
    )
    return classification.make_classifier(run, labels)


def test_a_head_of_the_same_labels_is_kept_whatever_their_order(tmp_path: Path) -> None:
    """Each clip gets the scores that it had, under the same names."""
    saved, section = checkpoint(tmp_path, Wav2Vec2ForSequenceClassification)
    labels = sorted(ANIMALS)
    model, notes = make_classifier("clips", section, labels, seed=1)
    audio = torch.randn(2, 4000)
    with torch.no_grad():
        before, after = saved.eval()(audio).logits, model.eval()(audio).logits
    for number, label in model.config.id2label.items():
        torch.testing.assert_close(after[:, number], before[:, ANIMALS.index(label)])
    assert notes[0] == "nothing starts afresh: the head is kept, whose labels are the same"
    fresh, notes = make_classifier("clips", section, labels, seed=1, head="fresh")
    assert notes[0] == "starts afresh: classifier, the layer of 3 labels"
    assert not torch.equal(fresh.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize("labels", [["blue", "green", "red"], ["blue", "green", "red", "yellow"]])
@pytest.mark.parametrize(
    ("task", "kind", "layer"),
    [("clips", Wav2Vec2ForSequenceClassification, "classifier"), ("speakers", Wav2Vec2ForXVector, "objective")],
)
def test_a_head_of_other_labels_starts_afresh(
    task: str, kind: Any, layer: str, labels: list[str], tmp_path: Path
) -> None:
    """As many or not; all below it is the checkpoint's, and the seed alone decides what the new weights are."""
    saved, section = checkpoint(tmp_path, kind)
    model, notes = make_classifier(task, section, labels, seed=1)
    name = f"{layer}, the layer of {len(labels)} labels"
    assert notes[0] == f"starts afresh: {name} (the checkpoint's are owl, cat, dog)"
    assert list(model.config.id2label.values()) == labels
    before = dict(saved.named_parameters())
    for key, weight in model.named_parameters():
        if not key.startswith(f"{layer}."):
            assert torch.equal(weight, before[key]), key
    new = model.get_submodule(layer).weight
    assert len(labels) in new.shape and not torch.equal(new, before[f"{layer}.weight"])
    torch.rand(7)
    again, _ = make_classifier(task, section, labels, seed=1)
    other, _ = make_classifier(task, section, labels, seed=2)
    assert torch.equal(again.get_submodule(layer).weight, new)
    assert not torch.equal(other.get_submodule(layer).weight, new)
    assert len(labels) in model(torch.randn(1, 4000)).logits.shape or task == "speakers"


def test_a_checkpoint_of_another_kind_gets_a_head(tmp_path: Path) -> None:
    torch.manual_seed(3)
    Wav2Vec2ForCTC(small_config()).save_pretrained(tmp_path)
    _, notes = make_classifier("clips", section_of(tmp_path), ["no", "yes"], seed=1)
    assert notes[0].startswith("starts afresh: projector.bias, projector.weight, ")
    assert notes[0].endswith("classifier, the layer of 2 labels")


def test_what_does_not_fit_below_the_head_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, Wav2Vec2ForSequenceClassification)
    with pytest.raises(CheckpointError, match=r"does not fit model.config:\n  projector.*in the checkpoint"):
        make_classifier("clips", section_of(tmp_path, classifier_proj_size=5), ["no", "yes"], seed=1)
