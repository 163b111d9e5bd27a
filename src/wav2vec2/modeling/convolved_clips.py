"""What stands in the place of waveforms where part of a model has been computed before.

Fine-tuning as in the paper holds the convolutions, so their output of a clip is always the same, and a run may keep it
instead of computing it again. A model is then given these clips where it otherwise takes `input_values`, and goes on
behind the convolutions. Masks and dropout come after them, and are drawn as ever. Where the head alone is ever trained
and nothing below it is drawn, the same holds of the whole encoder.

Shapes: B clips, S samples, T frames, C channels of the feature encoder.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ConvolvedClips:
    """The convolutions' output `features` (B, T, C) of clips that as waveforms would be a batch of `samples` (S). Of
    each clip the first `lengths` (B,) samples are real; no mask says it again."""

    features: Tensor
    lengths: Tensor
    samples: int

    def __len__(self) -> int:
        return len(self.features)

    @property
    def shape(self) -> tuple[int, int]:
        """That of the waveforms: (B, S)."""
        return len(self.features), self.samples

    @property
    def device(self) -> torch.device:
        """Where the clips are."""
        return self.features.device

    def part(self, rows: Tensor, samples: int, frames: int) -> "ConvolvedClips":
        """Some of the clips (n,), as long as so many samples, which are so many frames."""
        return ConvolvedClips(self.features[rows, :frames], self.lengths[rows], samples)


class EncodedClips(ConvolvedClips):
    """Clips whose `features` are the Transformer's output: of a model, only the head is left to compute."""


class LayeredClips(EncodedClips):
    """Clips of which all layers were computed: `features` (B, T, (L + 1) H) are the Transformer's input and the output
    of each of its L layers, side by side."""
