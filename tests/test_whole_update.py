"""After an update the weights are the same, whatever its batch was cut into: each part's loss and gradients add up to
those of the whole, and what is drawn for a clip does not depend on the part it is in."""

from typing import Any, NamedTuple

import pytest
import torch
from fast_cases import fast_cases
from small_models import CALM, HEADS, small_config, waveforms
from torch import Tensor

from wav2vec2 import (
    Wav2Vec2ForPreTraining,
)
from wav2vec2.configuration.frame_arithmetic import conv_output_length
from wav2vec2.modeling.contrastive_loss import WholeUpdate, sample_distractors
from wav2vec2.modeling.random_draws import ClipDraws, choose_draws
from wav2vec2.modeling.span_masking import draw_channel_mask, draw_pretraining_mask, draw_time_mask

#: Samples of eight clips: 24 frames to none, and one frame, which is too short to mask.
LENGTHS = [8000, 5000, 400, 6400, 3000, 7200, 300, 4100]

#: Ways to cut them, each a list of parts with the clips in it.
CUTS = {
    "four_pairs": [[0, 1], [2, 3], [4, 5], [6, 7]],
    "one_and_seven": [[0], [1, 2, 3, 4, 5, 6, 7]],
    "a_part_without_masks": [[2, 6], [0, 1, 3], [4, 5, 7]],
    "in_another_order": [[7, 0, 5, 2], [6, 3, 1, 4]],
    "single_clips": [[clip] for clip in range(8)],
}

#: Everything that is random about a clip, and all losses heavy enough to be seen.
SETTINGS: dict[str, Any] = CALM | {
    "mask_feature_prob": 0.3,
    "mask_feature_length": 4,
    "diversity_loss_weight": 3.0,
    "feature_penalty_weight": 10.0,
}


class Result(NamedTuple):
    """Of one or several forward and backward passes, summed."""

    sums: dict[str, Tensor]
    gradients: dict[str, Tensor]


def build(architecture: str = "base", head: Any = Wav2Vec2ForPreTraining, **overrides: Any) -> Any:
    """A small model in training, in float64: what is left of a difference is an error."""
    torch.manual_seed(0)
    return head(small_config(architecture, **(SETTINGS | overrides))).double().train()


def clips(chosen: list[int]) -> dict[str, Tensor]:
    """The chosen ones as a batch, padded to the longest of them."""
    values, mask = waveforms(LENGTHS)
    longest = max(LENGTHS[clip] for clip in chosen)
    return {
        "input_values": values[chosen, :longest].double(),
        "attention_mask": mask[chosen, :longest],
        "clip_seeds": torch.tensor(chosen) + 1000,
    }


def frames_of(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, int]:
    """What a data loader knows without a model: real frames of each clip, and frames of the batch."""
    shape = (model.config.conv_kernel, model.config.conv_stride)
    lengths = conv_output_length(inputs["attention_mask"].sum(1), *shape)
    return lengths, conv_output_length(inputs["input_values"].shape[1], *shape)


