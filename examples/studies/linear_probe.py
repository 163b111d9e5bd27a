"""How much a linear classifier finds in single frames of frozen features: which digit is said, and who speaks.

    digits    FSDD digit strings, ten digits; trained on three speakers, tested on one who was never heard before
    speakers  90 LibriSpeech speakers with one recording each; trained on its first half, tested on its second

The protocol is that of CPC (van den Oord et al., 2018, section 3.1): multinomial logistic regression on each frame by
itself, no pooling, and the share of test frames that are right. All features get the same frames and the same
classifier, whose weight decay is chosen on a part of the training clips; of a model, so is the layer.

Shapes: N frames, T frames of a clip, D features, C classes.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from digit_strings import HELD_OUT
from torch import Tensor

from wav2vec2 import load_audio

RATE = 16000
DECAYS = (1e-5, 1e-4, 1e-3)
DIGITS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]

#: A waveform (S,) -> one or several layers of features (T, D).
Features = Callable[[Tensor], list[Tensor]]


def log_mel(waveform: Tensor, bands: int = 80) -> list[Tensor]:
    """Log-mel energies (T, bands): windows of 25 ms every 20 ms, as far apart as the model's frames."""
    spectrum = torch.stft(
        waveform, n_fft=512, hop_length=320, win_length=400, window=torch.hann_window(400), return_complex=True
    )
    energies = mel_filters(bands) @ spectrum.abs().square()  # (bands, T)
    return [(energies + 1e-8).log().T]


def log_mel_in_context(waveform: Tensor, reach: int = 4) -> list[Tensor]:
    """Each frame of log-mel with the four before and the four after it (T, 9 bands): 185 ms to look at."""
    frames = log_mel(waveform)[0]
    padded = torch.cat([frames[:1].expand(reach, -1), frames, frames[-1:].expand(reach, -1)])
    return [torch.cat([padded[i : i + len(frames)] for i in range(2 * reach + 1)], dim=1)]


def mel_filters(bands: int, bins: int = 257) -> Tensor:
    """Triangles that are equally wide on the mel scale (bands, bins), from 20 Hz to 8 kHz."""
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)  # noqa: E731
    edges = 700 * (10 ** (np.linspace(mel(20), mel(8000), bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, RATE / 2, bins)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1, None] - edges[:-2, None])
    falling = (edges[2:, None] - frequencies) / (edges[2:, None] - edges[1:-1, None])
    return torch.tensor(np.maximum(0, np.minimum(rising, falling)), dtype=torch.float32)


def layers_of(model: Any, normalize: bool = True) -> Features:
    """The convolutional features and all layers of a frozen model."""
    encoder = model.wav2vec2.eval()

    @torch.inference_mode()
    def features(waveform: Tensor) -> list[Tensor]:
        if normalize:
            waveform = (waveform - waveform.mean()) / (waveform.var(correction=0) + 1e-7).sqrt()
        output = encoder(waveform[None], output_hidden_states=True)
        return [output.extract_features[0], *(state[0] for state in output.hidden_states)]

    return features


def fit(x: Tensor, y: Tensor, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression of (N, D) by L-BFGS: weights (D, C) and biases (C,)."""
    weight = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, y) + decay * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def accuracy(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, decay: float) -> float:
    """The share of test clips that a classifier fitted to the others gets right."""
    mean, scale = x.mean(0), x.std(0) + 1e-6
    weight, bias = fit((x - mean) / scale, y, int(y.max()) + 1, decay)
    guessed = ((x_test - mean) / scale @ weight + bias).argmax(1)
    return float((guessed == y_test).float().mean())


def probe(clips: Sequence[Sequence[Tensor]], y: Tensor, group: Tensor) -> float:
    """Test accuracy (group 2) with the layer and decay that do best on group 1 when trained on group 0."""
    layers = [torch.cat(frames) for frames in zip(*clips, strict=True)]
    fitted, held, tested = (group == number for number in range(3))
    settings = [(layer, decay) for layer in range(len(layers)) for decay in DECAYS]
    scores = [accuracy(layers[i][fitted], y[fitted], layers[i][held], y[held], decay) for i, decay in settings]
    layer, decay = settings[int(np.argmax(scores))]
    x = layers[layer]
    return accuracy(x[~tested], y[~tested], x[tested], y[tested], decay)


def digits(strings: Path, features: Features) -> float:
    """Frames inside a digit, of a speaker who is in no training; silence is left out."""
    x, y, group = [], [], []
    for number, row in enumerate(table(strings)):
        layers = features(waveform(strings.parent / row["path"]))
        centre = 320 * torch.arange(len(layers[0])) + 200
        for word, begin, end in zip(
            row["transcript"].split(), numbers(row["begins"]), numbers(row["ends"]), strict=True
        ):
            inside = (centre >= begin) & (centre < end)
            x.append([layer[inside] for layer in layers])
            y += [DIGITS.index(word)] * int(inside.sum())
            group += [2 if row["speaker"] == HELD_OUT else int(number % 5 == 0)] * int(inside.sum())
    return probe(x, torch.tensor(y), torch.tensor(group))


def speakers(data: Path, features: Features) -> float:
    """Every fifth frame; the second half of each recording is tested on, a tenth of the first chooses."""
    folder = data / "librispeech_unlabelled"
    x, y, group = [], [], []
    for number, row in enumerate(table(folder / "manifest.tsv")):
        for half, part in enumerate(waveform(folder / row["path"]).tensor_split(2)):
            layers = [layer[::5] for layer in features(part)]
            count = len(layers[0])
            x.append(layers)
            y += [number] * count
            group += [2] * count if half else [int(place >= 0.9 * count) for place in range(count)]
    return probe(x, torch.tensor(y), torch.tensor(group))


def numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(";")]


def waveform(path: Path) -> Tensor:
    return torch.from_numpy(load_audio(path))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
