"""The losses of pretraining equal fairseq's formulas, written here as loops over frames and distractors."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_models import ARCHITECTURES, CALM, small_config, waveforms
from torch import Tensor

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.configuration import presets
from wav2vec2.modeling.contrastive_loss import Contrast, contrast
from wav2vec2.modeling.gumbel_quantizer import Wav2Vec2GumbelVectorQuantizer
from wav2vec2.modeling.span_masking import draw_time_mask

LENGTHS = [16000, 9000, 390, 5000]


def build(architecture: str = "base", **overrides: Any) -> Wav2Vec2ForPreTraining:
    """A small model without dropout, the same at every call."""
    torch.manual_seed(0)
    return Wav2Vec2ForPreTraining(small_config(architecture, **(CALM | overrides)))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_contrast(
    predictions: Tensor, targets: Tensor, codes: Tensor, distractors: Tensor, mask: Tensor, temperature: float
) -> dict[str, Any]:
    """fairseq's `compute_preds` and cross-entropy, one frame and one distractor at a time."""
    loss: Any = torch.zeros((), dtype=predictions.dtype)
    right = same = count = 0
    for clip, frame in mask.nonzero().tolist():
        count += 1
        prediction, target = predictions[clip, frame], targets[clip, frame]
        positive = F.cosine_similarity(prediction, target, dim=0) / temperature
        others = []
        for other in distractors[clip, frame].tolist():
            if codes[clip, other] == codes[clip, frame]:
                same += 1
            else:
                others.append(F.cosine_similarity(prediction, targets[clip, other], dim=0) / temperature)
        loss = loss - torch.log_softmax(torch.stack([positive, *others]), dim=0)[0]
        right += bool(others) and all(bool(positive > other) for other in others)
    drawn = max(count * distractors.shape[2], 1)
    return {"loss": loss, "accuracy": right / max(count, 1), "share": same / drawn}


def random_contrast(num_codes: int, seed: int) -> dict[str, Any]:
    """Predictions, targets that follow from their codes, and distractors among the masked frames, in float64."""
    generator, (batch, frames, size) = seeded(seed), (3, 12, 6)
    codes = torch.randint(num_codes, (batch, frames), generator=generator)
    codebook = torch.randn(num_codes, size, generator=generator, dtype=torch.float64)
    predictions = codebook[codes] + 2 * torch.randn(batch, frames, size, generator=generator, dtype=torch.float64)
    return {
        "predictions": predictions.requires_grad_(),
        "targets": codebook[codes].requires_grad_(),
        "codes": codes,
        "distractors": torch.randint(frames, (batch, frames, 7), generator=generator),
        "mask": torch.rand(batch, frames, generator=generator) < 0.5,
        "temperature": 0.1,
    }


def gradients_of(loss: Tensor, case: dict[str, Any]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [case["predictions"], case["targets"]]))


@pytest.mark.parametrize("num_codes", [1, 2, 5, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_the_contrastive_loss_equals_a_loop(num_codes: int, seed: int) -> None:
    """Value, accuracy, share of coinciding distractors, and gradients; from one code for all to all different."""
    case = random_contrast(num_codes, seed)
    found: Contrast = contrast(**case)
    expected = slow_contrast(**case)
    torch.testing.assert_close(found.loss, expected["loss"], atol=1e-10, rtol=1e-10)
    assert float(found.accuracy) == pytest.approx(expected["accuracy"], abs=1e-6)
    assert float(found.positive_negative_share) == pytest.approx(expected["share"], abs=1e-6)
    if num_codes > 1:
        assert float(found.loss.detach()) > 1
        torch.testing.assert_close(
            gradients_of(found.loss, case), gradients_of(expected["loss"], case), atol=1e-10, rtol=1e-8
        )


def test_the_contrastive_loss_knows_its_extremes() -> None:
    """A perfect prediction against opposite distractors costs nothing; one no better than K others costs log(K + 1)."""
    targets = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    case: dict[str, Any] = {
        "targets": targets,
        "codes": torch.tensor([[0, 1]]),
        "distractors": torch.tensor([[[1, 1, 1], [0, 0, 0]]]),
        "mask": torch.tensor([[True, True]]),
        "temperature": 0.1,
    }
    perfect = contrast(predictions=targets, **case)
    assert float(perfect.loss) == pytest.approx(2 * math.log1p(3 * math.exp(-20)), abs=1e-6)
    assert float(perfect.accuracy) == 1.0
    orthogonal = contrast(predictions=torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]), **case)
    assert float(orthogonal.loss) == pytest.approx(2 * math.log(4), rel=1e-6)
    assert float(orthogonal.accuracy) == 0.0


