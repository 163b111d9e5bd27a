"""Greedy search: the best token of every frame, repetitions folded, blanks removed.

Shapes: B utterances, T frames, V tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wav2vec2.alignment.forced_alignment import Span


class GreedyPath(NamedTuple):
    """The runs of one utterance's best path, blanks left out, and its log-probability."""

    spans: list[Span]
    score: float


@torch.inference_mode()
def greedy_paths(log_probs: Tensor, lengths: Tensor, blank: int, allowed: Tensor) -> list[GreedyPath]:
    """The best path of each utterance of log_probs (B, T, V) through the `allowed` (V,) tokens."""
    best, token = log_probs.masked_fill(~allowed, float("-inf")).max(-1)
    probability = best.exp()
    rows = zip(token.tolist(), probability.tolist(), lengths.tolist(), strict=True)
    scores = [float(row[:length].double().sum()) for row, length in zip(best.cpu(), lengths.tolist(), strict=True)]
    return [
        GreedyPath(_runs(tokens[:length], likely[:length], blank), score)
        for (tokens, likely, length), score in zip(rows, scores, strict=True)
    ]


def _runs(tokens: list[int], probability: list[float], blank: int) -> list[Span]:
    spans, start = [], 0
    for frame in range(1, len(tokens) + 1):
        if frame == len(tokens) or tokens[frame] != tokens[start]:
            if tokens[start] != blank:
                mean = sum(probability[start:frame]) / (frame - start)
                spans.append(Span(tokens[start], start, frame, min(mean, 1.0)))
            start = frame
    return spans
