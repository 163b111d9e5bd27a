"""Forced alignment: when was each token of a known transcript said?

Graves et al., "Connectionist Temporal Classification" (2006), section 4.1 with a maximum in place of the sum: among all
paths that spell the targets, the most probable one. `alignment_trellis.py` searches; here inputs are checked and paths
become spans.

Shapes: B utterances, T frames, V tokens, U targets.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wav2vec2.alignment.alignment_trellis import best_path, build_trellis
from wav2vec2.configuration.frame_arithmetic import frames_needed

#: What a frame of a star costs, in nats. It must be above zero, or the star would take the frames of its neighbours;
#: and well below what a blank costs in place of a spoken letter, or the star would shrink to a single frame.
STAR_COST = 0.1

#: Padding of targets, as in the labels of the model.
PADDING = -100


class Span(NamedTuple):
    """A token and its frames start ... end - 1."""

    token: int
    start: int
    end: int
    #: The mean probability of the token in its frames; 0 for a star.
    confidence: float


class Alignment(list[Span]):
    """The spans of one utterance, one per target token, in order.

    `score` is the log-probability of the path. `reason` is None, or says why there is no path: the spans are then
    spread evenly over the frames with confidence 0, so that nothing is lost and nothing looks certain.
    """

    def __init__(self, spans: Iterable[Span], score: float, reason: str | None = None) -> None:
        super().__init__(spans)
        self.score = score
        self.reason = reason


def align(
    log_probs: Tensor,
    targets: Tensor,
    lengths: Tensor | Sequence[int] | None = None,
    target_lengths: Tensor | Sequence[int] | None = None,
    blank: int = 0,
    star: int | None = None,
    star_cost: float = STAR_COST,
) -> list[Alignment]:
    """Align log_probs (B, T, V) with targets (B, U): one alignment per utterance, on any device, in bounded memory.

    `lengths` (B,) and `target_lengths` (B,) say how much of each row is real; by default all frames, and all targets
    before the padding of -100. Equal neighbours are told apart by a blank. The token `star`, any id outside the
    vocabulary, stands for something unknown that takes one frame or more: each costs as much as its best token, and
    `star_cost` nats. Stars need no blank between them. For a star with learned scores, append its column to log_probs
    and use that column's id as an ordinary target.

    An utterance with fewer frames than its targets need is not an error: see `Alignment.reason`. A token that is
    impossible where it must be has confidence 0.

    >>> probabilities = torch.tensor([[[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]]])
    >>> [tuple(round(value, 2) for value in span) for span in align(probabilities.log(), torch.tensor([[1, 2]]))[0]]
    [(1, 1, 3, 0.7), (2, 3, 4, 0.8)]
    """
    _check_arguments(log_probs, targets, star, star_cost)
    log_probs, targets = log_probs.detach(), targets.to(log_probs.device, torch.long)
    if target_lengths is None:
        target_lengths = (targets != PADDING).long().cumprod(1).sum(1)
    frames = _checked_lengths("lengths", log_probs.shape[1] if lengths is None else lengths, log_probs)
    tokens = _checked_lengths("target_lengths", target_lengths, targets)
    log_probs, targets = log_probs[:, : int(frames.max())], targets[:, : int(tokens.max())]
    _check_targets(targets, tokens, log_probs.shape[2], blank, star)
    _check_values(log_probs, frames)
    inside = torch.arange(targets.shape[1], device=targets.device) < tokens[:, None]
    # no two stars are equal: nothing needs to stand between them
    each = -1 - torch.arange(targets.shape[1], device=targets.device)
    told_apart = targets if star is None else torch.where(targets == star, each, targets)
    needed = frames_needed(told_apart, inside)
    found = (needed <= frames) & (frames > 0)
    spans = iter(
        _align_feasible(log_probs[found], targets[found], frames[found], tokens[found], blank, star, star_cost)
        if bool(found.any())
        else ()
    )
    rows = zip(found.tolist(), targets.tolist(), frames.tolist(), tokens.tolist(), needed.tolist(), strict=True)
    return [
        next(spans) if possible else _spread(number, row[:count], length, need)
        for number, (possible, row, length, count, need) in enumerate(rows)
    ]


def silence_as_blank(
    log_probs: Tensor, blank: int, delimiter: int | None, merge: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Log-probabilities (..., V) in which the blank stands for the word delimiter as well.

    Where nothing is said, models write either of them, in any number. What their two columns make together depends on
    the question. `merge` is `torch.logaddexp` where it is how likely silence is: a frame that is undecided between the
    two is certain to be silent. It is `torch.maximum` where single tokens are compared, which a sum of two would beat.

    >>> frame = torch.tensor([0.4, 0.4, 0.2]).log()
    >>> [round(float(silence_as_blank(frame, 0, 1, merge)[0].exp()), 2) for merge in (torch.logaddexp, torch.maximum)]
    [0.8, 0.4]
    """
    if delimiter is None:
        return log_probs
    log_probs = log_probs.clone()
    log_probs[..., blank] = merge(log_probs[..., blank], log_probs[..., delimiter]).clamp(max=0.0)
    return log_probs


