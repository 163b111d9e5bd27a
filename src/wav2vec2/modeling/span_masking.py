"""Which frames (or channels) to mask: spans that start at random and may overlap.

The paper draws a share p of all frames as starts and masks M frames from each; fairseq, whose counts are kept here,
draws floor(p T + U[0, 1)) distinct starts per clip. Everything is vectorised and stays on its device.

Shapes: B batch, T positions (frames or channels).
"""

import torch
from torch import Tensor

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.random_draws import ClipDraws, Draws, Purpose, for_purpose, uniform


def sample_span_mask(
    lengths: Tensor, size: int, probability: float, span: int, min_spans: int = 0, draws: Draws = None
) -> Tensor:
    """Draw masks (B, size): True inside a span. Positions from `lengths` (B,) on are never masked.

    `probability` is the share of positions that spans would cover if they never overlapped (p M in the paper). A clip
    gets floor(probability * length / span + U[0, 1)) spans, at least `min_spans`, at most as many as fit side by side;
    so a clip shorter than one span gets none.

    >>> mask = sample_span_mask(torch.tensor([50, 9]), 50, 0.65, span=10, min_spans=2)
    >>> mask.shape, bool(mask[0].sum() >= 11), bool(mask[1].any())
    (torch.Size([2, 50]), True, False)
    """
    batch, device = lengths.shape[0], lengths.device
    rounding = uniform(batch, device=device, draws=draws)
    spans = (lengths.float() * (probability / span) + rounding).floor().long().clamp(min=min_spans)
    spans = torch.minimum(spans, lengths // span)  # (B,)
    position = torch.arange(size, device=device)
    possible = position <= (lengths - span)[:, None]  # (B, T): the whole span lies in the clip
    order = uniform(batch, size, device=device, draws=draws).masked_fill(~possible, 2.0)
    lowest_first = order.argsort(dim=1, stable=True)  # distinct starts: the lowest draws win
    starts = torch.zeros_like(possible).scatter(1, lowest_first, position < spans[:, None]) & possible
    begun = starts.cumsum(dim=1)
    ended = torch.nn.functional.pad(begun, (span, 0))[:, :size]
    return begun > ended


def draw_time_mask(config: Wav2Vec2Config, lengths: Tensor, size: int, draws: Draws = None) -> Tensor:
    """Spans of frames to mask (B, size), by the configuration; none from `lengths` (B,) on."""
    return sample_span_mask(
        lengths,
        size,
        config.mask_time_prob,
        config.mask_time_length,
        config.mask_time_min_masks,
        for_purpose(draws, Purpose.TIME_MASK),
    )


def draw_pretraining_mask(config: Wav2Vec2Config, lengths: Tensor, size: int, clip_seeds: Tensor) -> Tensor:
    """Frames to predict (B, size), as a model's `forward` draws them for the same `clip_seeds` (B,). It needs no model,
    so that the processes of a data loader can draw them, and count them before the first forward pass."""
    check_that_frames_are_masked(config)
    return draw_time_mask(config, lengths, size, ClipDraws(clip_seeds))


def check_that_frames_are_masked(config: Wav2Vec2Config) -> None:
    """Refuse a configuration under which pretraining has nothing to predict."""
    if config.mask_time_prob == 0:
        raise ValueError("mask_time_prob=0: nothing would be predicted; set it (paper: 0.65) or pass mask_time_indices")


def draw_channel_mask(config: Wav2Vec2Config, batch: int, device: torch.device, draws: Draws = None) -> Tensor:
    """Spans of channels to mask (B, hidden_size), by the configuration."""
    return sample_span_mask(
        torch.full((batch,), config.hidden_size, device=device),
        config.hidden_size,
        config.mask_feature_prob,
        config.mask_feature_length,
        config.mask_feature_min_masks,
        for_purpose(draws, Purpose.CHANNEL_MASK),
    )