def drawn_outside(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    return draw_pretraining_mask(model.config, *frames_of(model, inputs), inputs["clip_seeds"])


def count(model: Any, parts: list[list[int]]) -> WholeUpdate:
    """What must be known before the first part: counted on the parts, as a training loop does it."""
    masked, frames, usage = torch.tensor(0), torch.tensor(0), torch.zeros(2, 8, dtype=torch.float64)
    for part in parts:
        inputs = clips(part)
        mask = drawn_outside(model, inputs)
        masked, frames = masked + mask.sum(), frames + frames_of(model, inputs)[0].sum()
        usage += model.choice_probabilities(inputs["input_values"], inputs["attention_mask"], mask)
    return WholeUpdate(masked, frames, usage / masked)


SUMMED = ("loss", "contrastive_loss", "diversity_loss", "feature_penalty", "num_masked", "num_frames", "code_counts")


def run(model: Any, parts: list[list[int]], whole: WholeUpdate | None) -> Result:
    model.zero_grad()
    sums: dict[str, Tensor] = {}
    for part in parts:
        output = model(**clips(part), whole_update=whole)
        output.loss.backward()
        for name in SUMMED:
            sums[name] = sums.get(name, 0) + output[name].detach()
    assert all(parameter.grad is not None for parameter in model.parameters())
    return Result(sums, {name: parameter.grad.clone() for name, parameter in model.named_parameters()})


def difference(found: Result, expected: Result) -> float:
    """The largest of loss and gradients, relative to the largest entry of each."""
    pairs = [(found.sums["loss"], expected.sums["loss"])]
    pairs += [(found.gradients[name], gradient) for name, gradient in expected.gradients.items()]
    scale = max(float(gradient.abs().max()) for gradient in expected.gradients.values())
    # parameters whose gradient cancels to rounding are compared with all others, not with themselves
    return max(float((a - b).abs().max()) / max(float(b.abs().max()), 1e-6 * scale) for a, b in pairs)


@pytest.mark.parametrize("cut", fast_cases(CUTS, "four_pairs", "a_part_without_masks"))
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
def test_parts_add_up_to_the_whole(architecture: str, cut: str) -> None:
    """Loss, its parts, counts and the gradient of every parameter; for both norms."""
    model = build(architecture)
    expected = run(model, [list(range(8))], None)
    found = run(model, CUTS[cut], count(model, CUTS[cut]))
    for name in SUMMED:
        torch.testing.assert_close(found.sums[name], expected.sums[name], atol=1e-9, rtol=1e-9)
        assert float(expected.sums[name].double().sum()) > 0
    assert difference(found, expected) < 1e-8


@pytest.mark.parametrize("weights", [(3.0, 0.0), (0.0, 10.0)], ids=["diversity", "penalty"])
def test_parts_that_know_nothing_of_each_other_do_not_add_up(weights: tuple[float, float]) -> None:
    """Either of the two losses that look at the batch as one is enough to tell the cut."""
    model = build(diversity_loss_weight=weights[0], feature_penalty_weight=weights[1])
    expected = run(model, [list(range(8))], None)
    assert difference(run(model, CUTS["four_pairs"], None), expected) > 1e-2
    whole = count(model, CUTS["four_pairs"])
    assert difference(run(model, CUTS["four_pairs"], whole), expected) < 1e-8
    own = difference(run(model, CUTS["four_pairs"], whole._replace(usage=None)), expected)
    assert own > 1e-2 if weights[0] else own < 1e-8


def test_the_losses_alone_add_up_while_evaluating() -> None:
    """The contrastive loss and the penalty; nothing is sampled, and a batch of its own is its own update."""
    model = build().eval()
    inputs = clips(list(range(8)))
    with torch.no_grad():
        whole = WholeUpdate(*(model(**inputs)[name] for name in ("num_masked", "num_frames")))
        expected = model(**inputs)
        assert float(model(**inputs, whole_update=whole).loss) == float(expected.loss)
        parts = [model(**clips(part), whole_update=whole) for part in CUTS["four_pairs"]]
    for name in ("contrastive_loss", "feature_penalty"):
        torch.testing.assert_close(sum(part[name] for part in parts), expected[name], atol=0, rtol=1e-10)


def test_the_counting_pass_sees_the_choices_of_training() -> None:
    """The sum of softmaxes over masked frames, from the scores that a forward pass of training computes; no gradient,
    no Transformer."""
    model = build()
    inputs = clips([0, 2, 3])
    mask = drawn_outside(model, inputs)
    scores: list[Tensor] = []
    hook = model.quantizer.weight_proj.register_forward_hook(lambda *call: scores.append(call[2].detach()))
    output = model(**inputs)
    hook.remove()
    expected, counts = torch.zeros(2, 8, dtype=torch.float64), torch.zeros(2, 8, dtype=torch.long)
    for clip, frame in mask.nonzero().tolist():
        for group, score in enumerate(scores[0][clip, frame].view(2, 8)):
            expected[group] += torch.softmax(score, 0)
            counts[group, int(score.argmax())] += 1
    model.wav2vec2.encoder = None
    found = model.choice_probabilities(inputs["input_values"], inputs["attention_mask"], mask)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    assert not found.requires_grad
    assert torch.equal(output.code_counts, counts)
    assert int(output.num_masked) == int(mask.sum()) == int(counts[0].sum()) > 0
    assert int(output.num_frames) == sum(int(length) for length in frames_of(model, inputs)[0])
    with pytest.raises(ValueError, match="mask_time_indices has shape"):
        model.choice_probabilities(inputs["input_values"], inputs["attention_mask"], mask[:, 1:])


@pytest.mark.parametrize("chosen", [[2, 6], [6]])
def test_a_part_in_which_nothing_is_masked(chosen: list[int]) -> None:
    """It costs nothing but the penalty of its frames; all gradients are there, and finite."""
    model = build()
    whole = WholeUpdate(torch.tensor(50), torch.tensor(120), torch.full((2, 8), 1 / 8))
    output = model(**clips(chosen), whole_update=whole)
    output.loss.backward()
    assert float(output.contrastive_loss.detach()) == float(output.diversity_loss.detach()) == 0
    assert (float(output.feature_penalty.detach()) > 0) == (2 in chosen)
    assert int(output.code_counts.sum()) == 0
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())