def capture(model: Wav2Vec2ForPreTraining, **inputs: Any) -> tuple[Any, dict[str, Tensor]]:
    """A forward pass, and what its convolutions and the quantizer's projection gave."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
        for name, module in (("features", model.wav2vec2.feature_extractor), ("logits", model.quantizer.weight_proj))
    ]
    output = model(**inputs)
    for hook in hooks:
        hook.remove()
    return output, seen


def real_frames(model: Wav2Vec2ForPreTraining) -> list[tuple[int, int]]:
    frames = [model._get_feat_extract_output_lengths(length) for length in LENGTHS]
    return [(clip, frame) for clip, count in enumerate(frames) for frame in range(count)]


def given_indices(model: Wav2Vec2ForPreTraining) -> dict[str, Tensor]:
    """A mask over real frames and distractors among real frames of the same clip, numbered over the batch."""
    generator, frames = seeded(1), model._get_feat_extract_output_lengths(max(LENGTHS))
    mask = torch.zeros(len(LENGTHS), frames, dtype=torch.bool)
    for clip, frame in real_frames(model):
        mask[clip, frame] = torch.rand((), generator=generator) < 0.5
    drawn = torch.randint(12, (len(LENGTHS), frames, 7), generator=generator)
    return {
        "mask_time_indices": mask,
        "sampled_negative_indices": drawn + torch.arange(len(LENGTHS))[:, None, None] * frames,
    }


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_the_losses_of_the_model_equal_loops(architecture: str, training: bool) -> None:
    """All losses and reports, from the model's own vectors. Equal targets are found by comparing whole vectors."""
    model = build(architecture, diversity_loss_weight=0.3, feature_penalty_weight=7.0, num_codevectors_per_group=3)
    model = model.double().train(training)
    values, attention_mask = waveforms(LENGTHS)
    indices = given_indices(model)
    mask, frames = indices["mask_time_indices"], indices["mask_time_indices"].shape[1]
    output, seen = capture(
        model, input_values=values.double(), attention_mask=attention_mask, generator=seeded(), **indices
    )
    targets = output.projected_quantized_states.detach()
    unique = torch.unique((targets * 1e6).round().flatten(0, 1), dim=0, return_inverse=True)[1].view(mask.shape)
    first = torch.arange(len(LENGTHS))[:, None, None] * frames
    within = indices["sampled_negative_indices"] - first
    expected = slow_contrast(output.projected_states.detach(), targets, unique, within, mask, 0.1)
    assert 0 < expected["share"] < 1
    torch.testing.assert_close(output.contrastive_loss.detach(), expected["loss"], atol=1e-9, rtol=0)
    assert float(output.accuracy) == pytest.approx(expected["accuracy"], abs=1e-6)  # shares are float32
    assert float(output.positive_negative_share) == pytest.approx(expected["share"], abs=1e-6)
    check_diversity(output, seen["logits"].detach(), mask, training)
    features = seen["features"].detach()
    squares = [float(features[clip, :, frame].square().mean()) for clip, frame in real_frames(model)]
    num_masked = int(mask.sum())
    assert int(output.num_masked) == num_masked
    assert float(output.feature_penalty.detach()) == pytest.approx(num_masked * sum(squares) / len(squares), rel=1e-9)
    total = output.contrastive_loss + 0.3 * output.diversity_loss + 7.0 * output.feature_penalty
    torch.testing.assert_close(output.loss, total, atol=1e-9, rtol=0)