def _check_arguments(log_probs: Tensor, targets: Tensor, star: int | None, star_cost: float) -> None:
    if log_probs.ndim != 3 or not log_probs.is_floating_point() or log_probs.shape[0] == 0 or log_probs.shape[2] == 0:
        raise ValueError(
            f"log_probs: {log_probs.dtype} of shape {tuple(log_probs.shape)}; need floating point "
            "(utterances, frames, tokens)"
        )
    if targets.ndim != 2 or targets.is_floating_point() or targets.shape[0] != log_probs.shape[0]:
        raise ValueError(
            f"targets: {targets.dtype} of shape {tuple(targets.shape)}; need integers "
            f"({log_probs.shape[0]} utterances, tokens)"
        )
    last = log_probs.shape[2] - 1
    if star is not None and (0 <= star <= last or star == PADDING):
        raise ValueError(f"star={star}: must be outside the vocabulary 0 ... {last}, and not {PADDING}")
    if not 0 <= star_cost < float("inf"):
        raise ValueError(f"star_cost={star_cost}: must be finite and at least 0")


def _checked_lengths(name: str, lengths: Tensor | Sequence[int] | int, of: Tensor) -> Tensor:
    """Lengths (B,) on the device of the tensor that they measure."""
    batch, limit = of.shape[:2]
    if isinstance(lengths, int):
        lengths = [lengths] * batch
    checked = torch.as_tensor(lengths, device=of.device)
    if checked.shape != (batch,) or checked.is_floating_point():
        raise ValueError(f"{name}: {tuple(checked.shape)} of {checked.dtype}; need {batch} integers, one per utterance")
    wrong = ((checked < 0) | (checked > limit)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"{name}: {int(checked[row])} for utterance {row}; must be between 0 and {limit}")
    return checked.long()


def _check_targets(targets: Tensor, tokens: Tensor, vocab_size: int, blank: int, star: int | None) -> None:
    if not 0 <= blank < vocab_size:
        raise ValueError(f"blank={blank}: must be one of the tokens 0 ... {vocab_size - 1}")
    valid = (targets >= 0) & (targets < vocab_size) & (targets != blank)
    if star is not None:
        valid |= targets == star
    inside = torch.arange(targets.shape[1], device=targets.device) < tokens[:, None]
    wrong = (~valid & inside).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(
            f"targets: {int(targets[row, column])} at position {column} of utterance {row}; "
            f"must be a token 0 ... {vocab_size - 1} other than the blank {blank}"
            + ("" if star is None else f", or the star {star}")
        )


