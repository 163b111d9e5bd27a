"""The product quantizer: one entry from each of G codebooks, chosen through a Gumbel softmax (paper, section 2).

Shapes: B batch, T frames, G groups, V entries per group, D entry size, C channels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.precision import full_precision, in_full_precision
from wav2vec2.modeling.random_draws import Draws, Purpose, exponential, for_purpose


class Quantized(NamedTuple):
    """What the quantizer makes of a batch of features."""

    #: The chosen entries of all groups, concatenated (B, T, G * D).
    vectors: Tensor
    #: The chosen entries of all groups as one number (B, T).
    codes: Tensor
    #: Perplexity of the soft choice (), summed over groups: the one in the diversity loss.
    soft_perplexity: Tensor
    #: How many codes the most likely choices use (G,).
    code_perplexity: Tensor
    #: How many frames in the mask find each entry the most likely one (G, V).
    code_counts: Tensor


def float_bits(value: float) -> Tensor:
    """The int32 () that has the same bits as this number as a float32."""
    return torch.tensor(value, dtype=torch.float32, device="cpu").view(torch.int32)


def perplexity(distribution: Tensor) -> Tensor:
    """exp of the entropy over the last dimension: how many equally likely entries it is worth."""
    tiny = torch.finfo(distribution.dtype).tiny  # the logarithm of zero has no gradient
    return torch.exp(-(distribution * distribution.clamp(min=tiny).log()).sum(dim=-1))


def gumbel_noise(like: Tensor, draws: Draws = None) -> Tensor:
    """Standard Gumbel noise: the logarithm of exponential numbers, which resolve its large values finely."""
    return -exponential(like, for_purpose(draws, Purpose.GUMBEL_NOISE)).log()


class Wav2Vec2GumbelVectorQuantizer(nn.Module):
    """Features -> quantized vectors. In training the choice is sampled and has a straight-through gradient."""

    temperature_bits: Tensor

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.num_groups = config.num_codevector_groups
        self.num_vars = config.num_codevectors_per_group
        by_hand = config.gumbel_temperature_by_hand
        self.initial_temperature = by_hand or config.gumbel_temperature(config.pretraining_updates)
        entry = config.codevector_dim // self.num_groups
        self.codevectors = nn.Parameter(torch.empty(1, self.num_groups * self.num_vars, entry))
        self.weight_proj = nn.Linear(config.conv_dim[-1], self.num_groups * self.num_vars)
        # A tensor, so that a compiled graph need not be compiled again when it changes; the bits of a float32 as an
        # integer, so that a model cast to 16 bits keeps it exactly.
        self.register_buffer("temperature_bits", float_bits(self.initial_temperature), persistent=False)

    @property
    def temperature(self) -> Tensor:
        """The Gumbel softmax's temperature, ()."""
        return self.temperature_bits.view(torch.float32)

    @torch.no_grad()
    def set_temperature(self, temperature: float) -> None:
        """Set the temperature in place, so that a compiled graph sees it. (A number, not a tensor of the host's: a
        copy of that to an accelerator would be waited for.)"""
        self.temperature_bits.fill_(int(float_bits(temperature)))

    @torch.no_grad()
    def centre_entries(self) -> None:
        """Move entries that are new, uniform in [0, 1), to [-0.5, 0.5). As published, they share a mean that is larger
        than their differences, so that any two of them have a cosine of about 0.75."""
        self.codevectors.sub_(0.5)

    def forward(
        self, features: Tensor, mask: Tensor, draws: Draws = None, usage_of_update: Tensor | None = None
    ) -> Quantized:
        """Quantize (B, T, C); perplexities are taken over the frames in `mask` (B, T). Where the batch is a part of an
        update whose `usage_of_update` (G, V) is known, the soft one is that of the update."""
        with in_full_precision(features):
            logits = self.logits(features)
            likeliest = logits.argmax(dim=-1)  # (B, T, G)
            entries = torch.arange(self.num_vars, device=logits.device)
            counts = masked_sum((likeliest[..., None] == entries).to(logits.dtype), mask)
            usage = counts / mask.sum().clamp(min=1)
            if self.training:
                noisy = (logits + gumbel_noise(logits, draws)) / self.temperature
                chosen = noisy.argmax(dim=-1)
                soft_usage = masked_mean(logits.softmax(dim=-1), mask)
                vectors = self.look_up(chosen) + self.straight_through(noisy.softmax(dim=-1))
            else:
                chosen, soft_usage, vectors = likeliest, usage, self.look_up(likeliest)
            if usage_of_update is not None:
                soft_usage = as_part_of_update(soft_usage, usage_of_update)
            return Quantized(
                vectors=vectors.flatten(-2),
                codes=self.as_one_number(chosen),
                soft_perplexity=perplexity(soft_usage).sum(),
                code_perplexity=perplexity(usage),
                code_counts=counts.long(),
            )

    def logits(self, features: Tensor) -> Tensor:
        """Scores of all entries: (B, T, C) -> (B, T, G, V). In full precision, the projection too: rounding would turn
        choices between entries that are nearly as likely."""
        with in_full_precision(features):
            scores = full_precision(self.weight_proj(features.to(self.weight_proj.weight.dtype)))
        return scores.unflatten(-1, (self.num_groups, -1))

    def choice_probabilities(self, features: Tensor, mask: Tensor) -> Tensor:
        """Probability of each entry without noise, summed over the frames in `mask` (B, T): (B, T, C) -> (G, V)."""
        return masked_sum(self.logits(features).softmax(dim=-1), mask)

    def look_up(self, chosen: Tensor) -> Tensor:
        """The chosen entries (B, T, G) of the codebooks -> (B, T, G, D)."""
        offsets = torch.arange(self.num_groups, device=chosen.device) * self.num_vars
        return F.embedding(chosen + offsets, full_precision(self.codevectors[0]))

    def straight_through(self, soft: Tensor) -> Tensor:
        """Zero, with the gradient that choosing by `soft` (B, T, G, V) instead of by the maximum would have."""
        codebooks = full_precision(self.codevectors[0]).detach().unflatten(0, (self.num_groups, -1))
        return torch.einsum("btgv,gvd->btgd", soft - soft.detach(), codebooks)

    def as_one_number(self, chosen: Tensor) -> Tensor:
        """Chosen entries (B, T, G) -> one number for each frame (B, T); two are equal exactly if all entries are."""
        code = chosen[..., 0]
        for group in range(1, self.num_groups):
            code = code * self.num_vars + chosen[..., group]
        return code


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T, G, V) over the frames in `mask` (B, T) -> (G, V); zeros where there is no frame."""
    weights = mask.to(values.dtype) / mask.sum().clamp(min=1)
    return torch.einsum("bt,btgv->gv", weights, values)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of (B, T, G, V) over the frames in `mask` (B, T) -> (G, V)."""
    return torch.einsum("bt,btgv->gv", mask.to(values.dtype), values)


def as_part_of_update(own: Tensor, usage: Tensor) -> Tensor:
    """The usage (G, V) of the whole update, with the gradient that this part's `own` usage has in it.

    Let part i have n_i masked frames with mean choice probabilities p_i, and N = sum n_i. The whole update has
    p = sum (n_i / N) p_i, and with the diversity loss D, its loss is N D(p) with the gradient

        N D'(p) sum (n_i / N) dp_i = sum n_i D'(p) dp_i.

    So if part i counts n_i D(p + p_i - constant(p_i)), its values add up to N D(p), and its gradients to the one above.
    """
    return usage.detach().to(own.dtype) + (own - own.detach())
