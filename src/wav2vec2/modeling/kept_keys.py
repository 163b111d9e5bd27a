"""What streams keep of a Transformer with attention in chunks, so that each of their chunks is computed once.

Of the frames that are done, every layer keeps the keys and values that later chunks see: `left` frames, and the first
`sinks`. The positional convolution keeps the frames that it hears before a chunk. The look-ahead of a chunk leaves
nothing behind. What a stream hears so is what `attention_in_chunks.py` computes for a whole clip at once.

Shapes: B streams, M frames that are kept, W frames of a chunk and its look-ahead, N layers, H heads, D head size,
C channels, P kernel size of the positional convolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.attention_in_chunks import Chunks


@dataclass
class KeptKeys:
    """What one stream keeps between its chunks."""

    #: (M, N, 2, H, D) the keys and the values of each layer, by frame.
    layers: Tensor
    #: (P // 2, C) the input of the positional convolution before the next chunk; zeros before the first.
    before: Tensor

    @classmethod
    def none(cls, config: Wav2Vec2Config, device: torch.device, dtype: torch.dtype) -> "KeptKeys":
        """Of a stream that begins."""
        heads = config.num_attention_heads
        layers = torch.zeros(0, config.num_hidden_layers, 2, heads, config.hidden_size // heads)
        before = torch.zeros(config.num_conv_pos_embeddings // 2, config.hidden_size)
        return cls(layers.to(device, dtype), before.to(device, dtype))

    def keep(self, layers: Tensor, x: Tensor, chunks: Chunks) -> None:
        """A chunk of n frames is done: `layers` (n, N, 2, H, D), and x (n, C) of the positional convolution."""
        known = torch.cat([self.layers.to(layers.dtype), layers])
        unseen = 0 if chunks.left is None else max(len(known) - chunks.sinks - chunks.left, 0)
        self.layers = torch.cat([known[: chunks.sinks], known[chunks.sinks + unseen :]]) if unseen else known
        self.before = torch.cat([self.before.to(x.dtype), x])[len(x) :]


class LayerKeys:
    """One layer's keys and values of some streams: those that were kept, (B, M, 2, H, D), and then the new ones."""

    def __init__(self, kept: Tensor) -> None:
        self.kept, self.new = kept, kept[:, :0]

    def followed_by(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The kept keys and values with the new ones behind them: (B, H, W, D) -> (B, H, M + W, D)."""
        self.new = torch.stack([key.transpose(1, 2), value.transpose(1, 2)], 2)  # (B, W, 2, H, D)
        every = torch.cat([self.kept.to(key.dtype), self.new], 1).transpose(1, 3)  # (B, H, 2, M + W, D)
        return every[:, :, 0], every[:, :, 1]


class StreamsOfChunks:
    """The next chunk of each of some streams, each with its look-ahead, while the Transformer works on them."""

    def __init__(self, streams: Sequence[KeptKeys], sizes: Sequence[int], widths: Sequence[int]) -> None:
        """`sizes` (B,) are the frames of each chunk, `widths` (B,) those with the look-ahead."""
        self.streams, self.sizes = streams, sizes
        device = streams[0].layers.device
        kept = pad_sequence([stream.layers for stream in streams], batch_first=True)  # (B, M, N, 2, H, D)
        #: What the layers read, in their order.
        self.layers = [LayerKeys(kept[:, :, number]) for number in range(kept.shape[2])]
        #: (B, P // 2, C)
        self.before = torch.stack([stream.before for stream in streams])
        frames = torch.arange(max(widths), device=device)
        #: Which frames there are (B, W).
        self.there = frames < torch.tensor(widths, device=device)[:, None]
        lengths = [len(stream.layers) for stream in streams]
        known = torch.arange(kept.shape[1], device=device) < torch.tensor(lengths, device=device)[:, None]
        every = torch.cat([known, self.there], 1)
        #: Which keys are seen, by all frames of a stream alike (B, 1, W, M + W); None: all.
        self.visible = None if _all(lengths) and _all(widths) else every[:, None, None].expand(-1, 1, len(frames), -1)

    def keep(self, x: Tensor, chunks: Chunks) -> None:
        """The layers are done: what comes later sees the chunks, of which the positional convolution heard x
        (B, W, C)."""
        layers = torch.stack([layer.new for layer in self.layers], 2)  # (B, W, N, 2, H, D)
        for stream, size, of_layers, heard in zip(self.streams, self.sizes, layers, x, strict=True):
            stream.keep(of_layers[:size], heard[:size], chunks)


def _all(counts: Sequence[int]) -> bool:
    """Whether none is padded to the longest."""
    return len(set(counts)) == 1