def _check_values(log_probs: Tensor, frames: Tensor) -> None:
    """Refuse what cannot be log-probabilities in the real frames; -inf is fine."""
    if log_probs.shape[1] == 0:
        return
    highest = log_probs.amax(2)  # (B, T); NaN if there is one
    inside = torch.arange(log_probs.shape[1], device=frames.device) < frames[:, None]
    wrong = (~(highest <= 1e-3) & inside).nonzero()
    if len(wrong):
        row, frame = wrong[0].tolist()
        raise ValueError(
            f"log_probs: {float(highest[row, frame])} in frame {frame} of utterance {row}; "
            "log-probabilities are at most 0: apply log_softmax to the logits"
        )


def _align_feasible(
    log_probs: Tensor, targets: Tensor, frames: Tensor, tokens: Tensor, blank: int, star: int | None, star_cost: float
) -> list[Alignment]:
    """Alignments of utterances that have a path."""
    log_probs = log_probs[:, : int(frames.max())]
    path = best_path(build_trellis(log_probs, frames, targets, tokens, blank, star, star_cost))  # (B, T), ends aligned
    place = torch.arange(path.shape[1], device=path.device) + (path.shape[1] - frames)[:, None]
    states = path.gather(1, place.clamp(max=path.shape[1] - 1))  # (B, T), beginnings aligned
    columns = targets.new_full((len(targets), 2 * targets.shape[1] + 1), blank)
    columns[:, 1::2] = targets
    emitted = columns.gather(1, states)  # (B, T)
    wild = torch.zeros_like(emitted, dtype=torch.bool) if star is None else emitted == star
    said = log_probs.gather(2, emitted.masked_fill(wild, blank)[..., None])[..., 0].float()
    on_path = said if star is None else torch.where(wild, log_probs.amax(2).float() - star_cost, said)
    confidence = said.exp().masked_fill(wild, 0.0)
    rows = zip(on_path.double().cpu(), frames.tolist(), strict=True)
    scores = [float(row[:length].sum()) for row, length in rows]
    return _read_spans(states.cpu(), confidence.double().cpu(), frames.cpu(), targets.cpu(), tokens.cpu(), scores)


def _read_spans(
    states: Tensor, confidence: Tensor, frames: Tensor, targets: Tensor, tokens: Tensor, scores: Sequence[float]
) -> list[Alignment]:
    """The spans of paths, of all at once: states (B, T) of targets (B, U), with what each frame's token has (B, T)."""
    in_token = (states % 2 == 1) & (torch.arange(states.shape[1]) < frames[:, None])
    row, frame = in_token.nonzero().unbind(1)  # of all paths, one after the other
    first = tokens.cumsum(0) - tokens  # (B,) where the tokens of a path begin among those of all
    token, count = (first[row] + states[row, frame] // 2).numpy(), int(tokens.sum())
    counts = np.bincount(token, minlength=count)
    sums = np.bincount(token, confidence[row, frame].numpy(), minlength=count)
    starts = frame.numpy()[counts.cumsum() - counts]
    labels = targets[torch.arange(targets.shape[1]) < tokens[:, None]]
    values = labels.tolist(), starts.tolist(), (starts + counts).tolist(), (sums / counts).clip(0.0, 1.0).tolist()
    spans = map(Span, *values)
    return [Alignment(islice(spans, each), score) for each, score in zip(tokens.tolist(), scores, strict=True)]


def _spread(number: int, labels: list[int], frames: int, needed: int) -> Alignment:
    """Spans without a path: the tokens evenly over the frames, and why."""
    count = len(labels)
    edges = [frames * position // max(count, 1) for position in range(count + 1)]
    spans = (Span(label, edges[place], edges[place + 1], 0.0) for place, label in enumerate(labels))
    if not labels:
        return Alignment(spans, 0.0)
    reason = (
        f"utterance {number}: {frames} frames cannot hold {count} tokens, which need {needed} frames "
        "(one each, and a blank between equal neighbours)"
    )
    return Alignment(spans, -float("inf"), reason)
