"""The first module that makes a number that is not finite is named; those that pass it on are not."""

from typing import Any

import pytest
import torch
from small_models import small_config, waveforms
from torch import Tensor, nn

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.training.non_finite import first_non_finite, first_non_finite_gradient


def model() -> Any:
    torch.manual_seed(0)
    return Wav2Vec2ForPreTraining(small_config()).train()


def run(subject: Any, values: Tensor | None = None) -> str | None:
    noise, mask = waveforms([4000, 6400])
    values = noise if values is None else values
    generator = torch.Generator().manual_seed(1)
    return first_non_finite(subject, lambda: subject(values, mask, generator=generator).loss)


def test_a_healthy_model_has_nothing_to_name() -> None:
    subject = model()
    assert run(subject) is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.modules())


@pytest.mark.parametrize(
    "name",
    [
        "wav2vec2.feature_extractor.conv_layers.2.activation",
        "wav2vec2.encoder.layers.0.attention.out_proj",
        "wav2vec2.encoder.layers.1.feed_forward",
        "wav2vec2.encoder.layers.2.final_layer_norm",
        "project_q",
    ],
)
@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_an_injected_infinity_names_its_module(name: str, bad: float) -> None:
    subject = model()

    def inject(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output.view(-1)[5] = bad
        return output

    subject.get_submodule(name).register_forward_hook(inject)
    found = run(subject)
    assert found is not None
    kind = "NaN" if bad != bad else "infinity"
    assert found.startswith(f"{name} ({type(subject.get_submodule(name)).__name__}): finite inputs")
    assert f"{kind} (1 of " in found


def test_a_weight_that_was_infinite_before_is_named_as_such() -> None:
    subject = model()
    name = "wav2vec2.encoder.layers.1.feed_forward.output_dense.weight"
    with torch.no_grad():
        subject.get_parameter(name)[2, 3] = float("inf")
    found = run(subject)
    assert found == f"the parameter {name} holds infinity (1 of {48 * 64} values), before anything is computed"


def test_an_input_that_was_not_finite_before_is_named_as_such() -> None:
    values = waveforms([4000, 6400])[0]
    values[1, 17] = float("nan")
    found = run(model(), values)
    assert found == "the input of the model: it holds NaN (1 of 12800 values), before anything is computed"


class Between(nn.Module):
    """Computes an infinity between its two parts, and hands a mask of -inf to the second."""

    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.divisor = divisor
        self.first, self.second = nn.Linear(3, 3), nn.Bilinear(3, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).abs() / self.divisor
        result: Tensor = self.second(y, y)
        return result


class Masked(nn.Module):
    """Takes a mask of -inf, as attention does."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x + mask).softmax(-1)


def test_what_a_module_computes_between_its_parts_is_its_own() -> None:
    outer = nn.Sequential(nn.Identity(), Between(0.0))
    found = first_non_finite(outer, lambda: outer(torch.ones(2, 3)))
    assert found is not None
    assert found.startswith("1: it computed infinity (6 of 6 values) on the way to its part 1.second")
    sound = nn.Sequential(nn.Identity(), Between(1.0))
    assert first_non_finite(sound, lambda: sound(torch.ones(2, 3))) is None


def test_a_mask_of_minus_infinity_is_no_fault() -> None:
    module = Masked()
    mask = torch.tensor([0.0, float("-inf")])
    assert first_non_finite(module, lambda: module(torch.zeros(2), mask)) is None


def test_a_loss_that_overflows_after_the_model_is_named_as_such() -> None:
    layer = nn.Linear(2, 2)
    found = first_non_finite(layer, lambda: layer(torch.ones(1, 2)).sum() * float("inf"))
    assert found is not None
    assert found.startswith("the loss, after the model")


def test_an_error_on_the_way_does_not_hide_the_origin_and_is_not_hidden_without_one() -> None:
    layer = nn.Linear(2, 2)

    def refuse(factor: float) -> None:
        layer(torch.ones(1, 2) * factor)
        raise ValueError("refused")

    found = first_non_finite(layer, lambda: refuse(float("inf")))
    assert found is not None
    assert found.startswith("the input of the model")
    with pytest.raises(ValueError, match="refused"):
        first_non_finite(layer, lambda: refuse(1.0))


def test_wrappers_leave_names_alone() -> None:
    wrapped: Any = nn.Module()
    wrapped.module = model()
    with torch.no_grad():
        wrapped.module.project_hid.weight[0, 0] = float("nan")
    found = first_non_finite(wrapped, lambda: None)
    assert found is not None
    assert found.startswith("the parameter project_hid.weight holds NaN")


def test_of_gradients_the_one_nearest_to_the_loss_is_named() -> None:
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    assert first_non_finite_gradient(layers) is None
    hidden = layers[1](layers[0](torch.ones(1, 2)))
    hidden.register_hook(lambda gradient: gradient * float("inf"))
    layers[2](hidden).sum().backward()
    found = first_non_finite_gradient(layers)
    assert found is not None
    assert found.startswith("the gradient of 1.bias holds")
    assert "of 6 gradients 4 are not finite" in found
