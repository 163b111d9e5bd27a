"""Which parameters decay, and how the learning rate runs."""

import math
from typing import Any

import pytest
import torch
from small_models import small_config
from transformers import get_polynomial_decay_schedule_with_warmup

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.training.optimization import learning_rate_scale, make_optimizer, set_learning_rate
from wav2vec2.training.settings.run_config import OptimizerSection, ScheduleSection

#: What keeps its size, beside biases: norms, the mask embedding, the codebooks, the gain of the weight norm.
KEPT = {
    "wav2vec2.masked_spec_embed",
    "quantizer.codevectors",
    "wav2vec2.feature_extractor.conv_layers.0.layer_norm.weight",
    "wav2vec2.feature_projection.layer_norm.weight",
    "wav2vec2.encoder.layer_norm.weight",
    "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    *(f"wav2vec2.encoder.layers.{n}.{part}.weight" for n in range(3) for part in ("layer_norm", "final_layer_norm")),
}


def test_matrices_and_kernels_decay_and_nothing_else() -> None:
    model = Wav2Vec2ForPreTraining(small_config())
    model.wav2vec2.feature_projection.requires_grad_(False)
    section = OptimizerSection(weight_decay=0.07, betas=(0.8, 0.9), epsilon=1e-5)
    made = make_optimizer(model, section)
    decay_of = {id(one): group["weight_decay"] for group in made.param_groups for one in group["params"]}
    names = {name: decay_of.pop(id(one)) for name, one in model.named_parameters() if one.requires_grad}
    assert not decay_of, "what is frozen is not in the optimizer"
    kept = {name for name, decay in names.items() if decay == 0.0}
    frozen = {"wav2vec2.feature_projection.layer_norm.weight"}
    assert kept == {name for name in names if name.endswith(".bias")} | KEPT - frozen
    assert {decay for name, decay in names.items() if name not in kept} == {0.07}
    assert {(group["betas"], group["eps"]) for group in made.param_groups} == {((0.8, 0.9), 1e-5)}


def test_a_model_that_is_all_frozen_is_refused() -> None:
    model = Wav2Vec2ForPreTraining(small_config()).requires_grad_(False)
    with pytest.raises(ValueError, match="everything is frozen"):
        make_optimizer(model, OptimizerSection())


def scales(updates: int, **section: Any) -> list[float]:
    return [learning_rate_scale(update, updates, ScheduleSection(**section)) for update in range(updates)]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"warmup": 0.2}, [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (
            {"warmup": 0.2, "power": 2.0, "final_scale": 0.2},
            [0, 0.5, 1, 0.8125, 0.65, 0.5125, 0.4, 0.3125, 0.25, 0.2125],
        ),
        (  # half a period: 1, 1/2 + sqrt(3)/4, 3/4, 1/2, ... of what is above the final scale
            {"warmup": 0.4, "kind": "cosine", "initial_scale": 0.2, "final_scale": 0.1},
            [
                0.2,
                0.4,
                0.6,
                0.8,
                1,
                0.1 + 0.45 * (1 + math.sqrt(3) / 2),
                0.775,
                0.55,
                0.325,
                0.1 + 0.45 * (1 - math.sqrt(3) / 2),
            ],
        ),
        ({"warmup": 0.0}, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ({"warmup": 0.2, "initial_scale": 0.5, "kind": "constant"}, [0.5, 0.75, 1, 1, 1, 1, 1, 1, 1, 1]),
        (
            {"warmup": 0.1, "hold": 0.5, "kind": "tri_stage", "final_scale": 0.0625},
            [0, 1, 1, 1, 1, 1, 1, 0.5, 0.25, 0.125],
        ),
    ],
)
def test_schedules(section: dict[str, Any], expected: list[float]) -> None:
    assert scales(10, **section) == pytest.approx(expected)


@pytest.mark.parametrize(("power", "final"), [(1.0, 0.0), (2.0, 0.1)])
def test_polynomial_is_transformers(power: float, final: float) -> None:
    """Update by update."""
    rate, updates, warmup = 3e-4, 50, 8
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    stock = get_polynomial_decay_schedule_with_warmup(optimizer, warmup, updates, lr_end=final * rate, power=power)
    theirs = [float(stock.lr_lambdas[0](update)) for update in range(updates)]
    ours = scales(updates, warmup=warmup / updates, power=power, final_scale=final)
    assert ours == pytest.approx(theirs)


def test_tri_stage_is_the_papers() -> None:
    """Section 4.3: 10 % up from 1 %, 40 % constant, then exponentially down to 5 %, as fairseq counts."""
    updates = 200
    ours = scales(updates, kind="tri_stage", warmup=0.1, hold=0.4, initial_scale=0.01, final_scale=0.05)
    decay = -math.log(0.05) / 100
    for update in range(updates):
        held_or_falling = 1.0 if update < 100 else math.exp(-decay * (update - 100))
        expected = 0.01 + (1 - 0.01) / 20 * update if update < 20 else held_or_falling
        assert ours[update] == pytest.approx(expected), update
    assert ours[0] == 0.01 and learning_rate_scale(
        updates, updates, ScheduleSection(kind="tri_stage", warmup=0.1, hold=0.4, final_scale=0.05)
    ) == pytest.approx(0.05)


def test_the_rate_is_set_for_all_parameters() -> None:
    made = make_optimizer(Wav2Vec2ForPreTraining(small_config()), OptimizerSection())
    set_learning_rate(made, 0.25)
    assert [group["lr"] for group in made.param_groups] == [0.25, 0.25]
