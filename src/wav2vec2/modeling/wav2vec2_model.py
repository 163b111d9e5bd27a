"""The encoder path of wav2vec 2.0: encode, mask, contextualise.

Shapes: B batch, S samples, T frames, C channels of the feature encoder, H hidden size.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import adapter_output_length, receptive_field
from wav2vec2.modeling.convolutional_adapter import Wav2Vec2Adapter
from wav2vec2.modeling.convolved_clips import ConvolvedClips, EncodedClips, LayeredClips
from wav2vec2.modeling.feature_encoder import Wav2Vec2FeatureEncoder, Wav2Vec2FeatureProjection, frames_within
from wav2vec2.modeling.input_checks import can_be_looked_at, check_frame_mask, check_waveforms, is_exported
from wav2vec2.modeling.layer_drop import join_with_zero_gradient
from wav2vec2.modeling.length_groups import FieldFrames, can_be_cut, joined, length_groups
from wav2vec2.modeling.outputs import Wav2Vec2ModelOutput
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.modeling.random_draws import Draws, choose_draws
from wav2vec2.modeling.span_masking import draw_channel_mask, draw_time_mask
from wav2vec2.modeling.transformer_encoder import Wav2Vec2Encoder


class Frames(NamedTuple):
    """A batch of clips after the convolutions, frame by frame."""

    #: The convolutions' output (B, T, C).
    features: Tensor
    #: Which frames are real (B, T); None if all are.
    mask: Tensor | None
    #: How many frames of each clip are real (B,).
    lengths: Tensor
    #: T, or 0 if the batch is too short for a single frame: T is then 1, since the layers need one to work on.
    num_frames: int

    def trim(self, x: Tensor) -> Tensor:
        """Take away the frame that is there only because the layers need one: (B, T, ...) -> (B, num_frames, ...)."""
        return x if self.num_frames == self.features.shape[1] else x[:, : self.num_frames]

    def fit(self, x: Tensor) -> Tensor:
        """Add that frame to what has none: (B, num_frames, ...) -> (B, T, ...)."""
        missing = self.features.shape[1] - x.shape[1]
        return x if missing == 0 else F.pad(x, [0, 0] * (x.dim() - 2) + [0, missing])


#: A batch of clips before the convolutions, or behind them, or behind the Transformer.
Clips = Tensor | ConvolvedClips


class Wav2Vec2Model(Wav2Vec2PreTrainedModel):
    """Waveforms (B, S), 16 kHz -> context representations (B, T, H), one every 20 ms."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        self.receptive_field = receptive_field(config.conv_kernel, config.conv_stride)
        self.feature_extractor = Wav2Vec2FeatureEncoder(config)
        self.feature_projection = Wav2Vec2FeatureProjection(config)
        self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size))
        self.encoder = Wav2Vec2Encoder(config)
        self.adapter = Wav2Vec2Adapter(config) if config.add_adapter else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.uniform_(self.masked_spec_embed)

    @can_return_tuple
    def forward(
        self,
        input_values: Clips,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        generator: torch.Generator | None = None,
        clip_seeds: Tensor | None = None,
    ) -> Wav2Vec2ModelOutput:
        """`attention_mask` (B, S) marks real samples; frames are of these alone, and come first in every row. Without a
        gradient the batch runs in groups of clips of like length: what stands beyond a clip's frames is then zero.
        `mask_time_indices` (B, T) are frames to mask; without them, training masks by the configuration (SpecAugment):
        from `generator` if given, or each clip by its own seed in `clip_seeds` (B,), whatever it is batched with."""
        if isinstance(input_values, LayeredClips):
            layers = input_values.features.split(self.config.hidden_size, -1)
            return Wav2Vec2ModelOutput(last_hidden_state=layers[-1], hidden_states=layers)
        if isinstance(input_values, EncodedClips):
            return Wav2Vec2ModelOutput(last_hidden_state=input_values.features)
        draws = choose_draws(generator, clip_seeds, input_values.device)
        wanted = (
            _asked(output_hidden_states, self.config.output_hidden_states),
            _asked(output_attentions, self.config.output_attentions),
        )
        waveforms, lengths = self.real_samples(input_values, attention_mask)
        if lengths is not None and mask_time_indices is None and self.cuts_batches(lengths):
            return self.by_length(waveforms, lengths, wanted)
        return self.at_once(waveforms, lengths, wanted, mask_time_indices, draws)

    def cuts_batches(self, like: Tensor) -> bool:
        """Whether the host may wait for what it reads of tensors such as this one, and run a batch in parts."""
        return not self.training and self.config.padding_invariant_norm and can_be_cut(like)

    def by_length(self, waveforms: Clips, lengths: Tensor, wanted: tuple[bool, bool]) -> Wav2Vec2ModelOutput:
        """What `at_once` gives, in groups of clips of like length, and zero beyond the frames of a clip."""
        samples, count_frames = waveforms.shape[1], self._get_feat_extract_output_lengths
        groups = length_groups(lengths, self.receptive_field)
        if len(groups) == 1 and groups[0].width == samples and groups[0].lengths is None:
            return self.at_once(waveforms, None, wanted)
        parts = [
            self.at_once(self.rows_of(waveforms, group.rows, group.width), group.lengths, wanted) for group in groups
        ]
        within = FieldFrames(count_frames(samples, add_adapter=False), count_frames(lengths, add_adapter=False))
        frames = dict.fromkeys(parts[0], within)
        frames["attentions"] = within._replace(total=max(within.total, 1))
        frames["last_hidden_state"] = FieldFrames(count_frames(samples), count_frames(lengths))
        return Wav2Vec2ModelOutput(**joined(groups, parts, frames))

    def rows_of(self, waveforms: Clips, rows: Tensor, samples: int) -> Clips:
        """Some clips (n,) of a batch, and of these so many samples."""
        if isinstance(waveforms, ConvolvedClips):
            return waveforms.part(rows, samples, self._get_feat_extract_output_lengths(samples, add_adapter=False))
        return waveforms[rows, :samples]

    def at_once(
        self,
        waveforms: Clips,
        lengths: Tensor | None,
        wanted: tuple[bool, bool],
        mask_time_indices: Tensor | None = None,
        draws: Draws = None,
    ) -> Wav2Vec2ModelOutput:
        """Waveforms (B, S), of whose samples the first `lengths` (B,) are real, through all of the model."""
        frames = self.convolve(waveforms, lengths)
        hidden_states, normalised = self.feature_projection(frames.features)
        hidden_states = self.mask(hidden_states, frames, mask_time_indices, draws)
        context = self.contextualise(hidden_states, frames, *wanted)
        return Wav2Vec2ModelOutput(
            last_hidden_state=context.last_hidden_state,
            extract_features=frames.trim(normalised),
            hidden_states=context.hidden_states,
            attentions=context.attentions,
            conv_features=frames.trim(frames.features),
        )

    def encode(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Frames:
        """Waveforms (B, S) -> frames. A clip too short for one frame has none, alone or in a batch."""
        return self.convolve(*self.real_samples(input_values, attention_mask))

    def real_samples(self, input_values: Clips, attention_mask: Tensor | None) -> tuple[Clips, Tensor | None]:
        """Waveforms (B, S), and how many of the samples of each are real (B,): those that come first. Without a mask
        it is None, and all are. Where padding counts as in stock, samples stay in their places."""
        if isinstance(input_values, ConvolvedClips):
            return input_values, input_values.lengths
        check_waveforms(input_values, attention_mask)
        if attention_mask is None:
            return input_values, None
        real = attention_mask.bool()
        if self.config.padding_invariant_norm:
            may_look = can_be_looked_at(real) or self.cuts_batches(real)
            input_values, real = real_samples_first(input_values, real, may_look)
        return input_values, real.sum(-1)

    def convolve(self, waveforms: Clips, lengths: Tensor | None) -> Frames:
        """The convolutions: waveforms (B, S), of whose samples the first `lengths` (B,) are real -> frames. Of clips
        that are convolved already, what is known of them."""
        batch, samples = waveforms.shape
        count = self._get_feat_extract_output_lengths(samples, add_adapter=False)
        if isinstance(waveforms, ConvolvedClips):
            features = self.feature_extractor.held(F.pad(waveforms.features, (0, 0, 0, 0 if count else 1)))
        else:
            features = self.convolved(waveforms, lengths if self.config.padding_invariant_norm else None)
        if lengths is None:
            everything = torch.full((batch,), count, device=features.device)
            return Frames(features, None, everything, count)
        lengths = self._get_feat_extract_output_lengths(lengths, add_adapter=False)
        return Frames(features, frames_within(lengths, features.shape[1]), lengths, count)

    def convolved(self, waveforms: Tensor, counted: Tensor | None) -> Tensor:
        """Waveforms (B, S) -> features (B, T, C); what lies beyond the `counted` (B,) samples has no part in them."""
        samples = waveforms.shape[1]
        waveforms = waveforms.to(self.feature_extractor.dtype)
        if counted is not None:
            waveforms = waveforms.masked_fill(~frames_within(counted, samples), 0.0)
        waveforms = F.pad(waveforms, (0, max(self.receptive_field - samples, 0)))
        features: Tensor = self.feature_extractor(waveforms, counted)
        return features.transpose(1, 2)

    def mask(
        self, hidden_states: Tensor, frames: Frames, mask_time_indices: Tensor | None = None, draws: Draws = None
    ) -> Tensor:
        """Replace masked frames of (B, T, H) by the mask embedding, and masked channels by zero."""
        config = self.config
        augment = self.training and config.apply_spec_augment and not config.masks_at_head
        if mask_time_indices is not None:
            check_frame_mask(mask_time_indices, hidden_states.shape[0], frames.num_frames)
            mask = frames.fit(mask_time_indices.bool())
        elif augment and config.mask_time_prob > 0:
            mask = draw_time_mask(config, frames.lengths, frames.features.shape[1], draws)
        else:
            hidden_states = join_with_zero_gradient(hidden_states, self.masked_spec_embed)
            mask = None
        if mask is not None:
            embedding = self.masked_spec_embed.to(hidden_states.dtype)
            hidden_states = torch.where(mask[:, :, None], embedding, hidden_states)
        if augment and config.mask_feature_prob > 0:
            channels = draw_channel_mask(config, hidden_states.shape[0], hidden_states.device, draws)
            hidden_states = hidden_states.masked_fill(channels[:, None, :], 0.0)
        return hidden_states

    def contextualise(
        self,
        hidden_states: Tensor,
        frames: Frames,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> Wav2Vec2ModelOutput:
        """The Transformer, and the adapter if there is one: (B, T, H) -> (B, T, H)."""
        context = self.encoder(hidden_states, frames.mask, output_hidden_states, output_attentions)
        output = frames.trim(context.hidden_states)
        if self.adapter is not None:
            padding_is_silent = frames.mask is not None and self.config.padding_invariant_norm
            lengths = frames.lengths if padding_is_silent else None
            kept = adapter_output_length(frames.num_frames, self.config)
            output = self.adapter(context.hidden_states, lengths)[:, :kept]
        between = context.all_hidden_states
        if between is not None:
            between = tuple(frames.trim(state) for state in between)
        return Wav2Vec2ModelOutput(last_hidden_state=output, hidden_states=between, attentions=context.attentions)


def real_samples_first(input_values: Tensor, real: Tensor, may_look: bool) -> tuple[Tensor, Tensor]:
    """Waveforms and their mask (both (B, S)), with the real samples of every row moved to its beginning, in order.

    So padding on the left, or between samples, is as if it stood on the right. Where the host `may_look`, it moves
    nothing that is in its place; in training on an accelerator it does not wait to find out. An exported program takes
    masks of padding on the right alone.
    """
    if is_exported() or (may_look and bool((real[:, 1:] <= real[:, :-1]).all())):
        return input_values, real
    lengths = real.sum(1, keepdim=True)
    place = torch.where(real, real.cumsum(1) - 1, lengths + (~real).cumsum(1) - 1)
    moved = torch.zeros_like(input_values).scatter(1, place, input_values)
    return moved, torch.arange(real.shape[1], device=real.device) < lengths


def _asked(argument: bool | None, default: bool | None) -> bool:
    return bool(default if argument is None else argument)
