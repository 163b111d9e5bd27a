"""Linear layers on a CPU: the faster product where no gradient is asked for, and the same numbers."""

import copy
from typing import Any

import pytest
import torch
from small_models import CALM, small_config, waveforms
from torch import Tensor, nn

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.modeling.linear import Linear

fast_here = pytest.mark.skipif(
    not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()), reason="torch has one library"
)


class Counted(torch.utils._python_dispatch.TorchDispatchMode):
    """How often oneDNN's product was called."""

    calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += "mkldnn::_linear_pointwise" in str(function.name())
        return function(*args, **(kwargs or {}))


def layer(bias: bool = True, dtype: torch.dtype = torch.float32) -> Linear:
    torch.manual_seed(0)
    return Linear(40, 24, bias=bias, dtype=dtype)


@fast_here
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40,), (1, 40), (2, 7, 40), (2, 3, 5, 40), (0, 40)])
def test_without_gradients_the_product_is_torchs(shape: tuple[int, ...], bias: bool) -> None:
    module, x = layer(bias), torch.randn(shape)
    with torch.no_grad(), Counted() as counted:
        found = module(x)
    expected = nn.functional.linear(x.double(), module.weight.double(), module.bias.double() if bias else None)
    assert counted.calls == (x.numel() > 0)
    torch.testing.assert_close(found.double(), expected.detach(), atol=1e-5, rtol=1e-5)


@fast_here
def test_an_input_that_is_not_contiguous_is_read_by_its_strides() -> None:
    module, x = layer(), torch.randn(2, 40, 7).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(module(x), module(x.contiguous()), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("reason", ["gradient", "dtype", "autocast", "meta"])
def test_elsewhere_the_layer_is_torchs(reason: str) -> None:
    """With gradients, in other precisions, under autocast, without data."""
    module = layer(dtype=torch.float64 if reason == "dtype" else torch.float32)
    x = torch.randn(3, 40, dtype=module.weight.dtype)
    if reason == "meta":
        module, x = module.to("meta"), x.to("meta")
    with torch.set_grad_enabled(reason == "gradient"), torch.autocast("cpu", enabled=reason == "autocast"):
        with Counted() as counted:
            found = module(x)
        expected = nn.functional.linear(x, module.weight, module.bias)
    assert counted.calls == 0 and found.dtype == expected.dtype
    if reason != "meta":
        assert torch.equal(found, expected)


@fast_here
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_a_whole_model_says_the_same_with_and_without_gradients(architecture: str) -> None:
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config(architecture, **CALM)).eval()
    values, mask = waveforms([8000, 5000])
    expected = model(values, mask).logits
    with torch.inference_mode(), Counted() as counted:
        found = model(values, mask).logits
    assert counted.calls == 6 * model.config.num_hidden_layers
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)


def test_hooks_are_called_and_copies_are_alike() -> None:
    """Wrappers hang hooks on layers, and replace them by their type."""
    module, x = layer(), torch.randn(3, 40)
    seen: list[Tensor] = []
    module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        found = copy.deepcopy(module)(x)
    assert isinstance(module, nn.Linear) and torch.equal(seen[0], found)
    assert list(module.state_dict()) == ["weight", "bias"]
