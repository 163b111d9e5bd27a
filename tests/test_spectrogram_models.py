"""Networks on log-mel energies beside slow versions of themselves: energies, layers, norms, masks, batches, files."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wav2vec2.baselines import (
    SPECTROGRAM_MODELS,
    CRNNConfig,
    CRNNForCTC,
    DepthwiseCNNConfig,
    DepthwiseCNNForSequenceClassification,
    LogMelFeatureExtractor,
    SpectrogramModel,
    TimeFrequencyLSTMConfig,
    TimeFrequencyLSTMForCTC,
    presets,
)
from wav2vec2.baselines.spectrogram.batch_norm import FrameBatchNorm
from wav2vec2.baselines.spectrogram.spectrogram_model import draw_spans
from wav2vec2.modeling.ctc_loss import ctc_loss
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.modeling.random_draws import ClipDraws

_ENERGIES: dict[str, Any] = {
    "num_mel_bins": 12,
    "window_length": 80,
    "hop_length": 40,
    "lowest_hertz": 100,
    "highest_hertz": 4000,
}
CONFIGS: dict[str, Any] = {
    "crnn": CRNNConfig(**_ENERGIES, channels=3, hidden_size=5, vocab_size=7),
    "time-frequency-lstm": TimeFrequencyLSTMConfig(
        **_ENERGIES, piece_size=5, piece_step=3, frequency_size=2, hidden_size=5, vocab_size=7
    ),
    "depthwise-cnn": DepthwiseCNNConfig(
        **_ENERGIES, first_channels=3, layer_channels=(4, 5, 6), layer_strides=(1, 2, 2), num_labels=4
    ),
}
#: Samples of clips: of an odd and an even number of windows, of one, and of none.
LENGTHS = [1000, 720, 85, 560, 60]


def randomised(kind: str) -> Any:
    """A model whose every parameter and moment says something, in use and not in training."""
    torch.manual_seed(0)
    model = SPECTROGRAM_MODELS[kind](CONFIGS[kind]).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn_like(tensor))
    return model


def clips() -> tuple[Tensor, Tensor]:
    """Noise, with other noise in the place of padding, and the mask of what is real."""
    torch.manual_seed(1)
    waveforms = torch.randn(len(LENGTHS), max(LENGTHS)) * 3 + 1
    return waveforms, (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()


# --- what is heard ---------------------------------------------------------------------------------------------------


def slow_energies(waveform: Any, config: Any) -> Any:
    """Window by window, frequency by frequency, band by band, in float64."""
    waveform = np.asarray(waveform, np.float64)
    waveform = (waveform - waveform.mean()) / math.sqrt(waveform.var() + 1e-7)
    mel = lambda hertz: 2595 * math.log10(1 + hertz / 700)  # noqa: E731
    low, high, bands = mel(config.lowest_hertz), mel(config.highest_hertz), config.num_mel_bins
    edges = [700 * (10 ** ((low + (high - low) * n / (bands + 1)) / 2595) - 1) for n in range(bands + 2)]
    size, rows = config.window_length, []
    time = np.arange(size)
    for begin in range(0, len(waveform) - size + 1, config.hop_length):
        part = waveform[begin : begin + size] * (0.5 - 0.5 * np.cos(2 * np.pi * time / size))
        power = np.abs(np.exp(-2j * np.pi * np.outer(np.arange(513), time) / 1024) @ part) ** 2
        row = []
        for left, middle, right in zip(edges, edges[1:], edges[2:], strict=False):
            hertz = [k * 16000 / 1024 for k in range(513)]
            weights = [max(0, min((h - left) / (middle - left), (right - h) / (right - middle))) for h in hertz]
            row.append(math.log(sum(w * p for w, p in zip(weights, power, strict=True)) + 1e-3))
        rows.append(row)
    found, axis = np.array(rows), 0 if config.band_by_band else None
    return (found - found.mean(axis)) / (found.std(axis) + 0.1)


@pytest.mark.parametrize("kind", ["crnn", "depthwise-cnn"])
def test_energies_are_those_of_sums_over_samples_and_know_nothing_of_their_batch(kind: str, tmp_path: Path) -> None:
    """Saved and loaded too; and a model makes the same of waveforms itself."""
    config = CONFIGS[kind]
    waveforms, mask = clips()
    waveforms, lengths = waveforms[:4], LENGTHS[:4]
    batch = [row[:length].numpy() for row, length in zip(waveforms, lengths, strict=True)]
    LogMelFeatureExtractor.of(config).save_pretrained(tmp_path)
    extractor = LogMelFeatureExtractor.from_pretrained(tmp_path)
    made = extractor(batch, sampling_rate=16000)
    assert made["attention_mask"].sum(1).tolist() == [(length - 80) // 40 + 1 for length in lengths] == [24, 17, 1, 13]
    for clip, energies, real in zip(batch, made["input_features"], made["attention_mask"], strict=True):
        assert not energies[real == 0].any()
        assert energies[real == 1].numpy() == pytest.approx(slow_energies(clip, config), abs=2e-4)
        alone = extractor(clip, sampling_rate=16000)["input_features"][0]
        assert torch.allclose(energies[real == 1], alone, atol=1e-5)
    louder = extractor([5 * clip + 1 for clip in batch], sampling_rate=16000)["input_features"]
    assert torch.allclose(louder, made["input_features"], atol=1e-3)
    model = randomised(kind)
    with torch.no_grad():
        heard = model(waveforms, attention_mask=mask[:4]).logits
        assert torch.allclose(model(**made).logits, heard, atol=1e-5)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros(900), 8000, "sampling_rate=8000: must be 16000"),
        (np.zeros((2, 900)), 16000, r"clip 0 has the shape \(2, 900\)"),
        ([np.zeros(900), np.full(900, np.nan)], 16000, "clip 1 has samples that are no finite numbers"),
    ],
)
def test_audio_that_is_no_clip_is_refused(audio: Any, rate: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMelFeatureExtractor()(audio, sampling_rate=rate)


def test_masks_are_spans_of_the_clip_and_in_training_alone() -> None:
    lengths, seeds = torch.tensor([40, 9, 25]), torch.tensor([5, 6, 7])
    spans = draw_spans(lengths, 40, 1, 8, ClipDraws(seeds))
    assert torch.equal(spans[2:, :25], draw_spans(lengths[2:], 25, 1, 8, ClipDraws(seeds[2:])))  # whatever is beside it
    many = draw_spans(torch.full((4000,), 30), 30, 1, 8, None)
    assert many.sum(1).unique().tolist() == list(range(8)) and many.any(0).all()
    assert (many.long().diff(dim=1) == 1).sum(1).max() <= 1  # in one piece
    assert not draw_spans(torch.tensor([9]).expand(500), 30, 2, 8, None)[:, 9:].any()
    model: Any = randomised("crnn")
    energies = torch.ones(3, 30, 12)
    assert torch.equal(model.hear(None, None, energies, None).energies, energies)
    masked = model.train().hear(None, None, energies, seeds).energies
    assert 0 < (masked == 0).float().mean() < 1 and torch.equal(masked, model.hear(None, None, energies, seeds)[0])


# --- the networks ----------------------------------------------------------------------------------------------------


class StudysNetwork(nn.Module):
    """The CNN-RNN of the label-efficiency study, as it was before it became `CRNNForCTC`."""

    def __init__(self, tokens: int, bands: int = 80, channels: int = 24, width: int = 160) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=(1, 2), padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=(2, 2), padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.recurrent = nn.GRU(
            channels * bands // 4, width, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2
        )
        self.head = nn.Linear(2 * width, tokens)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.convolutions(features[:, None])
        states, _ = self.recurrent(hidden.permute(0, 2, 1, 3).flatten(2))
        scores: Tensor = self.head(states)
        return scores


def test_the_crnn_is_the_studys_from_its_first_weights_on() -> None:
    """The same random numbers, in the same order: weights, dropout, moments, and the loss are equal to the bit."""
    torch.manual_seed(3)
    before = StudysNetwork(9, width=20)
    after: Any = CRNNForCTC(CRNNConfig(vocab_size=9, hidden_size=20, time_masks=0, band_masks=0))
    torch.manual_seed(3)
    after.start_afresh()
    frames = torch.randn(3, 31, 80)
    labels = torch.tensor([[1, 2, 2], [3, -100, -100], [4, 5, -100]])
    for _ in range(3):
        optimizers = [torch.optim.AdamW(one.parameters(), lr=1e-2) for one in (before.train(), after.train())]
        torch.manual_seed(4)
        scores = before(frames)
        expected = ctc_loss(scores, labels, torch.full((3,), 16), blank=0).loss
        torch.manual_seed(4)
        output = after(input_features=frames, labels=labels)
        assert torch.equal(output.logits, scores) and torch.equal(output.loss, expected)
        for loss, optimizer in zip((expected, output.loss), optimizers, strict=True):
            loss.backward()
            optimizer.step()
    state = zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in state)
    assert torch.equal(before.eval()(frames), after.eval()(input_features=frames).logits)


def by_gates(layer: Any, x: Tensor, depth: int, backwards: bool) -> Tensor:
    """One direction of one layer of an LSTM over (T, I), by its definition."""
    names = f"l{depth}{'_reverse' if backwards else ''}"
    w, u, b, c = (getattr(layer, f"{name}_{names}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    hidden = cell = torch.zeros(u.shape[1])
    states = []
    for frame in x.flip(0) if backwards else x:
        enters, forgets, new, leaves = (w @ frame + b + u @ hidden + c).chunk(4)
        cell = forgets.sigmoid() * cell + enters.sigmoid() * new.tanh()
        hidden = leaves.sigmoid() * cell.tanh()
        states.append(hidden)
    return torch.stack(states[::-1] if backwards else states)


def both_ways(layer: Any, x: Tensor, depth: int = 0) -> Tensor:
    return torch.cat([by_gates(layer, x, depth, backwards) for backwards in (False, True)], dim=1)


@torch.no_grad()
def test_a_time_frequency_lstm_goes_along_the_bands_and_then_along_the_clip() -> None:
    """Pieces of 5 bands, 3 apart, of each of 7 windows; frames of two windows, of which the last has only one."""
    model = randomised("time-frequency-lstm")
    energies = torch.randn(7, 12)
    windows = [both_ways(model.along_bands, torch.stack([row[n : n + 5] for n in (0, 3, 6)])) for row in energies]
    said = [window.flatten() for window in [*windows, torch.zeros(3, 4)]]
    frames = torch.stack([torch.cat(said[n : n + 2]) for n in range(0, 8, 2)])
    expected = model.lm_head(both_ways(model.along_clip, both_ways(model.along_clip, frames), depth=1))
    assert torch.allclose(model(input_features=energies[None]).logits[0], expected, atol=1e-5)


@torch.no_grad()
def test_a_depthwise_cnn_convolves_channels_one_by_one() -> None:
    """Each channel by itself, then sums over channels at each place; the mean over all that is left."""
    model: Any = randomised("depthwise-cnn")
    energies = torch.randn(13, 12)
    x = energies[None, None]
    for layer in model.layers:
        kernels, norm = layer.convolution.weight, layer.norm
        if kernels.shape[1] == 1:  # one channel at a time; the first layer has one alone
            sources = x[0] if len(kernels) == x.shape[1] else x[0].expand(len(kernels), -1, -1)
            pairs = zip(sources, kernels, strict=True)
            x = torch.cat([F.conv2d(c[None, None], k[None], None, layer.stride, 1) for c, k in pairs], dim=1)
        else:
            x = torch.einsum("dc,bctm->bdtm", kernels[:, :, 0, 0], x)
        moments = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        mean, variance, weight, bias = (one[:, None, None] for one in moments)
        x = ((x - mean) / (variance + norm.eps).sqrt() * weight + bias).clamp(min=0)
    expected = x.mean((2, 3)) @ model.classifier.weight.T + model.classifier.bias
    assert x.shape[2:] == (2, 2) and expected.std() > 0.01
    assert torch.allclose(model(input_features=energies[None]).logits, expected, atol=1e-5)


@pytest.mark.parametrize("kind", list(CONFIGS))
@torch.no_grad()
def test_a_padded_batch_is_its_clips(kind: str) -> None:
    """Noise stands where padding should. A clip without a window has no frame, and classes all the same."""
    model = randomised(kind)
    waveforms, mask = clips()
    batch = model(waveforms, attention_mask=mask).logits
    for row, length in enumerate(LENGTHS):
        alone = model(waveforms[row : row + 1, :length]).logits[0]
        if kind == "depthwise-cnn":
            if length >= 80:
                assert torch.allclose(batch[row], alone, atol=1e-5)
            continue
        frames = model._get_feat_extract_output_lengths(length)
        assert len(alone) == frames == model.config.frames(length) == -(-max((length - 80) // 40 + 1, 0) // 2)
        assert torch.allclose(batch[row, :frames], alone, atol=1e-5)
        assert (batch[row, frames:].argmax(-1) == 0).all()  # blanks
    spread = (batch[0, :12] if batch.dim() == 3 else batch[:4]).std(0)
    assert spread.max() > 1e-3  # the output follows the audio
    assert model.frame_lengths(waveforms, mask).tolist() == [12, 9, 1, 7, 0] or kind == "depthwise-cnn"


def test_batch_norm_in_training_is_that_of_the_real_frames_alone() -> None:
    """Output, gradient and what is remembered are torch's for the frames without padding; without frames, nothing."""
    torch.manual_seed(0)
    ours, torchs = FrameBatchNorm(3), nn.BatchNorm2d(3)
    x, lengths = torch.randn(3, 3, 6, 2) * 2 + 1, torch.tensor([6, 2, 0])
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    real = torch.cat([row[:, :length] for row, length in zip(inputs[1], lengths, strict=True)], dim=1)[None]
    found, expected = ours(inputs[0], lengths), torchs(real)
    kept = torch.cat([row[:, :length] for row, length in zip(found, lengths, strict=True)], dim=1)[None]
    assert torch.allclose(kept, expected, atol=1e-5)
    (kept**3).sum().backward()
    (expected**3).sum().backward()
    assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-4)  # type: ignore[arg-type]
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.allclose(getattr(ours, name), getattr(torchs, name), atol=1e-6)
    before = ours.running_mean.clone()  # type: ignore[union-attr]
    assert ours(x, torch.zeros(3).long()).isfinite().all() and torch.equal(ours.running_mean, before)  # type: ignore


