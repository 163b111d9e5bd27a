"""The part of a model whose output of a clip is the same in every update, so that a run may compute it once.

Shapes: S samples, T frames, C channels.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.training.settings.run_config import FinetuneRun, Run, SupervisedRun


@dataclass(frozen=True)
class HeldPart:
    """The convolutions, or these and the Transformer: its output, or that of each of its layers."""

    #: What a batch calls its output.
    name: str
    #: The output, in a sentence.
    output: str
    #: Whether the Transformer belongs to it.
    whole: bool
    #: Whether its output is that of each layer, side by side.
    layers: bool = False

    def channels(self, config: Wav2Vec2Config) -> int:
        """Width of its output."""
        if not self.whole:
            return int(config.conv_dim[-1])
        return config.hidden_size * (config.num_hidden_layers + 1 if self.layers else 1)

    def __call__(self, model: Any, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Waveforms (B, S), of whose samples the first `lengths` (B,) are real -> (B, T, C)."""
        if self.layers:
            return torch.cat(model.at_once(waveforms, lengths, (True, False)).hidden_states, -1)
        if self.whole:
            encoded: Tensor = model.at_once(waveforms, lengths, (False, False)).last_hidden_state
            return encoded
        features: Tensor = model.convolve(waveforms, lengths).features
        return features


CONVOLUTIONS = HeldPart("features", "the convolutions' output", whole=False)
ENCODER = HeldPart("context", "the Transformer's output", whole=True)
LAYERS = HeldPart("layers", "the output of each layer of the Transformer", whole=True, layers=True)


def reason_against_convolutions(model: Wav2Vec2PreTrainedModel) -> str | None:
    """Why the convolutions' output of a clip is not always the same; None if it is."""
    config, encoder = model.config, model.base_model.feature_extractor
    if config.feature_grad_mult != 0 and any(parameter.requires_grad for parameter in encoder.parameters()):
        return f"the convolutions are trained (model.config.feature_grad_mult={config.feature_grad_mult:g})"
    if not config.padding_invariant_norm and config.feat_extract_norm == "group":
        return "a clip's features depend on what it is padded to (model.config.padding_invariant_norm=false)"
    return None


def reason_against_encoder(run: Run, config: Wav2Vec2Config) -> str | None:
    """Why the Transformer's output of a clip is not always the same, or not all that a head hears of; None if it is."""
    if not isinstance(run, SupervisedRun) or run.tuning.freeze_updates is not None or run.tuning.method != "full":
        return "it is trained"
    if isinstance(run, FinetuneRun) and run.streaming is not None:
        return "its attention is in chunks that are drawn (streaming)"
    if config.add_adapter:
        return "the convolutional adapter is behind it (model.config.add_adapter=true)"
    if not config.padding_invariant_norm:
        return "it depends on what a clip is padded to (model.config.padding_invariant_norm=false)"
    masks = config.mask_time_prob > 0 or config.mask_feature_prob > 0
    if config.apply_spec_augment and masks and not config.masks_at_head:
        return "masks are drawn before it (model.config.ctc_head_masks=false)"
    for name in ("feat_proj_dropout", "hidden_dropout", "attention_dropout", "activation_dropout", "layerdrop"):
        if getattr(config, name) > 0:
            return f"dropout is drawn in it (model.config.{name}={getattr(config, name):g})"
    return None
