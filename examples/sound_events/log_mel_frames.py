"""The plain baseline: convolutions over log-mel energies, which see 1.3 s around every frame of 20 ms.

Shapes: B scenes, S samples, T frames, M bands, N labels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from event_figures import Stretch, frame_labels
from torch import Tensor, nn

from wav2vec2.modeling.log_mel import LogMelEnergies

STEP = 320


class LogMelFrames(nn.Module):
    """Waveforms (B, S) of one length -> logits (B, T, N)."""

    def __init__(self, labels: int, width: int = 128) -> None:
        super().__init__()
        self.energies = LogMelEnergies(400, STEP, bands=64, band_by_band=False)
        layers: list[nn.Module] = []
        for number, dilation in enumerate((1, 2, 4, 8)):
            layers += [nn.Conv1d(width if number else 64, width, 5, padding=2 * dilation, dilation=dilation)]
            layers += [nn.GroupNorm(8, width), nn.GELU(), nn.Dropout(0.1)]
        self.layers = nn.Sequential(*layers, nn.Conv1d(width, labels, 1))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Logits of frames of 20 ms."""
        lengths = torch.full((len(waveforms),), waveforms.shape[1])
        frames = (lengths - 400) // STEP + 1
        with torch.no_grad():
            energies = self.energies(waveforms, lengths, frames)  # (B, T, M)
        logits: Tensor = self.layers(energies.transpose(1, 2))
        return logits.transpose(1, 2)


def train(
    scenes: Sequence[tuple[Tensor, list[Stretch]]], labels: Sequence[str], seed: int, updates: int
) -> LogMelFrames:
    """A model of scenes (S,) of one length and what is in them, with AdamW, eight scenes an update."""
    torch.manual_seed(seed)
    model = LogMelFrames(len(labels))
    targets = [
        torch.tensor([labels.index(label) for label in frame_labels(stretches, len(samples) / 16000, labels[0])])
        for samples, stretches in scenes
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=updates)
    for _ in range(updates):
        chosen = torch.randint(len(scenes), (8,)).tolist()
        logits = model(torch.stack([scenes[number][0] for number in chosen]))
        wanted = torch.stack([targets[number] for number in chosen])[:, : logits.shape[1]]
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()
