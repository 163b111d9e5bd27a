"""What the models return: Transformers' outputs, and what only this package reports, which comes by name alone."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from transformers.modeling_outputs import CausalLMOutput, Wav2Vec2BaseModelOutput
from transformers.utils.generic import ModelOutput


class StockTuple:
    """A model output whose tuple (`return_dict=False`, `output[0]`, a slice) is that of stock Transformers, position by
    position."""

    #: Fields that the output of stock Transformers does not have.
    by_name_only: ClassVar[tuple[str, ...]] = ()

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that the output of stock Transformers has, in its order."""
        output: Any = self
        return tuple(output[name] for name in output if name not in self.by_name_only)


@dataclass
class Wav2Vec2ModelOutput(StockTuple, Wav2Vec2BaseModelOutput):
    """What the model without a head returns."""

    by_name_only = ("conv_features",)

    #: The convolutions' output (B, T, C), before its layer norm: what the feature penalty is taken of.
    conv_features: Tensor | None = None


@dataclass
class Wav2Vec2ForPreTrainingOutput(StockTuple, ModelOutput):
    """What pretraining returns. Losses are sums over masked frames, so that parts of a batch can be added up.

    Shapes: B batch, T frames, G groups, V entries per group, D size of the comparison space.
    """

    by_name_only = (
        "feature_penalty",
        "accuracy",
        "code_perplexity",
        "positive_negative_share",
        "num_masked",
        "code_counts",
        "num_frames",
    )

    #: contrastive + diversity_loss_weight * diversity + feature_penalty_weight * feature_penalty
    loss: Tensor | None = None
    #: Predictions (B, T, D).
    projected_states: Tensor | None = None
    #: Targets (B, T, D).
    projected_quantized_states: Tensor | None = None
    #: Perplexity of the soft choice, summed over groups: the one in the diversity loss.
    codevector_perplexity: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    contrastive_loss: Tensor | None = None
    diversity_loss: Tensor | None = None
    #: Mean square of the convolutions' output, times the number of masked frames.
    feature_penalty: Tensor | None = None
    #: Share of masked frames whose target beats every distractor.
    accuracy: Tensor | None = None
    #: Perplexity of the most likely codes (G,): near 1 in a group that has collapsed.
    code_perplexity: Tensor | None = None
    #: Share of distractors that are the target itself: near 1 when the codebooks have collapsed.
    positive_negative_share: Tensor | None = None
    #: Number of masked frames: what to divide the losses by.
    num_masked: Tensor | None = None
    #: How many masked frames find each code the most likely one (G, V): summed over parts, the usage of all.
    code_counts: Tensor | None = None
    #: Number of real frames.
    num_frames: Tensor | None = None


@dataclass
class Wav2Vec2CTCOutput(StockTuple, CausalLMOutput):
    """What a model with a CTC head returns."""

    by_name_only = ("dropped", "blank_labels")

    #: Utterances (B,) that were left out of the loss because their text needs more frames than they have.
    dropped: Tensor | None = None
    #: How many labels () were the blank and so no part of the loss.
    blank_labels: Tensor | None = None
