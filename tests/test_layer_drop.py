"""LayerDrop: the right rate, the same decision wherever the key is the same, a gradient for every parameter."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from fast_cases import fast_cases
from small_models import CALM, recompute_activations, small_config, waveforms
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2ForSequenceClassification, Wav2Vec2Model
from wav2vec2.modeling.layer_drop import LayerDrop

LAYERS = 6


def build(head: Any = Wav2Vec2Model, architecture: str = "base", **overrides: Any) -> Any:
    """A model of six layers in training mode, in which LayerDrop is the only thing that is random."""
    settings = {"num_hidden_layers": LAYERS, "layerdrop": 0.5, "apply_spec_augment": False}
    return head(small_config(architecture, **(CALM | settings | overrides))).train()


def skipped_layers(model: Any) -> list[bool]:
    """Which layers a forward pass skips: those whose output is their input."""
    values, mask = waveforms([3000, 2000])
    with torch.no_grad():
        states = model(values, mask, output_hidden_states=True).hidden_states
    assert len(states) == LAYERS + 1
    return [torch.equal(before, after) for before, after in zip(states[:-1], states[1:], strict=True)]


def draws(count: int, probability: float, layers: int = LAYERS, seed: int | None = None) -> Tensor:
    """(count, layers): the decisions of successive forward passes, or of successive updates if there is a seed."""
    torch.manual_seed(3)
    module = LayerDrop(layers).train()
    rows = []
    for update in range(count):
        if seed is not None:
            module.pin(seed, update)
        rows.append(module(probability))
    return torch.tensor(rows)


@pytest.mark.parametrize("seed", fast_cases([None, 0, 1, 12345], None, 1))
@pytest.mark.parametrize("probability", [0.05, 0.2, 0.5])
def test_every_layer_is_skipped_at_the_rate(probability: float, seed: int | None) -> None:
    rates = draws(5000, probability, seed=seed).double().mean(0)
    error = math.sqrt(probability * (1 - probability) / 5000)
    assert float((rates - probability).abs().max()) < 5 * error


@pytest.mark.slow
@pytest.mark.parametrize("seed", [None, 0, 7])
def test_layers_and_updates_are_independent(seed: int | None) -> None:
    """All 16 patterns of four layers come equally often, and so do all pairs of decisions up to five updates apart."""
    decisions = draws(8000, 0.5, layers=4, seed=seed)
    patterns = Counter(tuple(row) for row in decisions.tolist())
    assert sum((patterns[key] - 500) ** 2 / 500 for key in patterns) < 44.3  # 99.99 % of chi-square with 15
    assert len(patterns) == 16
    signs = decisions.double() * 2 - 1
    for distance in range(1, 6):
        correlations = signs[distance:].T @ signs[:-distance] / (8000 - distance)  # (layer, layer before)
        assert float(correlations.abs().max()) < 5 / math.sqrt(8000)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_none_or_all_layers_are_skipped(probability: float) -> None:
    model = build(layerdrop=probability)
    for _ in range(5):
        assert skipped_layers(model) == [probability == 1.0] * LAYERS


def test_evaluation_skips_nothing() -> None:
    model = build(layerdrop=1.0).eval()
    assert skipped_layers(model) == [False] * LAYERS


def test_the_decision_changes_with_every_forward_pass() -> None:
    model = build()
    assert len({tuple(skipped_layers(model)) for _ in range(20)}) > 10


@pytest.mark.parametrize("head", [Wav2Vec2Model, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining])
def test_seed_and_update_decide(head: Any) -> None:
    """Not the state of torch's generators, nor the weights, nor what ran before: so it is on all processes."""
    ranks: list[list[list[bool]]] = []
    for rank in range(2):
        torch.manual_seed(rank)
        model = build(head, mask_time_prob=0.5)
        for _ in range(rank):
            skipped_layers(model)
        ranks.append([])
        for update in range(12):
            model.set_update(update, seed=5)
            micro_batches = [skipped_layers(model) for _ in range(2)]
            assert micro_batches[0] == micro_batches[1]
            ranks[rank].append(micro_batches[0])
    assert ranks[0] == ranks[1]
    assert len({tuple(pattern) for pattern in ranks[0]}) > 6


def test_another_seed_skips_other_layers() -> None:
    first, second = (draws(200, 0.5, seed=seed) for seed in (0, 1))
    assert float((first == second).double().mean()) == pytest.approx(0.5, abs=5 / math.sqrt(4 * 200 * LAYERS))


