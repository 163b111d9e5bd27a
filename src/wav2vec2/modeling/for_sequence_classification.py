"""One label per clip: commands, languages, emotions.

Shapes: B batch, S samples, T frames, P projection size, N labels.
"""

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.classification import Wav2Vec2Classifier, sequence_loss
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.precision import full_precision
from wav2vec2.modeling.wav2vec2_model import Clips


class Wav2Vec2ForSequenceClassification(Wav2Vec2Classifier):
    """The mean over a clip's real frames, and a linear layer."""

    accepts_loss_kwargs = True  # Trainer: the loss is already divided by num_items_in_batch
    fresh_parts = (*Wav2Vec2Classifier.fresh_parts, "projector.", "classifier.", "layer_weights")

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.projector = nn.Linear(self.config.hidden_size, self.config.classifier_proj_size)
        self.classifier = nn.Linear(self.config.classifier_proj_size, self.config.num_labels)
        self.post_init()

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
    ) -> SequenceClassifierOutput:
        """`labels` (B,) are label numbers; `config.problem_type` allows for other tasks."""
        heard = self.listen(input_values, attention_mask, output_hidden_states, output_attentions, clip_seeds)
        projected = self.projector(heard.features)  # (B, T, P)
        logits = self.classifier(mean_over_frames(projected, heard.lengths))
        loss = None
        if labels is not None:
            loss = sequence_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return SequenceClassifierOutput(loss=loss, logits=logits, **heard.shown)


def mean_over_frames(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean of (B, T, P) over the first `lengths` (B,) frames; zero for a clip without frames."""
    real = frames_within(lengths, x.shape[1])[:, :, None]
    wide = full_precision(x).masked_fill(~real, 0.0)  # sums over a long clip do not fit into 16 bits
    return (wide.sum(1) / lengths.clamp(min=1)[:, None]).to(x.dtype)
