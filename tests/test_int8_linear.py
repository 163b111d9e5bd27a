"""Linear layers in 8 bits: near the exact ones, frame by frame, for a CPU alone, and the saved model as it was."""

from pathlib import Path

import pytest
import torch
from small_models import CALM, small_config, waveforms
from torch import Tensor, nn

from wav2vec2 import Transcriber, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor
from wav2vec2.command_line.recogniser import Dtype, Recogniser
from wav2vec2.evaluation.evaluation_run import evaluated_model
from wav2vec2.modeling import int8_linear
from wav2vec2.modeling.int8_linear import Int8Linear, largest_weight, quantise_linear_layers
from wav2vec2.modeling.linear import Linear

TOKENS = ["<pad>", "<unk>", "|", *"abcdefgh"]


def rounded(x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Whole numbers (R, C) and the scale of each row, in float64."""
    scale = (x.double().abs().amax(1, keepdim=True) / levels).clamp(min=1e-30)
    return (x.double() / scale).round(), scale


def layer(inputs: int = 48, outputs: int = 40, bias: bool = True) -> Linear:
    torch.manual_seed(0)
    return Linear(inputs, outputs, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 7, 48), (1, 48), (48,), (2, 0, 48)])
@pytest.mark.parametrize("levels", [127, 63])
def test_sums_are_those_of_the_rounded_numbers(
    shape: tuple[int, ...], bias: bool, levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the products of the same whole numbers in float64."""
    monkeypatch.setattr(int8_linear, "largest_weight", lambda: min(levels, largest_weight()))
    exact = layer(bias=bias)
    narrow = Int8Linear(exact)
    x = torch.randn(shape) * torch.logspace(-3, 3, 48)
    weights, weight_scale = rounded(exact.weight.detach(), min(levels, largest_weight()))
    inputs, input_scale = rounded(x.reshape(-1, 48), 127)
    expected = (inputs @ weights.T) * input_scale * weight_scale.T
    if bias:
        expected = expected + exact.bias.detach().double()
    found = narrow(x)
    assert found.shape == (*shape[:-1], 40) and found.dtype == torch.float32
    # a rounding of x / scale in float32 may go to the other side of a half: one step of one input
    step = (input_scale * weight_scale.T * levels).reshape(*shape[:-1], 40) if x.numel() else torch.zeros(())
    assert bool(((found.double() - expected.view(found.shape)).abs() <= step + 1e-5).all())


def test_weights_are_as_wide_as_sums_stay_exact() -> None:
    """At the largest numbers that occur, sums of this processor are those of whole numbers."""
    largest = largest_weight()
    assert largest in (127, 63)
    inputs = torch.full((64, 3072), 127, dtype=torch.int8)
    for sign in (1, -1):
        weights = torch.full((96, 3072), sign * largest, dtype=torch.int8)
        assert bool((torch._int_mm(inputs, weights.t()) == sign * 127 * largest * 3072).all())


def test_zeros_stay_zeros() -> None:
    """Silence has no largest number to divide by, and neither has an output without weights."""
    exact = layer(bias=False)
    with torch.no_grad():
        exact.weight[3] = 0.0
    found = Int8Linear(exact)(torch.cat([torch.zeros(1, 48), torch.randn(1, 48)]))
    assert bool((found[0] == 0).all()) and float(found[1, 3]) == 0.0 and bool(found.isfinite().all())


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    narrow, x = Int8Linear(layer()), torch.randn(2, 9, 48)
    loud = torch.cat([x, 1e4 * torch.randn(2, 3, 48)], 1)
    assert torch.equal(narrow(loud)[:, :9], narrow(x))


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_logits_are_near_the_exact_ones(architecture: str) -> None:
    """All linear layers of the Transformer are replaced, nothing else; within 3 %."""
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config(architecture, **CALM)).eval()
    values, mask = waveforms([8000, 5000])
    with torch.inference_mode():
        exact = model(values, mask).logits[0]
        assert quantise_linear_layers(model) == 6 * model.config.num_hidden_layers
        found = model(values, mask).logits[0]
    assert 0 < float((found - exact).norm() / exact.norm()) < 0.03
    assert type(model.lm_head) is nn.Linear and model.dtype == torch.float32


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config(**CALM, vocab_size=len(TOKENS), pad_token_id=0))
    with torch.no_grad():
        model.lm_head.weight.mul_(30.0)
    model.save_pretrained(tmp_path)
    tokenizer = Wav2Vec2CTCTokenizer(dict(zip(TOKENS, range(len(TOKENS)), strict=True)))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(tmp_path)
    return tmp_path


def test_a_transcriber_in_8_bits(checkpoint: Path) -> None:
    """It says nearly what the exact one does, and the files of the model are as they were."""
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    sound = (torch.randn(48000, generator=torch.Generator().manual_seed(1)).numpy(), 16000)
    exact, narrow = (Transcriber.from_pretrained(checkpoint, "cpu", dtype) for dtype in (None, torch.int8))
    assert sum(isinstance(module, Int8Linear) for module in narrow.model.modules()) > 0
    (found, _), (expected, _) = narrow.log_probs(sound), exact.log_probs(sound)
    assert float((found.exp() - expected.exp()).abs().mean()) < 0.01
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before


def test_the_option_of_commands_and_what_an_evaluation_records(checkpoint: Path) -> None:
    """`--dtype int8`; the record says int8, and as many parameters as the exact model has."""
    narrow = Recogniser(str(checkpoint), device="cpu", dtype=Dtype.int8).load()
    recorded = [evaluated_model(str(checkpoint), one) for one in (narrow, Transcriber.from_pretrained(checkpoint))]
    assert [one.precision for one in recorded] == ["int8", "float32"]
    assert recorded[0].parameters == recorded[1].parameters


def test_other_devices_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="dtype=int8 computes on a CPU, not on meta: pass device='cpu'"):
        Transcriber.from_pretrained(checkpoint, "meta", torch.int8)
