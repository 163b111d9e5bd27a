"""Recurrent layers between the Transformer and the scores of CTC, for few labels.

With minutes of labels it pays to hold the pretrained body and to train such a head alone (docs/finetuning.md). Every
feature of a clip gets zero mean and unit variance over the clip, which takes out much of who speaks and how it was
recorded; a convolution with a stride makes frames fewer; GRUs hear the whole clip in both directions.

A clip gives the same alone and in a batch: padding takes part in nothing. Directions are GRUs of their own, and what
runs backwards begins at each clip's own end, by an index on the device, so that the host waits for no lengths.

Shapes: B batch, T frames, H hidden size, C channels of the head, U frames after the stride.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import one_of_every
from wav2vec2.modeling.dropout import Dropout
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.precision import full_precision, in_full_precision
from wav2vec2.modeling.random_draws import Draws
from wav2vec2.modeling.span_masking import draw_channel_mask, draw_time_mask

#: Frames that one frame of the convolution hears: as many before its own as after it.
_KERNEL = 5

#: Added to the variance of a feature: what does not change in a clip stays zero.
_EPSILON = 1e-5


class RecurrentHead(nn.Module):
    """Context representations (B, T, H) -> (B, U, 2 C), one frame of U for every `config.ctc_head_stride` of T.

    It computes in the precision of its weights, also under autocast, whose 16 bits would add up along a clip.
    """

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        size, self.stride = config.ctc_head_size, config.ctc_head_stride
        self.config = config
        self.dropout = Dropout(config.ctc_head_dropout)
        self.convolution = nn.Conv1d(config.hidden_size, size, _KERNEL, self.stride, padding=_KERNEL // 2)
        self.layer_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            BothDirections(2 * size if number else size, size) for number in range(config.ctc_head_layers)
        )

    def forward(self, context: Tensor, lengths: Tensor, draws: Draws = None) -> Tensor:
        """Of each clip the first `lengths` (B,) of its T frames are real; `draws` are where its masks come from."""
        frames = one_of_every(context.shape[1], self.stride)
        context = F.pad(context, (0, 0, 0, 0 if context.shape[1] else 1))  # the layers need a frame to work on
        with in_full_precision(context):
            x = self.masked(normalised_over_clips(context, lengths), lengths, draws)
            x = self.dropout(x.to(self.convolution.weight.dtype))
            x = F.gelu(self.layer_norm(self.convolution(x.transpose(1, 2)).transpose(1, 2)))
            order = backwards_within(one_of_every(lengths, self.stride), x.shape[1])
            for layer in self.layers:
                x = self.dropout(layer(x, order))
        return x[:, :frames]

    def masked(self, x: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
        """(B, T, H) with spans of frames and of channels at zero, their mean, where the configuration masks here."""
        config = self.config
        if not (self.training and config.masks_at_head and config.apply_spec_augment):
            return x
        if config.mask_time_prob > 0:
            x = x.masked_fill(draw_time_mask(config, lengths, x.shape[1], draws)[:, :, None], 0.0)
        if config.mask_feature_prob > 0:
            x = x.masked_fill(draw_channel_mask(config, x.shape[0], x.device, draws)[:, None, :], 0.0)
        return x


class BothDirections(nn.Module):
    """Two GRUs, one through each direction of a clip: (B, U, I) -> (B, U, 2 C)."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.forwards = nn.GRU(inputs, size, batch_first=True)
        self.backwards = nn.GRU(inputs, size, batch_first=True)

    def forward(self, x: Tensor, order: Tensor) -> Tensor:
        """`order` (B, U) are the places of the frames when each clip is read from its end."""
        there, _ = self.forwards(x)
        back, _ = self.backwards(_reordered(x, order))
        return torch.cat([there, _reordered(back, order)], dim=-1)


def normalised_over_clips(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, H) with zero mean and unit variance of every feature over the first `lengths` (B,) frames of its clip, in
    full precision; zero beyond them."""
    padding = ~frames_within(lengths, x.shape[1])[:, :, None]
    count = lengths.clamp(min=1)[:, None, None]
    x = full_precision(x).masked_fill(padding, 0.0)
    centred = (x - x.sum(1, keepdim=True) / count).masked_fill(padding, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred * (variance + _EPSILON).rsqrt()


def backwards_within(lengths: Tensor, total: int) -> Tensor:
    """Places (B, total) of the frames when the first `lengths` (B,) of each clip are read from the last to the first.
    The frames beyond them stay. Applied twice, it is the identity.

    >>> backwards_within(torch.tensor([3, 0]), 4)
    tensor([[2, 1, 0, 3],
            [0, 1, 2, 3]])
    """
    place = torch.arange(total, device=lengths.device)
    return torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order[:, :, None].expand(-1, -1, x.shape[2]))