def entropy_exponential(shares: list[float]) -> float:
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def check_diversity(output: Any, logits: Tensor, mask: Tensor, training: bool) -> None:
    """Perplexities and diversity loss, from the logits of the quantizer and the masked frames alone."""
    soft, hard = [], []
    for group in range(2):
        scores = [logits[clip, frame].view(2, -1)[group] for clip, frame in mask.nonzero().tolist()]
        softmaxes = [torch.softmax(score, 0).tolist() for score in scores]
        soft.append(entropy_exponential([sum(column) / len(scores) for column in zip(*softmaxes, strict=True)]))
        counts = Counter(int(score.argmax()) for score in scores)
        hard.append(entropy_exponential([count / len(scores) for count in counts.values()]))
    assert output.code_perplexity.tolist() == pytest.approx(hard, rel=1e-9)
    perplexity = sum(soft) if training else sum(hard)
    assert float(output.codevector_perplexity.detach()) == pytest.approx(perplexity, rel=1e-9)
    num_codes = logits.shape[-1]
    diversity = len(mask.nonzero()) * (num_codes - perplexity) / num_codes
    assert float(output.diversity_loss.detach()) == pytest.approx(diversity, rel=1e-9)


def naive_quantize(quantizer: Wav2Vec2GumbelVectorQuantizer, features: Tensor, temperature: float) -> Tensor:
    """The whole product of choices and codebooks, (B * T, G, V, D), that fairseq and stock build."""
    frames, groups = features.shape[0] * features.shape[1], quantizer.num_groups
    logits = quantizer.weight_proj(features).view(frames * groups, -1)
    choices = F.gumbel_softmax(logits.float(), tau=temperature, hard=True).view(frames, -1)
    product = choices[:, :, None] * quantizer.codevectors  # (B * T, G * V, D)
    summed = product.view(frames, groups, quantizer.num_vars, -1).sum(-2)
    return summed.view(features.shape[0], features.shape[1], -1)


