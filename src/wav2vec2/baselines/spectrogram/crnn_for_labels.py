"""Labels of whole clips by the CRNN: the mean over its frames and a linear layer, as above the other CNN."""

from torch import nn

from wav2vec2.baselines.spectrogram.crnn import CRNNConfig, CRNNForCTC
from wav2vec2.baselines.spectrogram.spectrogram_model import SpectrogramForLabels


class CRNNForSequenceClassification(SpectrogramForLabels, CRNNForCTC):
    """The network with a layer of labels in the place of its layer of tokens.

    >>> import torch
    >>> model = CRNNForSequenceClassification(CRNNConfig(num_labels=5)).eval()
    >>> model(torch.zeros(1, 16000)).logits.shape
    torch.Size([1, 5])
    """

    config: CRNNConfig
    config_class = CRNNConfig

    def __init__(self, config: CRNNConfig) -> None:
        super().__init__(config)
        del self.lm_head
        self.dropout = nn.Dropout(float(config.dropout))
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()
