"""wav2vec (2019) and vq-wav2vec beside a slow version of torch's own layers; batches, codes, loading, first weights."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq_ancestors import SMALL, Ancestor, randomised
from torch import Tensor

import wav2vec2
from wav2vec2.baselines import (
    VQWav2VecConfig,
    VQWav2VecForPreTraining,
    VQWav2VecModel,
    Wav2VecConfig,
    Wav2VecForPreTraining,
    Wav2VecModel,
    presets,
)
from wav2vec2.baselines.vq_wav2vec.nearest_codebook import nearest_entries
from wav2vec2.baselines.wav2vec.clip_norm import ClipNorm
from wav2vec2.modeling.gumbel_quantizer import gumbel_noise
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.modeling.random_draws import ClipDraws
from wav2vec2.sharing.converters.ancestors import model_class, to_ours

#: What changes the mathematics, one after the other.
VARIANTS: list[dict[str, Any]] = [
    {},
    {"skip_connections_feat": True, "residual_scale": 0.7},
    {"agg_zero_pad": True, "no_conv_bias": True, "non_affine_group_norm": False},
    {"skip_connections_agg": False, "offset": "1", "combine_groups": False, "vq_depth": 1},
    {"activation": "gelu", "log_compression": False, "balanced_classes": True, "offset": 2},
]
LENGTHS = [4000, 2900, 3333]


def both(settings: dict[str, Any], seed: int = 0) -> tuple[Ancestor, Any]:
    """The slow model and ours with the same parameters, in float64."""
    slow = randomised(settings, seed)
    config, tensors = to_ours(slow.state_dict(), settings)
    ours = model_class(config)(config).double().eval()
    ours.load_state_dict(tensors)
    return slow, ours


def clips(lengths: list[int], seed: int = 1) -> tuple[Tensor, Tensor]:
    """Noise of so many samples, side by side with other noise behind it, and the mask of what is real."""
    torch.manual_seed(seed)
    waveforms = torch.randn(len(lengths), max(lengths), dtype=torch.float64)
    return waveforms, (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("kind", list(SMALL))
def test_features_and_codes_are_those_of_the_slow_version(kind: str, variant: dict[str, Any]) -> None:
    """In a batch whose shorter clips are padded with noise, beside each clip alone."""
    slow, ours = both(SMALL[kind] | variant)
    waveforms, mask = clips(LENGTHS)
    with torch.no_grad():
        output = ours.wav2vec(waveforms, mask)
        for row, length in enumerate(LENGTHS):
            heard = slow.hear(waveforms[row, :length])
            frames = heard["z"].shape[1]
            assert frames == ours._get_feat_extract_output_lengths(length)
            torch.testing.assert_close(output.extract_features[row, :frames], heard["z"].T, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(output.last_hidden_state[row, :frames], heard["c"].T, rtol=1e-9, atol=1e-9)
            assert not output.last_hidden_state[row, frames:].any() and not output.extract_features[row, frames:].any()
            if kind != "wav2vec":
                assert torch.equal(output.codes[row, :frames], heard["codes"])
                torch.testing.assert_close(output.quantized_features[row, :frames], heard["q"].T)
                assert (output.codes[row, frames:] == -1).all()


@pytest.mark.parametrize("variant", [{}, VARIANTS[3], VARIANTS[4]], ids=str)
@pytest.mark.parametrize("kind", list(SMALL))
def test_the_loss_is_that_of_loops_over_clips_steps_and_frames(kind: str, variant: dict[str, Any]) -> None:
    """Losses and gradients of a padded batch, with distractors that are handed in; one clip is too short to predict."""
    slow, ours = both(SMALL[kind] | variant)
    lengths = [2400, 1500, 700]
    waveforms, mask = clips(lengths)
    frames = [int(ours._get_feat_extract_output_lengths(length)) for length in lengths]
    torch.manual_seed(3)
    distractors = torch.stack([torch.randint(max(count, 1), (frames[0], 3)) for count in frames])
    wanted = [
        slow.loss(
            waveforms[row, :length], distractors[row, : frames[row]].tolist(), variant.get("balanced_classes", False)
        )
        for row, length in enumerate(lengths)
    ]
    over_batch = distractors + torch.arange(3)[:, None, None] * frames[0]
    output = ours(waveforms, mask, sampled_negative_indices=over_batch)
    count = sum(one["count"] for one in wanted)
    assert count > 0 and int(output.num_predictions) == count and int(output.num_frames) == sum(frames)
    loss = sum(one["loss"] for one in wanted)
    torch.testing.assert_close(output.prediction_loss, loss, rtol=1e-9, atol=1e-9)
    assert float(output.accuracy) == pytest.approx(sum(one["right"] for one in wanted) / count)
    if kind == "kmeans":  # fairseq's mean over the frames of the batch, times what it divides by
        cost = sum(one["cost"] * number for one, number in zip(wanted, frames, strict=True)) / sum(frames) * count
        torch.testing.assert_close(output.quantizer_loss, cost, rtol=1e-9, atol=1e-9)
        loss = loss + cost
    torch.testing.assert_close(output.loss, loss)
    loss.backward()
    output.loss.backward()
    _, gradients = to_ours(
        {n: p.grad for n, p in slow.named_parameters() if p.grad is not None} | zeros(slow), slow.settings
    )
    own = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, gradient in gradients.items():
        found = torch.zeros_like(gradient) if own[name] is None else own[name]  # a choice that is not drawn has none
        torch.testing.assert_close(found, gradient, rtol=1e-7, atol=1e-9, msg=name)


def zeros(slow: Ancestor) -> dict[str, Tensor]:
    """For what a choice that is not drawn has no gradient of."""
    return {name: torch.zeros_like(one) for name, one in slow.named_parameters() if one.grad is None}


@pytest.mark.parametrize("kind", list(SMALL))
def test_a_batch_is_the_same_as_its_clips(kind: str) -> None:
    """In float32; distractors and noise come from the clips. Losses add up, codes are the same to the last one."""
    _, ours = both(SMALL[kind])
    ours = ours.float().train()
    waveforms, mask = clips(LENGTHS)
    seeds = torch.tensor([5, 6, 7])
    whole = ours(waveforms.float(), mask, clip_seeds=seeds)
    alone = [ours(waveforms[r : r + 1, :n].float(), clip_seeds=seeds[r : r + 1]) for r, n in enumerate(LENGTHS)]
    for name in ("prediction_loss", "num_predictions", "num_frames"):
        torch.testing.assert_close(whole[name], sum(one[name] for one in alone), rtol=1e-5, atol=1e-5)
    if kind != "wav2vec":
        assert torch.equal(whole.code_counts, sum(one.code_counts for one in alone))
        assert int(whole.code_counts.sum()) == 2 * int(whole.num_frames)


@pytest.mark.parametrize("kind", list(SMALL))
@pytest.mark.parametrize("samples", [1, 464, 465, 624, 625])
def test_clips_with_no_frame_or_one(kind: str, samples: int) -> None:
    _, ours = both(SMALL[kind])
    ours = ours.train()
    waveforms, mask = clips([samples, max(samples // 2, 1)])
    frames = 0 if samples < 465 else (samples - 465) // 160 + 1
    output = ours.wav2vec(waveforms, mask)
    assert output.last_hidden_state.shape[:2] == output.extract_features.shape[:2] == (2, frames)
    loss = ours(waveforms, mask).loss
    loss.backward()
    assert loss.detach() == 0.0 if kind != "kmeans" else loss.detach() >= 0
    assert all(p.grad is not None for p in ours.parameters()), "distributed training waits for every one"


def test_the_norm_of_a_padded_clip_is_torchs_of_the_clip_alone() -> None:
    torch.manual_seed(0)
    norm, x = ClipNorm(6, 2), torch.randn(3, 6, 9)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    lengths = torch.tensor([9, 5, 1])
    for row, length in enumerate(lengths.tolist()):
        alone = torch.nn.functional.group_norm(x[row : row + 1, :, :length], 2, norm.weight, norm.bias)
        torch.testing.assert_close(norm(x, lengths)[row : row + 1, :, :length], alone, rtol=1e-5, atol=1e-5)
    assert torch.equal(norm(x), torch.nn.functional.group_norm(x, 2, norm.weight, norm.bias))


@pytest.mark.parametrize("seed", range(20))
def test_the_nearest_entry_is_found_by_brute_force(seed: int) -> None:
    """Of entries that are far and of some that are close together; two that are the same count as the first."""
    torch.manual_seed(seed)
    entries, groups, size = (int(torch.randint(1, n, ())) for n in (40, 4, 9))
    codebooks = torch.randn(entries, groups, size, dtype=torch.float64)
    codebooks[entries // 2] = codebooks[0] + (0 if seed % 2 else 1e-6)
    vectors = torch.randn(2, 7, groups, size, dtype=torch.float64) * float(torch.rand(()) * 3)
    distances = (vectors[:, :, None] - codebooks).square().sum(-1)  # (B, T, V, G)
    found = nearest_entries(vectors, codebooks)
    torch.testing.assert_close(distances.gather(2, found[:, :, None])[:, :, 0], distances.amin(2), rtol=0, atol=1e-12)
    in_32_bits = nearest_entries(vectors.float(), codebooks.float())
    near = distances.gather(2, in_32_bits[:, :, None])[:, :, 0]
    torch.testing.assert_close(near, distances.amin(2), rtol=1e-5, atol=1e-5)


def test_a_gumbel_choice_is_the_largest_noisy_score_with_the_gradient_of_the_softmax() -> None:
    """Drawn from the clips' seeds at the temperature of the update; the entries' gradient is that of the choice."""
    _, ours = both(SMALL["gumbel"])
    quantizer, ours = ours.wav2vec.quantizer, ours.train()
    ours.set_update(200_000)
    temperature = max(0.5, 2 * 0.999995**200_000)
    features = torch.randn(2, 8, 11, dtype=torch.float64)
    lengths, seeds = torch.tensor([11, 7]), torch.tensor([1, 2])
    out = quantizer(features, lengths, lengths, ClipDraws(seeds))
    scores = quantizer.logits(features.transpose(1, 2)).detach().requires_grad_()
    noisy = (scores + gumbel_noise(scores, ClipDraws(seeds))) / torch.tensor(temperature, dtype=torch.float32)
    assert torch.equal(out.codes, noisy.argmax(-1)) and not torch.equal(out.codes, scores.argmax(-1))
    weight = torch.randn_like(out.vectors)
    (out.vectors * weight).sum().backward()
    hard = torch.nn.functional.one_hot(noisy.argmax(-1), 5).double()
    one_hot = hard + noisy.softmax(-1) - noisy.softmax(-1).detach()
    book = quantizer.codevectors.detach().clone().requires_grad_()
    wanted = torch.einsum("btgv,vd->btgd", one_hot, book[0]).flatten(2)
    torch.testing.assert_close(out.vectors, wanted)
    (wanted * weight).sum().backward()
    torch.testing.assert_close(quantizer.codevectors.grad, book.grad)
    torch.testing.assert_close(quantizer.scores[1].bias.grad, scores.grad.sum((0, 1)).flatten())


def test_entries_of_kmeans_move_to_the_features_that_chose_them() -> None:
    """Gradient descent on the codebook alone brings the cost down, and entries to the means of what is near them."""
    torch.manual_seed(0)
    one_group = {"num_codevector_groups": 1, "num_codevectors_per_group": 2, "commitment_weight": 0.0}
    model: Any = VQWav2VecModel(
        VQWav2VecConfig(conv_dim=(8,) * 8, context_dim=(8,) * 12, quantizer="kmeans", **one_group)
    )
    quantizer = model.quantizer
    centres = torch.tensor([[3.0, -3.0] * 4, [-3.0, 3.0] * 4])
    features = (centres[torch.arange(60) % 2] + 0.3 * torch.randn(60, 8)).T[None]  # (1, C, T)
    quantizer.projection.weight.data = torch.eye(8)[:, :, None]
    lengths, optimizer = torch.tensor([60]), torch.optim.SGD([quantizer.codevectors], lr=0.1)
    costs = []
    for _ in range(200):
        optimizer.zero_grad()
        out = quantizer(features, lengths, None)
        costs.append(float(out.cost.detach()))
        out.cost.backward()
        optimizer.step()
    assert costs[-1] < 0.1 * costs[0]
    normal = quantizer.norm(features)[0].T
    for code in (0, 1):
        mine = normal[out.codes[0, :, 0] == code]
        assert len(mine) == 30
        torch.testing.assert_close(quantizer.codevectors[code, 0], mine.mean(0), rtol=1e-3, atol=1e-3)


def test_published_sizes() -> None:
    """vq-wav2vec has 34 million parameters (paper, section 4), 10,000 samples are 60 frames (fairseq's README), and the
    first frame that shares no sample with the one that predicts it is the third."""
    with torch.device("meta"):
        gumbel: Any = VQWav2VecForPreTraining(presets.vq_wav2vec())
        large = Wav2VecForPreTraining(presets.wav2vec_large())
    assert round(sum(p.numel() for p in gumbel.parameters()) / 1e6) == 34
    assert gumbel._get_feat_extract_output_lengths(10_000) == large._get_feat_extract_output_lengths(10_000) == 60
    assert large.config.first_step == gumbel.config.first_step == 3
    base = presets.wav2vec_base()
    assert (len(base.conv_dim), len(base.context_dim), set(base.context_kernel)) == (5, 9, {3})
    assert tuple(large.config.context_kernel) == tuple(range(2, 14))
    assert gumbel.wav2vec.quantizer.codevectors.shape == (1, 320, 256)


@pytest.mark.parametrize("kind", ["wav2vec_tiny", "vq_wav2vec_tiny"])
def test_new_parameters_start_as_torch_begins_them(kind: str) -> None:
    torch.manual_seed(0)
    config = getattr(presets, kind)()
    model: Any = model_class(config)(config)
    convolution = model.wav2vec.feature_aggregator.conv_layers[2].conv
    steps = model.step_predictions.project_to_steps
    for module, bound in ((convolution, 1 / math.sqrt(64 * 4)), (steps, 1 / math.sqrt(64 * 12))):
        assert 0.98 * bound < float(module.weight.detach().abs().max()) <= bound
        assert float(module.bias.detach().abs().max()) <= bound
    if kind.startswith("vq"):
        book = model.wav2vec.quantizer.codevectors.detach()
        assert 0 <= float(book.min()) < 0.01 and 0.99 < float(book.max()) < 1
        kmeans: Any = VQWav2VecModel(presets.vq_wav2vec_tiny(quantizer="kmeans"))
        nearest = kmeans.quantizer.codevectors.detach()
        assert float(nearest.std()) == pytest.approx(0.01, rel=0.1)
        shallow: Any = VQWav2VecModel(presets.vq_wav2vec_tiny(quantizer_depth=1))
        alone = shallow.quantizer.scores[0]
        assert float(alone.weight.detach().std()) == pytest.approx(1.0, rel=0.05) and not alone.bias.any()


#: In a process of its own: `register()` reaches all that comes after it.
_BY_AUTO_CLASSES = """
import sys, transformers, wav2vec2
wav2vec2.register()
for auto in ("AutoConfig", "AutoModel", "AutoModelForPreTraining", "AutoFeatureExtractor"):
    kind = type(getattr(transformers, auto).from_pretrained(sys.argv[1]))
    print(f"{kind.__module__.partition('.')[0]}.{kind.__name__}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wav2vec", "kmeans"])
