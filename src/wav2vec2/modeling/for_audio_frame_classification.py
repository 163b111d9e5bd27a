"""Labels per frame: who speaks when, voice activity.

Shapes: B batch, S samples, T frames, N labels.
"""

from torch import Tensor, nn
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.utils.generic import can_return_tuple

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.classification import Wav2Vec2Classifier, cross_entropy
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.wav2vec2_model import Clips


class Wav2Vec2ForAudioFrameClassification(Wav2Vec2Classifier):
    """A linear layer on every frame."""

    accepts_loss_kwargs = False  # labels are one-hot: Trainer's count of them is not that of frames
    fresh_parts = (*Wav2Vec2Classifier.fresh_parts, "classifier.", "layer_weights")

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.num_labels = self.config.num_labels
        self.classifier = nn.Linear(self.config.hidden_size, self.config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Clips,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        clip_seeds: Tensor | None = None,
    ) -> TokenClassifierOutput:
        """`labels` (B, T, N) are one-hot, as in stock Transformers; the loss is the mean over real frames."""
        heard = self.listen(input_values, attention_mask, output_hidden_states, output_attentions, clip_seeds)
        logits = self.classifier(heard.features)
        loss = None
        if labels is not None:
            if labels.shape != logits.shape:
                raise ValueError(
                    f"labels have shape {tuple(labels.shape)}: must be {tuple(logits.shape)}, one-hot for every frame"
                )
            real = frames_within(heard.lengths, logits.shape[1])
            target = labels.argmax(-1).masked_fill(~real, -100)
            loss = cross_entropy(logits, target, real.sum().clamp(min=1))
        return TokenClassifierOutput(loss=loss, logits=logits, **heard.shown)
