"""One vector per clip that tells speakers apart (x-vectors: Snyder et al. 2018; margin loss: Wang et al. 2018).

Shapes: B batch, S samples, T frames, C channels, N speakers, E embedding size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import XVectorOutput
from transformers.utils.generic import can_return_tuple

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.classification import Wav2Vec2Classifier, cross_entropy
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.precision import full_precision
from wav2vec2.modeling.wav2vec2_model import Clips


class TDNNLayer(nn.Module):
    """A dilated convolution over time, written as the linear layer over its taps that published checkpoints hold.

    The layer is called, not only its weight used, so that quantisation, LoRA and offloading reach it.
    """

    def __init__(self, config: Wav2Vec2Config, index: int) -> None:
        super().__init__()
        channels_in = config.tdnn_dim[max(index - 1, 0)]
        self.kernel_size, self.dilation = config.tdnn_kernel[index], config.tdnn_dilation[index]
        self.kernel = nn.Linear(channels_in * self.kernel_size, config.tdnn_dim[index])
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C_in) -> (B, T - (kernel - 1) * dilation, C)"""
        frames = x.shape[1] - (self.kernel_size - 1) * self.dilation
        starts = range(0, self.kernel_size * self.dilation, self.dilation)
        taps = torch.cat([x[:, start : start + frames] for start in starts], dim=2)
        activated: Tensor = self.activation(self.kernel(taps))
        return activated


class AMSoftmaxLoss(nn.Module):
    """Softmax over scaled cosines, with a margin that the right speaker must win by."""

    def __init__(self, size: int, num_labels: int, scale: float = 30.0, margin: float = 0.4) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(torch.empty(size, num_labels))

    def forward(self, embeddings: Tensor, labels: Tensor, num_items: Tensor | int | None = None) -> Tensor:
        """The loss of embeddings (B, E) for speakers (B,). A speaker of -100 counts for nothing."""
        labels = labels.flatten()
        cosines = F.normalize(embeddings, dim=1) @ F.normalize(self.weight, dim=0)  # (B, N)
        margins = F.one_hot(labels.clamp(min=0), cosines.shape[1]).to(cosines.dtype) * self.margin
        return cross_entropy(self.scale * (cosines - margins), labels, num_items)


class Wav2Vec2ForXVector(Wav2Vec2Classifier):
    """Time-delay layers, mean and standard deviation over a clip's frames, and the embedding."""

    accepts_loss_kwargs = True  # Trainer: the loss is already divided by num_items_in_batch
    fresh_parts = (
        *Wav2Vec2Classifier.fresh_parts,
        "layer_weights",
        "projector.",
        "tdnn.",
        "feature_extractor.",
        "classifier.",
        "objective.",
    )

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        self.projector = nn.Linear(config.hidden_size, config.tdnn_dim[0])
        self.tdnn = nn.ModuleList(TDNNLayer(config, i) for i in range(len(config.tdnn_dim)))
        self.feature_extractor = nn.Linear(config.tdnn_dim[-1] * 2, config.xvector_output_dim)
        self.classifier = nn.Linear(config.xvector_output_dim, config.xvector_output_dim)
        self.objective = AMSoftmaxLoss(config.xvector_output_dim, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AMSoftmaxLoss):
            init.normal_(module.weight)

    def _get_tdnn_output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames left after the time-delay layers, at least one."""
        return (lengths - self.tdnn_context).clamp(min=1)

    @property
    def tdnn_context(self) -> int:
        """Frames that the time-delay layers take away."""
        config = self.config
        return sum((k - 1) * d for k, d in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True))

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
    ) -> XVectorOutput:
        """`labels` (B,) are speaker numbers. A clip too short for the time-delay layers is padded with silence."""
        heard = self.listen(input_values, attention_mask, output_hidden_states, output_attentions, clip_seeds)
        real = frames_within(heard.lengths, heard.features.shape[1])
        x = self.projector(heard.features).masked_fill(~real[:, :, None], 0.0)
        x = F.pad(x, (0, 0, 0, max(self.tdnn_context + 1 - x.shape[1], 0)))
        for layer in self.tdnn:
            x = layer(x)
        embeddings = self.feature_extractor(pool_statistics(x, self._get_tdnn_output_lengths(heard.lengths)))
        logits = self.classifier(embeddings)
        loss = None if labels is None else self.objective(logits, labels, num_items_in_batch)
        return XVectorOutput(loss=loss, logits=logits, embeddings=embeddings, **heard.shown)


def pool_statistics(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean and standard deviation of (B, T, C) over the first `lengths` (B,) frames: (B, 2 C)."""
    real = frames_within(lengths, x.shape[1])[:, :, None]
    dtype, x = x.dtype, full_precision(x)  # sums over a long clip do not fit into 16 bits
    count = lengths[:, None]
    mean = x.masked_fill(~real, 0.0).sum(1) / count
    centred = (x - mean[:, None]).masked_fill(~real, 0.0)
    variance = centred.square().sum(1) / (count - 1).clamp(min=1)
    varies = variance > 0  # the root has no gradient at zero
    deviation = variance.masked_fill(~varies, 1.0).sqrt().masked_fill(~varies, 0.0)
    return torch.cat([mean, deviation], dim=-1).to(dtype)