@pytest.mark.parametrize("temperature", [2.0, 0.5, 0.1])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_quantizer_equals_the_whole_product(groups: int, temperature: float) -> None:
    """With torch's own Gumbel softmax and the same noise: equal vectors, equal straight-through gradients."""
    model = build(num_codevector_groups=groups).train()
    model.set_gumbel_temperature(temperature)
    quantizer = model.quantizer
    features = torch.randn(3, 20, 32, generator=seeded(), requires_grad=True)
    weights = torch.randn(3, 20, 16, generator=seeded(1))
    inputs = [features, *quantizer.parameters()]
    torch.manual_seed(7)
    found = quantizer(features, torch.ones(3, 20, dtype=torch.bool)).vectors
    torch.manual_seed(7)
    expected = naive_quantize(quantizer, features, temperature)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    found_gradients = torch.autograd.grad((found * weights).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), inputs)
    assert all(float(gradient.abs().max()) > 0 for gradient in expected_gradients)
    torch.testing.assert_close(found_gradients, expected_gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("masked", [1, 2, 3, 10])
def test_the_diversity_loss_of_few_frames_has_a_gradient(masked: int) -> None:
    """At base size the scores spread so far that entries have a probability of exactly 0 in every masked frame."""
    torch.manual_seed(0)
    config = presets.base(num_hidden_layers=1, conv_dim=(8,) * 6 + (512,))
    quantizer = Wav2Vec2ForPreTraining(config).train().quantizer
    features = F.layer_norm(torch.randn(1, 10, 512, generator=seeded()), (512,)).requires_grad_()
    mask = torch.arange(10)[None] < masked
    found = quantizer(features, mask, seeded()).soft_perplexity
    found.backward()
    shares = torch.softmax(quantizer.weight_proj(features)[0, :masked].double().view(-1, 2, 320), -1).mean(0)
    assert masked > 1 or int((shares.float() == 0).sum()) > 0
    expected = sum(entropy_exponential(group) for group in shares.tolist())
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    assert bool(features.grad is not None and features.grad.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in quantizer.parameters() if p.grad is not None)


def test_equal_codes_mean_equal_vectors() -> None:
    """One number tells the codes of all groups: it is equal exactly where the quantized vectors are."""
    quantizer = build(num_codevector_groups=4, num_codevectors_per_group=2).train().quantizer
    features = torch.randn(2, 60, 32, generator=seeded())
    with torch.no_grad():
        quantized = quantizer(features, torch.ones(2, 60, dtype=torch.bool), seeded())
    vectors, codes = quantized.vectors.flatten(0, 1), quantized.codes.flatten()
    same_vectors = (vectors[:, None] == vectors[None]).all(-1)
    assert torch.equal(same_vectors, codes[:, None] == codes[None])
    assert 8 < len(set(codes.tolist())) <= 16


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("lengths", [[399, 0, 10], [0], [900, 800]])
def test_a_batch_too_short_to_mask_costs_nothing(architecture: str, lengths: list[int]) -> None:
    """No frame, or fewer than one span: the loss is 0, and every parameter gets a gradient of 0."""
    model = build(architecture, feature_penalty_weight=10.0).train()
    values, mask = waveforms(lengths)
    for attention_mask in (mask, None):
        model.zero_grad()
        output = model(values, attention_mask)
        output.loss.backward()
        assert float(output.loss.detach()) == 0
        assert int(output.num_masked) == 0
        assert float(output.accuracy) == float(output.positive_negative_share) == 0
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert float(parameter.grad.abs().sum()) == 0


@pytest.mark.parametrize("training", [False, True])
def test_a_single_masked_frame_has_no_distractor(training: bool) -> None:
    """It is its own distractor, which takes no part: no contrastive loss, no accuracy, no failure."""
    model = build().train(training)
    values, _ = waveforms([3000])
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[0, 4] = True
    output = model(values, mask_time_indices=mask, generator=seeded())
    output.loss.backward()
    assert int(output.num_masked) == 1
    assert float(output.contrastive_loss.detach()) == 0
    assert (float(output.positive_negative_share), float(output.accuracy)) == (1.0, 0.0)
    assert bool(output.loss.isfinite())


@pytest.mark.parametrize("training", [False, True])
def test_a_collapsed_codebook_cannot_be_mistaken_for_success(training: bool) -> None:
    """One code for all frames: the contrastive loss is 0, but the reports beside it say why."""
    model = build().train(training)
    with torch.no_grad():
        model.quantizer.weight_proj.bias[[2, 8 + 5]] = 1e4
    output = model(waveforms([16000, 9000])[0], generator=seeded())
    assert float(output.contrastive_loss.detach()) == 0
    assert float(output.positive_negative_share) == 1
    assert float(output.accuracy) == 0
    assert output.code_perplexity.tolist() == pytest.approx([1.0, 1.0])
    assert float(output.diversity_loss.detach()) == pytest.approx(int(output.num_masked) * 14 / 16, rel=1e-5)


def test_a_mask_that_is_handed_in_is_applied_whatever_the_configuration_says() -> None:
    """Otherwise the frames to predict would be seen, and the task would be trivial."""
    model = build(apply_spec_augment=False, mask_time_prob=0.0).eval()
    values, _ = waveforms([3000])
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[0, 2:6] = True
    with torch.no_grad():
        masked = model(values, mask_time_indices=mask).projected_states
        model.wav2vec2.masked_spec_embed += torch.linspace(-1, 1, 48)
        changed = model(values, mask_time_indices=mask).projected_states
        untouched = model(values, mask_time_indices=torch.zeros_like(mask)).projected_states
        model.wav2vec2.masked_spec_embed += torch.linspace(-1, 1, 48)
        assert torch.equal(model(values, mask_time_indices=torch.zeros_like(mask)).projected_states, untouched)
    assert float((changed - masked).abs().amax(-1).min()) > 1e-3


@pytest.mark.parametrize("shape", [(2, 8), (1, 9), (2, 9, 1), (18,)])
def test_a_mask_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"mask_time_indices has shape .*: must be \(2, 9\), \(batch, frames\)"):
        build()(waveforms([3000, 3000])[0], mask_time_indices=torch.zeros(shape, dtype=torch.bool))


