"""How the label-efficiency study trains its classical baseline, `CRNNForCTC` of `wav2vec2.baselines`.

By Adam with the same number of updates and the same audio per update as the others; SpecAugment-like time and band
masks. The study is older than the network's place in the package: energies, masks, batches (padding is heard as real)
and random numbers are as they were in it, so that its figures stay what they are. `wav2vec2 finetune ctc_crnn` trains
the same network on the package's own loop.

Shapes: B clips, S samples, T frames (every 40 ms after the convolutions), M bands, V tokens.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from linear_probe import log_mel
from torch import Tensor, nn

from wav2vec2.baselines import CRNNConfig, CRNNForCTC


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
) -> CRNNForCTC:
    """Train on (waveform, token ids) pairs, shuffled anew every time all were seen."""
    generator = torch.Generator().manual_seed(seed)
    model = CRNNForCTC(CRNNConfig(vocab_size=tokens, hidden_size=width, time_masks=0, band_masks=0))
    model.train()
    torch.manual_seed(seed)
    model.start_afresh()
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
        logits = scores(model, masked(features, generator))
        loss = ctc(logits, [inputs[i] for i in chosen], [clips[i][1] for i in chosen])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (update + 1) / (0.1 * updates), 2 * (1 - update / updates))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    return model


def ctc(logits: Tensor, inputs: Sequence[Tensor], targets: Sequence[list[int]]) -> Tensor:
    """The mean loss of the clips."""
    lengths = torch.tensor([math.ceil(len(one) / 2) for one in inputs])
    flat = torch.tensor(np.concatenate(targets), dtype=torch.long)
    sizes = torch.tensor([len(one) for one in targets])
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log_probs, flat, lengths, sizes, blank=0, reduction="sum", zero_infinity=True) / len(inputs)


def scores(model: CRNNForCTC, features: Tensor) -> Tensor:
    """Energies (B, T', M) -> scores (B, T, V); all of them count as real."""
    found: Tensor = model(input_features=features).logits
    return found
