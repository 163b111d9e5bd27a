"""What the classification heads share: the layer they listen to, and their losses.

Shapes: B batch, T frames, H hidden size, N labels.
"""

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.layer_drop import join_with_zero_gradient
from wav2vec2.modeling.precision import full_precision
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.modeling.wav2vec2_model import Clips, Wav2Vec2Model


class Heard(NamedTuple):
    """What a head works on: features (B, T, H), and how many frames of each clip are real (B,). `shown` are the layers
    and the attention weights that the caller asked for, by the names of the output's fields."""

    features: Tensor
    lengths: Tensor
    shown: dict[str, tuple[Tensor, ...] | None]


class Wav2Vec2Classifier(Wav2Vec2PreTrainedModel):
    """Base of the classification heads: the model, and learned layer weights if the configuration asks for them."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        if self.config.add_adapter:
            raise ValueError(f"add_adapter=True: {type(self).__name__} works on frames, which the adapter merges")
        self.wav2vec2 = Wav2Vec2Model(self.config)
        layers = self.config.num_hidden_layers + 1  # every layer's output, and the input of the first
        if self.config.use_weighted_layer_sum:
            self.layer_weights = nn.Parameter(torch.empty(layers))

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self and self.config.use_weighted_layer_sum:
            init.constant_(self.layer_weights, 1 / len(self.layer_weights))

    def listen(
        self,
        input_values: Clips,
        attention_mask: Tensor | None,
        output_hidden_states: bool | None,
        output_attentions: bool | None,
        clip_seeds: Tensor | None,
    ) -> Heard:
        """Run the model, without gradient where it is held, and take its last layer, or the learned mean of all its
        layers."""
        weighted = self.config.use_weighted_layer_sum
        with torch.no_grad() if self.encoder_held else nullcontext():
            outputs = self.wav2vec2(
                input_values,
                attention_mask=attention_mask,
                output_hidden_states=True if weighted else output_hidden_states,
                output_attentions=output_attentions,
                clip_seeds=clip_seeds,
                return_dict=True,
            )
        features, layers = outputs.last_hidden_state, outputs.hidden_states
        if weighted:
            weights = self.layer_weights.softmax(-1)
            features = weights[0] * layers[0]
            for weight, layer in zip(weights[1:], layers[1:], strict=True):
                features = features + weight * layer
        if self.encoder_held:
            features = join_with_zero_gradient(features, *self.held_parameters())
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        shown = {"hidden_states": layers if wanted else None, "attentions": outputs.attentions}
        return Heard(features, self.frame_lengths(input_values, attention_mask), shown)


def cross_entropy(logits: Tensor, labels: Tensor, num_items: Tensor | int | None) -> Tensor:
    """Mean over the labels (...) of logits (..., N); with `num_items`, the sum divided by that."""
    flat, labels = full_precision(logits).flatten(0, -2), labels.flatten()
    if num_items is None:
        return F.cross_entropy(flat, labels)
    return F.cross_entropy(flat, labels, reduction="sum") / num_items


def sequence_loss(logits: Tensor, labels: Tensor, problem: str | None, num_items: Tensor | int | None) -> Tensor:
    """The loss of logits (B, N): regression for N = 1, several labels (B, N) where they are floats, else one each.

    `num_items` counts the entries of all labels of the update, as `Trainer` does.
    """
    if problem is None and logits.shape[1] > 1 and labels.is_floating_point():
        problem = "multi_label_classification"
    if problem == "regression" or (problem is None and logits.shape[1] == 1):
        wanted = full_precision(labels).view_as(logits)
        losses = F.mse_loss(full_precision(logits), wanted, reduction="none")
    elif problem == "multi_label_classification":
        losses = F.binary_cross_entropy_with_logits(full_precision(logits), full_precision(labels), reduction="none")
    else:
        return cross_entropy(logits, labels, num_items)
    return losses.mean() if num_items is None else losses.sum() / num_items