@pytest.mark.parametrize("shape", [(2, 8, 5), (1, 9, 5), (2, 9), (90,)])
def test_distractors_of_the_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    wish = r"sampled_negative_indices has shape .*: must be \(2, 9, distractors\)"
    with pytest.raises(ValueError, match=wish):
        build()(waveforms([3000, 3000])[0], sampled_negative_indices=torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize(("clip", "frame"), [(0, 9), (1, 8), (0, -1), (1, 18)])
def test_distractors_from_another_clip_are_refused(clip: int, frame: int) -> None:
    """Frame numbers count over the whole batch: clip 0 has 0 to 8, clip 1 has 9 to 17."""
    numbers = torch.tensor([0, 9])[:, None, None].expand(2, 9, 4).clone()
    values = waveforms([3000, 3000])[0]
    build()(values, sampled_negative_indices=numbers)
    numbers[clip, 3, 2] = frame
    with pytest.raises(ValueError, match="sampled_negative_indices: distractors must be frames of the clip itself"):
        build()(values, sampled_negative_indices=numbers)


@pytest.mark.parametrize("masked", [False, True])
def test_evaluation_draws_nothing_unless_asked(masked: bool) -> None:
    """As stock: without masks it masks nothing and has no loss, every time the same. A generator or clip seeds ask."""
    model = build(apply_spec_augment=False).eval()
    values, mask = waveforms(LENGTHS)
    drawn = draw_time_mask(model.config, model.frame_lengths(values, mask), 49, seeded())
    given = {"mask_time_indices": drawn} if masked else {}
    with torch.no_grad():
        first, second = (model(values, mask, **given) for _ in range(2))
        asked = [
            model(values, mask, **given, generator=seeded()),
            model(values, mask, **given, clip_seeds=torch.arange(4)),
        ]
        states = model.wav2vec2(values, mask, **given).last_hidden_state
    assert {"loss", "contrastive_loss", "diversity_loss", "num_masked", "code_counts"}.isdisjoint(first)
    assert torch.equal(first.projected_states, second.projected_states)
    assert torch.equal(first.projected_states, model.project_hid(states))
    assert all(output.loss > 0 and output.num_masked > 0 for output in asked)


def test_distractors_without_a_mask_are_refused() -> None:
    with pytest.raises(ValueError, match="sampled_negative_indices without mask_time_indices"):
        build().eval()(waveforms([3000])[0], sampled_negative_indices=torch.zeros(1, 9, 4, dtype=torch.long))


def test_pretraining_without_masks_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_time_prob=0: nothing would be predicted"):
        build(mask_time_prob=0.0)(waveforms([3000])[0])


@pytest.mark.parametrize("training", [False, True])
def test_a_generator_decides_everything_that_is_drawn(training: bool) -> None:
    """Masks, distractors and Gumbel noise repeat with its seed, change with it, and leave torch's own state alone."""
    model = build().train(training)
    values, mask = waveforms(LENGTHS)
    before = torch.get_rng_state()
    first, second, other = (model(values, mask, generator=seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    for name in ("loss", "projected_states", "projected_quantized_states", "accuracy", "num_masked"):
        assert torch.equal(first[name], second[name])
    assert not torch.equal(first.projected_states, other.projected_states)
    assert float(first.loss.detach()) != float(other.loss.detach())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
@pytest.mark.parametrize("training", [False, True])
def test_the_loss_in_bfloat16_is_within_one_percent(architecture: str, training: bool) -> None:
    """Under autocast, averaged over draws: rounding turns choices between codes that are nearly as likely."""
    model = build(architecture, feature_penalty_weight=10.0).train(training)
    values, mask = waveforms(LENGTHS)
    exact, lowered = [], []
    with torch.no_grad():
        for seed in range(16):
            exact.append(float(model(values, mask, generator=seeded(seed)).loss))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(values, mask, generator=seeded(seed)).loss
            lowered.append(float(loss))
            assert loss.dtype == torch.float32
    assert sum(lowered) == pytest.approx(sum(exact), rel=0.01)
    assert lowered[0] != exact[0]
