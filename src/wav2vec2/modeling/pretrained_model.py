"""What all wav2vec 2.0 models share: loading, initialisation, frame arithmetic, freezing, the training clock."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import Length, output_length
from wav2vec2.files.shipped_checkpoints import located
from wav2vec2.modeling.attention_in_chunks import Chunks
from wav2vec2.modeling.convolved_clips import ConvolvedClips
from wav2vec2.modeling.feature_encoder import Wav2Vec2FeatureEncoder, frames_within
from wav2vec2.modeling.initialization import initialize
from wav2vec2.modeling.input_checks import check_waveforms
from wav2vec2.modeling.layer_drop import LayerDrop
from wav2vec2.modeling.loading import Source, load_checked
from wav2vec2.modeling.transformer_encoder import Wav2Vec2Encoder


class Wav2Vec2PreTrainedModel(PreTrainedModel):
    """Base of all models. Checkpoints are interchangeable with stock Transformers in both directions."""

    config: Wav2Vec2Config
    config_class = Wav2Vec2Config
    base_model_prefix = "wav2vec2"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Wav2Vec2EncoderLayer"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True

    #: Names or prefixes of parameters that a checkpoint need not have; see `wav2vec2.modeling.loading`.
    fresh_parts: tuple[str, ...] = (".adapter_layer.",)

    #: Whether only the head learns; see `hold_encoder`.
    encoder_held = False

    def __init__(self, config: Wav2Vec2Config, *inputs: Any, **kwargs: Any) -> None:
        config = with_own_fields(config)
        config.check()
        super().__init__(config, *inputs, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Source, *model_args: Any, **kwargs: Any) -> Any:
        """As in stock Transformers, and by the short name of a model that comes with the package. Raises
        `CheckpointError` for a damaged file and for a tensor that is missing or misshapen; logs the parts that start
        afresh and the tensors that this model does not use."""
        if model_args:
            raise TypeError("from_pretrained takes keywords after the name")
        with_info = kwargs.pop("output_loading_info", False)
        if kwargs.get("config") is not None and not isinstance(kwargs["config"], str):
            kwargs["config"] = with_own_fields(kwargs["config"])
        source = located(pretrained_model_name_or_path)
        model, info = load_checked(super().from_pretrained, source, cls.fresh_parts, **kwargs)
        return (model, info) if with_info else model

    def get_input_embeddings(self) -> None:
        """Audio has no embedding table. (PEFT and quantisers ask, and the method that is inherited raises an error.)"""
        return

    def get_output_embeddings(self) -> None:
        """There are no embeddings of tokens either: a CTC head is a layer as any other, and may be quantised as one."""
        return

    def _init_weights(self, module: nn.Module) -> None:
        initialize(module, self.config.initializer_range)

    def start_afresh(self, part: nn.Module) -> None:
        """Initialise a part of the model anew, whatever was loaded into it."""
        for module in part.modules():
            for parameter in module.parameters(recurse=False):
                setattr(parameter, "_is_hf_initialized", False)  # noqa: B010 (no such attribute is declared)
            self._init_weights(module)

    def _get_feat_extract_output_lengths(self, input_lengths: Length, add_adapter: bool | None = None) -> Length:
        """Frames that clips of `input_lengths` samples have, after the adapter if there is one."""
        return output_length(input_lengths, self.config, add_adapter)

    def _get_feature_vector_attention_mask(
        self, feature_vector_length: int, attention_mask: Tensor, add_adapter: bool | None = None
    ) -> Tensor:
        """The real frames (B, T), from the real samples (B, S)."""
        lengths = self._get_feat_extract_output_lengths(attention_mask.long().sum(-1), add_adapter)
        return frames_within(lengths, feature_vector_length)

    def frame_lengths(self, input_values: Tensor | ConvolvedClips, attention_mask: Tensor | None) -> Tensor:
        """How many real output frames each clip (B, S) has: (B,)."""
        if isinstance(input_values, ConvolvedClips):
            return self._get_feat_extract_output_lengths(input_values.lengths)
        check_waveforms(input_values, attention_mask)
        batch, samples = input_values.shape
        if attention_mask is None:
            count = self._get_feat_extract_output_lengths(samples)
            return torch.full((batch,), count, device=input_values.device)
        return self._get_feat_extract_output_lengths(attention_mask.long().sum(-1))

    def freeze_feature_encoder(self) -> None:
        """Exclude the convolutions of the feature encoder from training."""
        for module in self.modules():
            if isinstance(module, Wav2Vec2FeatureEncoder):
                module.freeze()

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """What `DistributedDataParallel` leaves alone when it wraps the model: the convolutions if the configuration
        gives them no gradient. Otherwise it would write zeros where there is none, and weight decay would move them.
        They are not sent round at the start either, so all processes must hold the same, as from a checkpoint."""
        if self.config.feature_grad_mult != 0:
            return []
        encoders = [name for name, module in self.named_modules() if isinstance(module, Wav2Vec2FeatureEncoder)]
        return [name for name, _ in self.named_parameters() if name.startswith(tuple(f"{e}." for e in encoders))]

    def freeze_base_model(self) -> None:
        """Exclude everything but the head from training."""
        for parameter in self.base_model.parameters():
            parameter.requires_grad = False

    def hold_encoder(self, held: bool = True) -> None:
        """Train the head alone for now: the encoder runs without gradient, in training mode, with dropout and masks.

        fairseq does so for the first updates (paper, section 4.3): a head that knows nothing yet would spoil the
        encoder. Nothing is frozen for good, so optimizer and wrappers hold the same parameters before and after.
        """
        self.encoder_held = held

    def held_parameters(self) -> list[nn.Parameter]:
        """What would be trained if the encoder were not held. In the graph they stand with a gradient of zero, for
        which distributed wrappers wait; an optimizer that is not to touch them must be given none."""
        return [one for one in self.base_model.parameters() if one.requires_grad] if self.encoder_held else []

    def set_update(self, update: int, seed: int = 0) -> None:
        """Tell the model which update comes next. LayerDrop then follows from (seed, update) alone, equal on all
        processes and in all micro-batches, and in pretraining the Gumbel temperature follows its schedule."""
        if update < 0:
            raise ValueError(f"update={update}: must be at least 0")
        for module in self.modules():
            if isinstance(module, LayerDrop):
                module.pin(seed, update)

    def see_in_training(self, chunks: Chunks | None) -> None:
        """Let frames see so much in training from now on, whatever the configuration says; None: what it says."""
        for module in self.modules():
            if isinstance(module, Wav2Vec2Encoder):
                module.drawn_chunks = chunks


def with_own_fields(config: PreTrainedConfig) -> Wav2Vec2Config:
    """The configuration as one of this package; one of stock Transformers is taken over field by field."""
    if isinstance(config, Wav2Vec2Config):
        return config
    if getattr(config, "model_type", None) != "wav2vec2":
        raise TypeError(f"{type(config).__name__}: must be a configuration of wav2vec 2.0 (model_type 'wav2vec2')")
    own = Wav2Vec2Config.from_dict(config.to_dict())
    own._attn_implementation = config._attn_implementation
    own.name_or_path = config.name_or_path
    return own
