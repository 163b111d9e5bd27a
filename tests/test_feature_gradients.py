"""`feature_grad_mult`: how much of the gradient reaches the convolutions. Zero is none, not a gradient of zero."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from recognition_checkpoints import processor
from small_models import CALM, recompute_activations, small_config, waveforms
from torch import Tensor
from trainer_runs import InOrder, arguments, make_examples, make_model
from two_processes import run_on_two_processes, weights_under_decay

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.training.model_making import make_model as make_model_of_run
from wav2vec2.training.settings.run_config import ModelSection
from wav2vec2.training.transformers_trainer import CTCCollator

LENGTHS = [16000, 9000, 390, 5000]


def build(architecture: str = "base", **overrides: Any) -> Wav2Vec2ForPreTraining:
    """A small model without dropout in training mode, with a penalty on the convolutions, the same at every call."""
    torch.manual_seed(0)
    config = small_config(architecture, **(CALM | {"feature_penalty_weight": 10.0} | overrides))
    model: Wav2Vec2ForPreTraining = Wav2Vec2ForPreTraining(config).train()
    return model


def loss_and_gradients(model: Any) -> tuple[float, dict[str, Tensor | None]]:
    """Of one step with the same masks and noise at every call."""
    values, mask = waveforms(LENGTHS)
    model.zero_grad()
    loss = model(values, mask, generator=torch.Generator().manual_seed(0)).loss
    loss.backward()
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    return float(loss.detach()), gradients


@pytest.mark.parametrize("factor", [0.25, 0.1])
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_the_gradient_of_the_convolutions_is_scaled_and_no_other(architecture: str, factor: float) -> None:
    """The forward pass stays; the penalty's gradient is scaled too, as in fairseq, where it follows the scaling."""
    model = build(architecture)
    loss, full = loss_and_gradients(model)
    model.config.feature_grad_mult = factor  # read at every forward pass
    found_loss, found = loss_and_gradients(model)
    assert found_loss == loss
    for name, gradient in found.items():
        expected, scale = full[name], factor if ".feature_extractor." in name else 1.0
        assert gradient is not None and expected is not None
        tolerance = 0.0 if factor != 0.1 else 1e-6  # a power of two scales without rounding
        torch.testing.assert_close(gradient, expected * scale, atol=tolerance * float(expected.abs().max()), rtol=0)
        assert float(expected.abs().sum()) > 0 or name.endswith("k_proj.bias")  # softmax ignores a shift of all scores


@pytest.mark.slow
@pytest.mark.parametrize("use_reentrant", [None, False, True])
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_a_factor_of_zero_leaves_the_convolutions_without_a_gradient(
    architecture: str, use_reentrant: bool | None
) -> None:
    """All others have the one that they had; and what is set to 0 after loading counts as what was saved so."""
    loss, full = loss_and_gradients(build(architecture))
    changed = build(architecture)
    changed.config.feature_grad_mult = 0.0
    for model in (build(architecture, feature_grad_mult=0.0), changed):
        if use_reentrant is not None:
            recompute_activations(model, use_reentrant)
        found_loss, found = loss_and_gradients(model)
        assert found_loss == loss
        for name, gradient in found.items():
            if ".feature_extractor." in name:
                assert gradient is None
            else:
                torch.testing.assert_close(gradient, full[name], atol=1e-6, rtol=1e-5)
        model.config.feature_grad_mult = 1.0
        torch.testing.assert_close(loss_and_gradients(model), (loss, full), atol=1e-5, rtol=1e-4)


def assert_that_all_but_the_convolutions_moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in moved if ".feature_extractor." in name]
    assert "wav2vec2.feature_projection.projection.weight" in moved
    assert "wav2vec2.encoder.layers.0.attention.v_proj.weight" in moved


def clone(model: Any) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning", "ignore:.*use_cpu.*:FutureWarning")
def test_weight_decay_does_not_move_them_under_trainer(tmp_path: Path) -> None:
    """AdamW decays every parameter that has a gradient."""
    model = make_model(feature_grad_mult=0.0)
    before = clone(model)
    given = arguments(tmp_path, optim="adamw_torch", learning_rate=1e-2, weight_decay=0.1)
    InOrder(model=model, args=given, train_dataset=make_examples(), data_collator=CTCCollator(processor())).train()
    assert_that_all_but_the_convolutions_moved(before, clone(model))


@pytest.mark.parametrize("factor", [0.0, 0.1])
def test_a_pretraining_run_gives_them_to_no_optimizer(factor: float) -> None:
    """Nor to a wrapper, nor to the count of what is trained."""
    section = ModelSection(preset="tiny", config={"feature_grad_mult": factor})
    model, *_ = make_model_of_run(Wav2Vec2ForPreTraining, section, None)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(".feature_extractor." in name for name in trained) == (factor > 0)
    assert any(".encoder." in name for name in trained)


@pytest.mark.slow
@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="two processes talk through gloo")
def test_weight_decay_does_not_move_them_under_ddp(tmp_path: Path) -> None:
    """DDP waits for every parameter that it was told of, and would write zeros where there is no gradient."""
    first, second = run_on_two_processes(weights_under_decay, tmp_path)
    assert all(torch.equal(first["after"][name], second["after"][name]) for name in first["after"])
    assert_that_all_but_the_convolutions_moved(first["before"], first["after"])
    late = [result["late"] for result in (first, second)]  # told when DDP waited for them already: nothing hangs
    assert all(torch.equal(late[0][name], late[1][name]) for name in late[0])