def test_a_pinned_decision_does_not_touch_the_state_of_torch() -> None:
    model = build()
    model.set_update(1)
    before = torch.get_rng_state()
    skipped_layers(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_of_torch_decides_until_an_update_is_pinned() -> None:
    """A seed set after building or loading makes a run reproducible, as in stock."""
    model, decisions = build(), []
    for seed in (0, 1, 0, 1):
        torch.manual_seed(seed)
        decisions.append([skipped_layers(model) for _ in range(8)])
    assert decisions[:2] == decisions[2:]
    assert decisions[0] != decisions[1]


def test_replicas_of_data_parallel_skip_other_layers_at_every_step() -> None:
    """`nn.DataParallel` computes each forward on replicas that it throws away."""
    model, patterns = build(), []
    for _ in range(20):
        replica = model.encoder.layer_drop._replicate_for_data_parallel()
        patterns.append(tuple(replica(0.5)))
    assert len(set(patterns)) > 10
    model.set_update(7, seed=2)
    pinned = model.encoder.layer_drop
    assert pinned._replicate_for_data_parallel()(0.5) == pinned(0.5) == pinned._replicate_for_data_parallel()(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_recomputed_forward_pass_is_the_same_network(use_reentrant: bool, pinned: bool, dropout: float) -> None:
    """Activation checkpointing round the whole model: the gradients are those of the pass whose output was used."""
    torch.manual_seed(0)
    rates: dict[str, Any] = {"hidden_dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    model = build(apply_spec_augment=True, mask_feature_prob=0.2, mask_feature_length=4, **rates)
    values, mask = waveforms([3000, 2000])
    values.requires_grad_()
    patterns = set()
    for step in range(10):
        if pinned:
            model.set_update(step)
        found = []
        for recomputed in (False, True):
            model.zero_grad()
            torch.manual_seed(step)
            if recomputed:
                state = checkpoint(lambda x: model(x, mask).last_hidden_state, values, use_reentrant=use_reentrant)
            else:
                state = model(values, mask).last_hidden_state
            state.square().sum().backward()
            found.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
        torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=1e-5)
        layers = range(LAYERS)
        patterns.add(tuple(bool(found[0][f"encoder.layers.{i}.attention.q_proj.weight"].any()) for i in layers))
    assert len(patterns) > 4


def test_the_rate_is_read_at_every_forward_pass() -> None:
    """As every field of the configuration that a checkpoint's user may change after loading."""
    model = build(layerdrop=1.0)
    assert skipped_layers(model) == [True] * LAYERS
    model.config.layerdrop = 0.0
    assert skipped_layers(model) == [False] * LAYERS
    model.config.layerdrop = 1.0
    assert skipped_layers(model) == [True] * LAYERS


@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_a_skipped_layer_is_as_if_it_were_not_there(architecture: str) -> None:
    """The remaining layers, unscaled, give the same output."""
    model = build(architecture=architecture)
    values, mask = waveforms([3000, 2000])
    model.set_update(4)
    skipped = skipped_layers(model)
    assert 0 < sum(skipped) < LAYERS
    with torch.no_grad():
        found = model(values, mask).last_hidden_state
        model.encoder.layers = torch.nn.ModuleList(
            layer for layer, skip in zip(model.encoder.layers, skipped, strict=True) if not skip
        )
        expected = model.eval()(values, mask).last_hidden_state
    real = model._get_feature_vector_attention_mask(found.shape[1], mask).bool()
    torch.testing.assert_close(found[real], expected[real], atol=1e-6, rtol=0)


@pytest.mark.parametrize("probability", [0.5, 1.0])
@pytest.mark.parametrize("checkpointing", [None, False, True])
@pytest.mark.parametrize("architecture", ["base", "mms"])
def test_every_parameter_has_a_gradient(architecture: str, checkpointing: bool | None, probability: float) -> None:
    """Zero in the layers that were skipped, not zero in the others. `checkpointing` is `use_reentrant`."""
    model = build(Wav2Vec2ForCTC, architecture, layerdrop=probability)
    model.set_update(4)
    skipped = skipped_layers(model)
    if checkpointing is not None:
        recompute_activations(model, use_reentrant=checkpointing)
    values, mask = waveforms([3000, 2000])
    model(values, mask, labels=torch.tensor([[3, 4], [5, 6]])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    for layer, skip in zip(model.wav2vec2.encoder.layers, skipped, strict=True):
        for name, parameter in layer.named_parameters():
            if not name.endswith("k_proj.bias"):  # a softmax ignores a shift of all scores
                assert (float(parameter.grad.abs().sum()) == 0) == skip


def test_frozen_parameters_stay_without_gradient() -> None:
    """In skipped layers too: a zero would still move them under weight decay."""
    model = build(Wav2Vec2ForCTC, layerdrop=1.0)
    model.freeze_base_model()
    values, mask = waveforms([3000, 2000])
    model(values, mask, labels=torch.tensor([[3, 4], [5, 6]])).loss.backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == {
        "lm_head.weight",
        "lm_head.bias",
    }


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_outputs_of_layers_stay_in_their_places(probability: float) -> None:
    """As many hidden states and attentions as without LayerDrop, so that number i always belongs to layer i."""
    model = build(layerdrop=probability)
    values, mask = waveforms([3000, 2000])
    for update in range(5):
        model.set_update(update)
        with torch.no_grad():
            output = model(values, mask, output_hidden_states=True, output_attentions=True)
        assert len(output.hidden_states) == LAYERS + 1
        assert len(output.attentions) == LAYERS


def test_the_weighted_sum_of_layers_works_with_skipped_layers() -> None:
    """Each layer keeps its own weight: a skipped one counts as its input does."""
    model = build(Wav2Vec2ForSequenceClassification, use_weighted_layer_sum=True)
    values, mask = waveforms([3000, 2000])
    with torch.no_grad():
        model.layer_weights.copy_(torch.linspace(-1, 1, LAYERS + 1))
        for update in range(3):
            model.set_update(update)
            output = model(values, mask, output_hidden_states=True)
            weights = model.layer_weights.softmax(0)[:, None, None, None]
            mean = (torch.stack(output.hidden_states) * weights).sum(0)  # (B, T, H)
            pooled = torch.stack([mean[0, :9].mean(0), mean[1, :6].mean(0)])
            torch.testing.assert_close(output.logits, model.classifier(model.projector(pooled)), atol=1e-5, rtol=0)


def test_a_saved_model_does_not_carry_the_decision() -> None:
    """LayerDrop adds nothing to a checkpoint, so stock can read it."""
    model = build()
    model.set_update(9, seed=2)
    assert not [name for name in model.state_dict() if "drop" in name]