def test_an_update_without_any_frame_costs_nothing() -> None:
    model = build()
    nothing = WholeUpdate(torch.tensor(0), torch.tensor(0), torch.zeros(2, 8))
    output = model(**clips([6]), whole_update=nothing)
    output.loss.backward()
    assert float(output.loss.detach()) == 0
    assert all(float(parameter.grad.abs().sum()) == 0 for parameter in model.parameters())


def test_a_clip_is_masked_and_contrasted_alike_in_every_batch() -> None:
    """Masks and distractors: alone, and padded among others."""
    model = build(mask_time_prob=0.65)
    lengths = torch.tensor([40, 300, 5, 120])
    seeds = torch.tensor([9, 8, 7, 6])
    mask = draw_time_mask(model.config, lengths, 300, ClipDraws(seeds))
    distractors = sample_distractors(mask, 20, ClipDraws(seeds))
    channels = draw_channel_mask(model.config, 4, seeds.device, ClipDraws(seeds))
    for row, length in enumerate(lengths.tolist()):
        draws = ClipDraws(seeds[row : row + 1])
        alone = draw_time_mask(model.config, lengths[row : row + 1], length, draws)
        assert torch.equal(alone[0], mask[row, :length])
        assert bool(alone.any())
        theirs = sample_distractors(alone, 20, draws)
        assert torch.equal(theirs[0][alone[0]], distractors[row, :length][alone[0]])
        assert torch.equal(draw_channel_mask(model.config, 1, seeds.device, draws)[0], channels[row])
    assert len({tuple(row) for row in channels.tolist()}) > 1
    assert not torch.equal(mask, draw_time_mask(model.config, lengths, 300, ClipDraws(seeds + 1)))


