"""The classical baseline of the label-efficiency study: a CNN-RNN CTC network on log-mel energies, kept in here.

Two strided convolutions over time and frequency, two bidirectional GRUs, a linear layer; with GRUs of 768 about as many
parameters as the small model, with 160 a million. Trained by Adam with the same number of updates and the same audio
per update; SpecAugment-like time and band masks.

Shapes: B clips, S samples, T frames (every 40 ms after the convolutions), M bands, V tokens.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from linear_probe import log_mel
from torch import Tensor, nn

from wav2vec2 import Wav2Vec2CTCTokenizer


class CnnRnn(nn.Module):
    """Log-mel (B, T', M) -> scores (B, T, V)."""

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
        hidden = self.convolutions(features[:, None])  # (B, channels, T, M / 4)
        states, _ = self.recurrent(hidden.permute(0, 2, 1, 3).flatten(2))
        scores: Tensor = self.head(states)
        return scores


def normalised(waveform: Tensor) -> Tensor:
    """Log-mel with zero mean and unit variance per band."""
    frames = log_mel(waveform)[0]
    return (frames - frames.mean(0)) / (frames.std(0) + 1e-5)


def masked(features: Tensor, generator: torch.Generator) -> Tensor:
    """Two masks of up to 15 frames and two of up to 10 bands per clip."""
    features = features.clone()
    for clip in features:
        for _ in range(2):
            for axis, most in ((0, 15), (1, 10)):
                width = int(torch.randint(0, most, (), generator=generator))
                first = int(torch.randint(0, max(1, clip.shape[axis] - width), (), generator=generator))
                clip.narrow(axis, first, min(width, clip.shape[axis])).zero_()
    return features


def train(
    clips: Sequence[tuple[Tensor, list[int]]],
    tokens: int,
    updates: int,
    seconds_per_update: float,
    learning_rate: float,
    seed: int,
    width: int = 160,
) -> CnnRnn:
    """Train on (waveform, token ids) pairs, shuffled anew every time all were seen."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = CnnRnn(tokens, width=width).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    inputs = [normalised(waveform) for waveform, _ in clips]
    order: list[int] = []
    for update in range(updates):
        chosen, seconds = [], 0.0
        while seconds < seconds_per_update:
            order = order or torch.randperm(len(clips), generator=generator).tolist()
            chosen.append(order.pop())
            seconds += len(clips[chosen[-1]][0]) / 16000
        features = nn.utils.rnn.pad_sequence([inputs[i] for i in chosen], batch_first=True)
        loss = ctc(model(masked(features, generator)), [inputs[i] for i in chosen], [clips[i][1] for i in chosen])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (update + 1) / (0.1 * updates), 2 * (1 - update / updates))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def ctc(scores: Tensor, inputs: Sequence[Tensor], targets: Sequence[list[int]]) -> Tensor:
    """The mean loss of the clips."""
    lengths = torch.tensor([math.ceil(len(one) / 2) for one in inputs])
    flat = torch.tensor(np.concatenate(targets), dtype=torch.long)
    sizes = torch.tensor([len(one) for one in targets])
    log_probs = scores.log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log_probs, flat, lengths, sizes, blank=0, reduction="sum", zero_infinity=True) / len(inputs)


@torch.inference_mode()
def transcribe(model: CnnRnn, waveforms: Sequence[Tensor], tokenizer: Wav2Vec2CTCTokenizer) -> list[str]:
    """Greedy texts, one clip at a time."""
    return [str(tokenizer.decode(model(normalised(one)[None])[0].argmax(-1).tolist())) for one in waveforms]
