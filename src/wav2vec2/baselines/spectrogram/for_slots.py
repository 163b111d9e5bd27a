"""Slots of whole clips by networks on log-mel energies, beside `Wav2Vec2ForSlots`: the same head above their frames.

Shapes: B batch, S samples, W windows, M bands, T frames, K slots, N labels of all slots together.
"""

from typing import Any

from torch import Tensor
from transformers.utils.generic import can_return_tuple

from wav2vec2.baselines.spectrogram.crnn import CRNNConfig, CRNNForCTC
from wav2vec2.baselines.spectrogram.depthwise_cnn import DepthwiseCNNConfig, DepthwiseCNNForSequenceClassification
from wav2vec2.baselines.spectrogram.spectrogram_model import SpectrogramModel
from wav2vec2.modeling.for_slots import AttentiveSlots, SlotOutput, slot_values_of
from wav2vec2.modeling.precision import in_full_precision


class SpectrogramForSlots(SpectrogramModel):
    """What both networks do with their `frames`."""

    fresh_parts = ("slot_head.",)

    def put_head_on(self, width: int) -> None:
        """A head above frames of this width."""
        self.values = slot_values_of(self.config)
        self.slot_head = AttentiveSlots(width, self.values)

    @property
    def slots(self) -> dict[str, list[str]]:
        """The slots, and the values that each can have."""
        return self.values.slots

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        clip_seeds: Tensor | None = None,
        input_features: Tensor | None = None,
    ) -> SlotOutput:
        """As of `Wav2Vec2ForSlots`."""
        heard: Any = self.hear(input_values, attention_mask, input_features, clip_seeds)
        with in_full_precision(heard.energies):
            logits = self.slot_head(*self.frames(heard.energies, heard.lengths))
        loss = None if labels is None else self.values.loss(logits, labels, num_items_in_batch)
        return SlotOutput(loss=loss, logits=logits, slot_logits=self.values.of_each(logits))


class CRNNForSlots(SpectrogramForSlots, CRNNForCTC):
    """The CRNN, whose frames are those it writes text from."""

    config: CRNNConfig
    config_class = CRNNConfig

    def __init__(self, config: CRNNConfig) -> None:
        super().__init__(config)
        del self.lm_head
        self.put_head_on(2 * config.hidden_size)
        self.post_init()


class DepthwiseCNNForSlots(SpectrogramForSlots, DepthwiseCNNForSequenceClassification):
    """The CNN, whose frames are the means over its bands."""

    config: DepthwiseCNNConfig
    config_class = DepthwiseCNNConfig

    def __init__(self, config: DepthwiseCNNConfig) -> None:
        super().__init__(config)
        del self.classifier
        self.put_head_on(config.layer_channels[-1])
        self.post_init()

    def frames(self, energies: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What its convolutions give, and dropout."""
        found, lengths = DepthwiseCNNForSequenceClassification.frames(self, energies, lengths)
        return self.dropout(found), lengths