def test_equal_draws_do_not_decide_by_the_length_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of 24 bits meet now and then; the earlier frame then wins, whatever is padded behind."""
    monkeypatch.setattr(ClipDraws, "uniform", lambda self, *shape: torch.full(shape, 0.5))
    config = small_config(mask_time_prob=0.5, mask_time_length=1)
    for size in (100, 1000, 5000):
        mask = draw_time_mask(config, torch.tensor([100]), size, ClipDraws(torch.tensor([1])))
        assert mask[0].nonzero().flatten().tolist() == list(range(50))


@pytest.mark.parametrize("given", [False, True])
def test_gumbel_noise_of_a_clip_is_the_same_in_every_batch(given: bool) -> None:
    """So is all else: chosen codes, predictions and loss; whether the mask is drawn by the model or by a loader."""
    model = build("large_lv60k")
    inputs = clips(list(range(8)))
    batch = model(**inputs, mask_time_indices=drawn_outside(model, inputs) if given else None)
    total = 0.0
    for clip in range(8):
        alone = model(**clips([clip]))
        frames = model._get_feat_extract_output_lengths(LENGTHS[clip])
        for name in ("projected_quantized_states", "projected_states"):
            torch.testing.assert_close(alone[name][0, :frames], batch[name][clip, :frames], atol=1e-9, rtol=0)
        total += float(alone.contrastive_loss.detach())
    assert float(batch.contrastive_loss.detach()) == pytest.approx(total, rel=1e-9)
    other = model(**(inputs | {"clip_seeds": inputs["clip_seeds"] + 1}))
    assert not torch.allclose(other.projected_quantized_states, batch.projected_quantized_states)


def test_a_mask_that_is_handed_in_changes_no_other_draw() -> None:
    """The very same loss with the mask that the model would have drawn; `torch.manual_seed` plays no part."""
    model = build()
    inputs = clips(list(range(8)))
    torch.manual_seed(1)
    drawn = model(**inputs)
    torch.manual_seed(2)
    given = model(**inputs, mask_time_indices=drawn_outside(model, inputs))
    assert float(drawn.loss.detach()) == float(given.loss.detach())
    torch.testing.assert_close(drawn.projected_quantized_states, given.projected_quantized_states, atol=0, rtol=0)


@pytest.mark.parametrize("head", [head for head in HEADS if head is not Wav2Vec2ForPreTraining])
def test_every_head_augments_a_clip_alike_in_every_batch(head: Any) -> None:
    """SpecAugment, of frames and of channels."""
    model = build(head=head)
    inputs = clips([0, 3, 4])
    batch, other = model(**inputs), model(**(inputs | {"clip_seeds": torch.tensor([1, 2, 3])}))
    name = "logits" if "logits" in batch else "last_hidden_state"
    for row, clip in enumerate((0, 3, 4)):
        alone = model(**clips([clip]))[name][0]
        found = batch[name][row]
        if found.dim() == 2:
            found = found[: model._get_feat_extract_output_lengths(LENGTHS[clip])]
        torch.testing.assert_close(found, alone, atol=1e-9 * float(found.detach().abs().max()), rtol=0)
    changed = (other[name] - batch[name]).detach().abs().max()
    assert float(changed) > 0.01 * float(batch[name].detach().abs().max())


# torch's own tracer instantiates torch.autograd.Function to look at it, and torch warns of that
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_what_parts_add_compiles_into_one_graph() -> None:
    """Everything that is drawn by clips, and the usage of the whole update, at changing sizes, seeds and counts."""
    model = build()

    def draw_and_quantize(features: Tensor, lengths: Tensor, seeds: Tensor, usage: Tensor) -> tuple[Tensor, ...]:
        draws = choose_draws(None, seeds, features.device)
        mask = draw_time_mask(model.config, lengths, features.shape[1], draws)
        quantized = model.quantizer(features, mask, draws, usage)
        return quantized.soft_perplexity, quantized.vectors, mask, model.choose_distractors(mask, None, draws)

    torch._dynamo.reset()
    weight = model.quantizer.weight_proj.weight
    with torch._dynamo.config.patch(error_on_recompile=True):
        fast = torch.compile(draw_and_quantize, fullgraph=True, dynamic=True, backend="aot_eager")
        for lengths in (torch.tensor([20, 9, 14]), torch.tensor([31, 12, 4, 30, 8])):
            features = torch.randn(len(lengths), int(lengths.max()), 32, dtype=torch.float64)
            inputs = (features, lengths, lengths + 5, torch.rand(2, 8).softmax(-1).double())
            found, expected = fast(*inputs), draw_and_quantize(*inputs)
            torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
            gradients = [torch.autograd.grad(some[0], weight)[0] for some in (found, expected)]
            assert float(gradients[1].abs().max()) > 0
            torch.testing.assert_close(gradients[0], gradients[1], atol=1e-10, rtol=0)
    torch._dynamo.reset()
