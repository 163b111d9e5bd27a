"""The parts of an update: losses that add up to those of the whole, whatever it was cut into.

An update is one optimizer step over a batch that may be too large for one forward pass, or lie on several processes.
The contrastive loss is a sum over masked frames, so its parts add up by themselves. The other two losses look at the
batch as one, and need what is counted here before the first part's forward pass.

Shapes: G groups, V entries per group.
"""

from typing import NamedTuple

from torch import Tensor


class WholeUpdate(NamedTuple):
    """What one part must know of all parts together."""

    num_masked: Tensor  # (): masked frames
    num_frames: Tensor  # (): real frames
    usage: Tensor | None = None  # (G, V): mean choice probabilities over all masked frames; None: each part's own


def as_part_of_update(own: Tensor, usage: Tensor) -> Tensor:
    """The usage (G, V) of the whole update, with the gradient that this part's `own` usage has in it.

    Let part i have n_i masked frames with mean choice probabilities p_i, and N = sum n_i. The whole update has
    p = sum (n_i / N) p_i, and with the diversity loss D, its loss is N D(p) with the gradient

        N D'(p) sum (n_i / N) dp_i = sum n_i D'(p) dp_i.

    So if part i counts n_i D(p + p_i - constant(p_i)), its values add up to N D(p), and its gradients to the one above.
    """
    return usage.detach().to(own.dtype) + (own - own.detach())
