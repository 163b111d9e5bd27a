"""What the models return: Transformers' outputs, with what only this package reports at the end."""

from dataclasses import dataclass

from torch import Tensor
from transformers.modeling_outputs import CausalLMOutput, Wav2Vec2BaseModelOutput
from transformers.utils.generic import ModelOutput


@dataclass
class Wav2Vec2ModelOutput(Wav2Vec2BaseModelOutput):
    """Output of the encoder path."""

    #: The convolutions' output (B, T, C), before its layer norm: what the feature penalty is taken of.
    conv_features: Tensor | None = None


@dataclass
class Wav2Vec2ForPreTrainingOutput(ModelOutput):
    """Output of pretraining. Losses are sums over masked frames, so that parts of a batch can be added up.

    Shapes: B batch, T frames, G groups, V entries per group, D size of the comparison space.
    """

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
class Wav2Vec2CTCOutput(CausalLMOutput):
    """Output of CTC."""

    #: Utterances (B,) that were left out of the loss because their text needs more frames than they have.
    dropped: Tensor | None = None