# --- configurations and files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_saved_and_loaded_it_says_the_same(kind: str, tmp_path: Path) -> None:
    """What follows from the settings alone is in no file; what is missing is an error, but for the head."""
    model: Any = randomised(kind)
    waveforms, mask = clips()
    model.save_pretrained(tmp_path)
    loaded: Any = type(model).from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(waveforms, mask).logits, model(waveforms, mask).logits)
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()
    head = "classifier" if kind == "depthwise-cnn" else "lm_head"
    without = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(head)}
    fresh, info = type(model).from_pretrained(None, config=model.config, state_dict=without, output_loading_info=True)
    assert sorted(info["missing_keys"]) == [f"{head}.bias", f"{head}.weight"] and isinstance(fresh, SpectrogramModel)
    lacking = next(name for name in without if "norm.weight" in name or "weight_hh" in name)
    del without[lacking]
    with pytest.raises(CheckpointError, match=lacking):
        type(model).from_pretrained(None, config=model.config, state_dict=without)


def test_sizes_are_as_their_presets_say() -> None:
    """In millions of parameters; YAMNet's are those of its layers: 3.2 without its 521 classes (1024 x 521 + 521)."""

    def millions(config: Any) -> float:
        with torch.device("meta"):
            model = SPECTROGRAM_MODELS[config.model_type](config)
        return float(sum(parameter.numel() for parameter in model.parameters()) / 1e6)

    assert [round(millions(one()), 1) for one in (presets.crnn, presets.crnn_large)] == [1.1, 16.4]
    assert [round(millions(one()), 1) for one in (presets.time_frequency_lstm, presets.depthwise_cnn)] == [1.9, 0.1]
    kernels = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 5]
    kernels += [(512, 1024), (1024, 1024)]
    by_hand = 9 * 32 + 2 * 32 + sum(9 * n + 2 * n + n * m + 2 * m for n, m in kernels) + 1024 * 521 + 521
    assert millions(presets.yamnet(num_labels=521)) == pytest.approx(by_hand / 1e6)


