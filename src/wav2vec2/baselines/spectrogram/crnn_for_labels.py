"""Labels of whole clips by the CRNN: the mean over its frames and a linear layer, as above the depthwise-separable CNN.

Shapes: B batch, S samples, W windows, M bands, N labels.
"""

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from wav2vec2.baselines.spectrogram.crnn import CRNNConfig, CRNNForCTC
from wav2vec2.configuration.frame_arithmetic import one_of_every
from wav2vec2.modeling.classification import sequence_loss
from wav2vec2.modeling.for_sequence_classification import mean_over_frames
from wav2vec2.modeling.precision import in_full_precision


class CRNNForSequenceClassification(CRNNForCTC):
    """The network with a layer of labels in the place of its layer of tokens.

    >>> import torch
    >>> model = CRNNForSequenceClassification(CRNNConfig(num_labels=5)).eval()
    >>> model(torch.zeros(1, 16000)).logits.shape
    torch.Size([1, 5])
    """

    fresh_parts = ("classifier.",)

    def __init__(self, config: CRNNConfig) -> None:
        super().__init__(config)
        del self.lm_head
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        clip_seeds: Tensor | None = None,
        input_features: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """`labels` (B,) are label numbers; `config.problem_type` allows for other tasks."""
        energies, lengths = self.hear(input_values, attention_mask, input_features, clip_seeds)
        with in_full_precision(energies):  # a small network, which adds up along a whole clip
            frames = self.encode(energies, lengths)
            if lengths is None:
                clips = frames.mean(1)
            else:
                clips = mean_over_frames(frames, one_of_every(lengths, self.config.frame_stride))
            logits = self.classifier(clips)
        loss = None
        if labels is not None:
            loss = sequence_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return SequenceClassifierOutput(loss=loss, logits=logits)