def test_auto_classes_know_them_once_they_are_registered(kind: str, tmp_path: Path) -> None:
    _, ours = both(SMALL[kind])
    ours.float().save_pretrained(tmp_path)
    wav2vec2.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    command = [sys.executable, "-c", _BY_AUTO_CLASSES, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    name = "Wav2Vec" if kind == "wav2vec" else "VQWav2Vec"
    wanted = [f"{name}Config", f"{name}Model", f"{name}ForPreTraining", "Wav2Vec2FeatureExtractor"]
    assert said == [f"wav2vec2.{one}" for one in wanted]


@pytest.mark.parametrize("kind", list(SMALL))
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    _, ours = both(SMALL[kind])
    ours = ours.float()
    ours.set_update(3)
    ours.save_pretrained(tmp_path)
    waveforms, mask = clips(LENGTHS)
    wanted = ours.wav2vec(waveforms.float(), mask)
    again = type(ours).from_pretrained(tmp_path)
    assert again.config.pretraining_updates == 3
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    features = (Wav2VecModel if kind == "wav2vec" else VQWav2VecModel).from_pretrained(tmp_path)
    output = features(waveforms.float(), mask)
    assert all(torch.equal(output[name], wanted[name]) for name in wanted)
    shapes = [tuple(part.shape) for part in features(waveforms.float(), mask, return_dict=False)]
    assert shapes[:2] == [(3, 23, 12), (3, 23, 8)]


def test_a_checkpoint_that_lacks_a_tensor_is_refused_and_one_without_objective_starts_it_afresh(tmp_path: Path) -> None:
    model = Wav2VecForPreTraining(presets.wav2vec_tiny())
    model.wav2vec.save_pretrained(tmp_path / "features")
    again = Wav2VecForPreTraining.from_pretrained(tmp_path / "features")
    weight = "feature_extractor.conv_layers.0.conv.weight"
    assert torch.equal(again.wav2vec.state_dict()[weight], model.wav2vec.state_dict()[weight])
    lacking = {name: one for name, one in model.state_dict().items() if not name.endswith(weight)}
    with pytest.raises(CheckpointError, match=rf"wav2vec\.{weight}: missing"):
        Wav2VecForPreTraining.from_pretrained(None, config=model.config, state_dict=lacking)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"conv_dim": [8, 8]}, "must be equally long, but conv_dim has 2, conv_stride has 7"),
        ({"residual_scale": 0}, "residual_scale=0: must be a number above 0"),
        ({"prediction_offset": 0}, "prediction_offset=0: must be a positive integer or None"),
        ({"activation": "nothing"}, "activation='nothing': must be an activation"),
    ],
)
def test_impossible_configurations_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match="Wav2VecConfig cannot be used:") as error:
        Wav2VecConfig(**values)
    assert told in str(error.value)


def test_impossible_quantizers_are_refused() -> None:
    with pytest.raises(ValueError, match="quantizer='none'"):
        VQWav2VecConfig(quantizer="none")
    with pytest.raises(ValueError, match=r"codevector_dim=256: must be conv_dim\[-1\]=512"):
        VQWav2VecConfig(quantizer="kmeans", codevector_dim=256)
    assert VQWav2VecConfig(codevector_dim=256).gumbel_temperature(0) == 2.0
