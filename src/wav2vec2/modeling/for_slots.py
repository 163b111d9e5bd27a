"""What an order asks for: one value of each slot, or none.

    >>> from wav2vec2 import Wav2Vec2Config, Wav2Vec2ForSlots
    >>> labels = ["size=", "size=large", "size=small", "milk=", "milk=soy milk"]
    >>> config = Wav2Vec2Config(num_hidden_layers=1, id2label=dict(enumerate(labels)))
    >>> Wav2Vec2ForSlots(config).slots
    {'size': ['large', 'small'], 'milk': ['soy milk']}

Over the frames of a clip stands one of two heads. With `config.ctc_head="linear"` it is SUPERB's for intents (action,
object, location), and stock's for labels: a projection, its mean over the clip, a linear layer. With "recurrent" it is
for few labels: the recurrent head of recognition, and for each slot a mean of its own, weighted by where in the clip
that slot is said.

Shapes: B batch, S samples, T frames, C width of the frames, K slots, N labels of all slots together.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput, can_return_tuple

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import one_of_every
from wav2vec2.modeling.classification import Wav2Vec2Classifier
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.for_sequence_classification import mean_over_frames
from wav2vec2.modeling.precision import in_full_precision
from wav2vec2.modeling.random_draws import choose_draws
from wav2vec2.modeling.recurrent_head import RecurrentHead
from wav2vec2.modeling.slot_values import SlotValues
from wav2vec2.modeling.wav2vec2_model import Clips


@dataclass
class SlotOutput(ModelOutput):
    """What models for slots return."""

    #: The sum of the slots' cross-entropies; None without labels.
    loss: Tensor | None = None
    #: The logits of all values of all slots (B, N).
    logits: Tensor | None = None
    #: The same by slots, (B, values) each; the first of them is that the slot is not said.
    slot_logits: dict[str, Tensor] | None = None
    #: The layers, where they are asked for.
    hidden_states: tuple[Tensor, ...] | None = None
    #: The attention weights, where they are asked for.
    attentions: tuple[Tensor, ...] | None = None


class AttentiveSlots(nn.Module):
    """Frames (B, T, C) -> logits (B, N): each slot has a mean of its own over the clip."""

    def __init__(self, width: int, values: SlotValues) -> None:
        super().__init__()
        self.attention = nn.Linear(width, len(values.sizes))
        self.classifier = nn.Linear(width, sum(values.sizes))
        self.sizes = values.sizes

    def forward(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """Of each clip the first `lengths` (B,) frames are real; None: all of them."""
        weights = self.attention(frames)  # (B, T, K)
        if lengths is not None:
            weights = weights.masked_fill(~frames_within(lengths, frames.shape[1])[:, :, None], -torch.inf)
        weights = weights.softmax(1).nan_to_num(0.0)  # of a clip without frames
        means = torch.einsum("btk,btc->bkc", weights, frames)
        layers = zip(self.classifier.weight.split(self.sizes), self.classifier.bias.split(self.sizes), strict=True)
        return torch.cat([F.linear(mean, *layer) for mean, layer in zip(means.unbind(1), layers, strict=True)], dim=-1)


class Wav2Vec2ForSlots(Wav2Vec2Classifier):
    """The model with a value for each slot. Its labels are `SlotValues`."""

    accepts_loss_kwargs = True  # Trainer: the loss is already divided by num_items_in_batch
    fresh_parts = (
        *Wav2Vec2Classifier.fresh_parts,
        *("projector.", "classifier.", "layer_weights", "recurrent_head.", "slot_head."),
    )

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        self.values = slot_values_of(config)
        self.recurrent_head: RecurrentHead | None = None
        if config.ctc_head == "recurrent":
            self.recurrent_head = RecurrentHead(config)
            self.slot_head = AttentiveSlots(2 * config.ctc_head_size, self.values)
        else:
            self.projector = nn.Linear(config.hidden_size, config.classifier_proj_size)
            self.classifier = nn.Linear(config.classifier_proj_size, config.num_labels)
        self.post_init()

    @property
    def slots(self) -> dict[str, list[str]]:
        """The slots, and the values that each can have."""
        return self.values.slots

    @can_return_tuple
    def forward(
        self,
        input_values: Clips,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        clip_seeds: Tensor | None = None,
    ) -> SlotOutput:
        """`labels` (B, K) are the numbers of values, 0 for a slot that is not said; `SlotValues.numbers` gives them."""
        heard = self.listen(input_values, attention_mask, output_hidden_states, output_attentions, clip_seeds)
        if self.recurrent_head is None:
            logits = self.classifier(mean_over_frames(self.projector(heard.features), heard.lengths))
        else:
            lengths = heard.lengths.to(heard.features.device)
            draws = choose_draws(None, clip_seeds, heard.features.device)
            frames = self.recurrent_head(heard.features, lengths, draws)
            with in_full_precision(frames):
                logits = self.slot_head(frames, one_of_every(lengths, self.config.ctc_head_stride))
        loss = None if labels is None else self.values.loss(logits, labels, num_items_in_batch)
        return SlotOutput(loss=loss, logits=logits, slot_logits=self.values.of_each(logits), **heard.shown)


def slot_values_of(config: Any) -> SlotValues:
    """What the labels of a configuration are."""
    return SlotValues.of([str(config.id2label[number]) for number in sorted(config.id2label)])