def test_operations_are_counted_as_torch_counts_them() -> None:
    """Of convolutions and linear layers; recurrent layers, which torch's counter does not see, by hand."""
    from torch.utils.flop_counter import FlopCounterMode

    for kind in ("crnn", "depthwise-cnn"):
        model, energies = randomised(kind), torch.randn(1, 24, 12)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(input_features=energies)
        counted = counter.get_flop_counts()["Global"]
        products = sum(n for name, n in counted.items() if "convolution" in str(name))
        recurrent, tokens = 12 * 2.0 * (2 * 3 * 5 * (9 + 5) + 2 * 3 * 5 * (10 + 5)), 12 * 2 * 10 * 7
        assert model.config.operations(1000) == products + (recurrent + tokens if kind == "crnn" else 0), kind
    lstm = CONFIGS["time-frequency-lstm"]
    along_bands, along_clip = 24 * 3 * 16 * 2 * (5 + 2), 12 * 16 * 5 * ((24 + 5) + (10 + 5))
    assert lstm.operations(1000) == along_bands + along_clip + 12 * 2 * 10 * 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: CRNNConfig(hop_length=0, dropout=2),
            r"hop_length=0: must be a positive integer\n  dropout=2: must be a prob",
        ),
        (
            lambda: CRNNConfig(highest_hertz=9000),
            "highest_hertz=9000: must be above lowest_hertz=60.0 and at",
        ),
        (lambda: TimeFrequencyLSTMConfig(piece_size=90), "piece_size=90: must be at most num_mel_bins=80"),
        (lambda: CRNNForCTC(CRNNConfig(pad_token_id=32)), "vocab_size=32, pad_token_id=32: CTC needs the number"),
        (lambda: TimeFrequencyLSTMForCTC(TimeFrequencyLSTMConfig()).hold_encoder(), "has no pretrained body"),
        (lambda: DepthwiseCNNForSequenceClassification(DepthwiseCNNConfig())(), "give waveforms .* or their log-mel"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
