"""What networks on log-mel energies have in common: loading, first weights, hearing a clip, and the heads for text
and for labels.

A clip gives the same alone and in a padded batch (but for batch norm in training, `batch_norm.py`): the energies are
taken relative to those of the clip's own frames, and what lies beyond a clip's end is set to zero after every layer.
Without a mask all is real, and no layer looks for an end.

Shapes: B batch, S samples, W windows, M bands, T frames, V tokens, U labels, D width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from wav2vec2.baselines.baseline_model import BaselineModel
from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramConfig, SpectrogramCTCConfig
from wav2vec2.configuration.frame_arithmetic import Length, conv_output_length, one_of_every
from wav2vec2.modeling.classification import sequence_loss
from wav2vec2.modeling.ctc_loss import ctc_loss
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.for_ctc import blank_beyond
from wav2vec2.modeling.for_sequence_classification import mean_over_frames
from wav2vec2.modeling.input_checks import check_labels, check_waveforms
from wav2vec2.modeling.log_mel import LogMelEnergies
from wav2vec2.modeling.outputs import Wav2Vec2CTCOutput
from wav2vec2.modeling.precision import in_full_precision
from wav2vec2.modeling.random_draws import Draws, Purpose, choose_draws, for_purpose, uniform


class Heard(NamedTuple):
    """The log-mel energies of a batch (B, W, M), and how many windows of each clip are real (B,); None: all are."""

    energies: Tensor
    lengths: Tensor | None


class SpectrogramModel(BaselineModel):
    """A network on log-mel energies. It takes waveforms, as all models of this package, or as `input_features` what
    `LogMelFeatureExtractor` has made of them."""

    config: SpectrogramConfig
    config_class = SpectrogramConfig
    base_model_prefix = "network"
    accepts_loss_kwargs = True  # Trainer: the loss is already divided by num_items_in_batch

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__(config)
        self.log_mel = LogMelEnergies(
            config.window_length,
            config.hop_length,
            config.num_mel_bins,
            config.lowest_hertz,
            config.highest_hertz,
            config.band_by_band,
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As torch begins every layer. (What has been loaded is marked, and these functions leave it as it is; a batch
        norm's own would not.)"""
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                init.ones_(tensor)
            for tensor in (module.bias, module.running_mean, module.num_batches_tracked):
                init.zeros_(tensor)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()

    def start_afresh(self) -> None:
        """Initialise all weights anew, layer by layer in the order in which they are computed."""
        for module in self.modules():
            self._init_weights(module)

    def _get_feat_extract_output_lengths(self, input_lengths: Length) -> Length:
        """Frames that clips of `input_lengths` samples have."""
        return conv_output_length(input_lengths, self.config.conv_kernel, self.config.conv_stride)

    def frame_lengths(self, input_values: Tensor, attention_mask: Tensor | None) -> Tensor:
        """How many real frames each clip (B, S) has: (B,)."""
        check_waveforms(input_values, attention_mask)
        if attention_mask is None:
            count = self._get_feat_extract_output_lengths(input_values.shape[1])
            return torch.full((len(input_values),), count, device=input_values.device)
        return self._get_feat_extract_output_lengths(attention_mask.long().sum(-1))

    def hear(
        self,
        input_values: Tensor | None,
        attention_mask: Tensor | None,
        input_features: Tensor | None,
        clip_seeds: Tensor | None,
    ) -> Heard:
        """The energies of waveforms (B, S), or `input_features` (B, W, M), with the masks of training, drawn for each
        clip from its seed (B,) if it has one. `attention_mask` marks real samples, or real windows."""
        if (input_values is None) == (input_features is None):
            raise ValueError("give waveforms (input_values) or their log-mel energies (input_features)")
        if input_values is not None:
            heard = self._of_waveforms(input_values, attention_mask)
        else:
            assert input_features is not None
            lengths = None if attention_mask is None else attention_mask.long().sum(-1)
            heard = Heard(input_features, lengths)
        energies = heard.energies.to(self.dtype)
        if self.training:
            draws = choose_draws(None, clip_seeds, energies.device)
            energies = energies.masked_fill(self.draw_masks(energies, heard.lengths, draws), 0.0)  # 0 is the mean
        return heard._replace(energies=energies)

    def _of_waveforms(self, input_values: Tensor, attention_mask: Tensor | None) -> Heard:
        check_waveforms(input_values, attention_mask)
        batch, size = input_values.shape
        samples = torch.full((batch,), size, device=input_values.device)
        if attention_mask is not None:
            samples = attention_mask.long().sum(-1)
        windows = conv_output_length(samples, (self.config.window_length,), (self.config.hop_length,))
        return Heard(self.log_mel(input_values, samples, windows), None if attention_mask is None else windows)

    def draw_masks(self, energies: Tensor, lengths: Tensor | None, draws: Draws) -> Tensor:
        """Which energies (B, W, M) are masked: spans of frames and of bands."""
        batch, windows, bands = energies.shape
        config, device = self.config, energies.device
        within = torch.full((batch,), windows, device=device) if lengths is None else lengths
        whole = torch.full((batch,), bands, device=device)
        count, width = config.time_masks, config.time_mask_width
        in_time = draw_spans(within, windows, count, width, for_purpose(draws, Purpose.TIME_MASK))
        count, width = config.band_masks, config.band_mask_width
        in_bands = draw_spans(whole, bands, count, width, for_purpose(draws, Purpose.CHANNEL_MASK))
        return in_time[:, :, None] | in_bands[:, None, :]

    def frames(self, energies: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What heads of labels and of slots stand above: energies (B, W, M) and their real windows (B,) -> (B, T, D)
        and its real frames (B,); None: all are."""
        raise NotImplementedError

    # --- What the training loop calls; it calls the same of wav2vec 2.0, which has a body to hold ---

    def set_update(self, update: int, seed: int = 0) -> None:
        """Nothing here depends on the update."""

    def hold_encoder(self, held: bool = True) -> None:
        """There is no pretrained body under the head."""
        if held:
            raise ValueError(f"{type(self).__name__} has no pretrained body to be held: tuning.freeze_updates=0")

    def held_parameters(self) -> list[nn.Parameter]:
        """None is held."""
        return []


class SpectrogramForLabels(SpectrogramModel):
    """A network that gives whole clips labels: the mean over its `frames`, `dropout`, and a linear layer, the
    `classifier`."""

    fresh_parts = ("classifier.",)

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
        heard = self.hear(input_values, attention_mask, input_features, clip_seeds)
        with in_full_precision(heard.energies):  # small networks, which add up along a whole clip
            frames, lengths = self.frames(heard.energies, heard.lengths)
            clips = frames.mean(1) if lengths is None else mean_over_frames(frames, lengths)
            logits = self.classifier(self.dropout(clips))
        loss = None
        if labels is not None:
            loss = sequence_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class SpectrogramForCTC(SpectrogramModel):
    """A network that writes text: `encode` is its own, a linear layer over the vocabulary follows. The blank is
    `config.pad_token_id`."""

    config: SpectrogramCTCConfig
    fresh_parts = ("lm_head.",)

    def encode(self, energies: Tensor, lengths: Tensor | None) -> Tensor:
        """Energies (B, W, M), of which the first `lengths` (B,) windows are real (None: all) -> (B, T, D)."""
        raise NotImplementedError

    def head(self, width: int) -> nn.Linear:
        """The layer of the tokens above frames of this width."""
        config = self.config
        if config.vocab_size is None or config.pad_token_id not in range(config.vocab_size):
            raise ValueError(
                f"vocab_size={config.vocab_size}, pad_token_id={config.pad_token_id}: CTC needs the number of tokens, "
                "and the blank must be one of them"
            )
        return nn.Linear(width, config.vocab_size)

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        clip_seeds: Tensor | None = None,
        input_features: Tensor | None = None,
    ) -> Wav2Vec2CTCOutput:
        """`labels` (B, U) are padded with -100. `num_items_in_batch` as of `Wav2Vec2ForCTC`, and as there, outside of
        training frames beyond a clip's own are blanks in the logits (B, T, V)."""
        config, blank = self.config, int(self.config.pad_token_id or 0)
        heard = self.hear(input_values, attention_mask, input_features, clip_seeds)
        with in_full_precision(heard.energies):  # small networks, which add up along a whole clip
            logits = self.lm_head(self.encode(heard.energies, heard.lengths))
        if input_values is not None:  # of a batch too short for a window there is one all the same
            logits = logits[:, : self._get_feat_extract_output_lengths(input_values.shape[1])]
        lengths = heard.lengths
        if lengths is None:
            lengths = torch.full((len(logits),), logits.shape[1], device=logits.device)
        else:
            lengths = one_of_every(lengths, config.frame_stride)
        loss = dropped = blank_labels = None
        if labels is not None:
            blank_labels = check_labels(labels, int(config.vocab_size or 0), blank, len(logits))
            rules = (config.ctc_loss_reduction, config.ctc_zero_infinity, config.ctc_drop_infeasible)
            loss, dropped = ctc_loss(logits, labels.to(logits.device), lengths, blank, *rules, num_items_in_batch)
        if attention_mask is not None and not self.training:
            logits = blank_beyond(logits, lengths, blank)
        return Wav2Vec2CTCOutput(loss=loss, logits=logits, dropped=dropped, blank_labels=blank_labels)


def draw_spans(lengths: Tensor, total: int, count: int, width: int, draws: Draws) -> Tensor:
    """`count` spans of 0 to `width` - 1 places for each clip, anywhere within its first `lengths` (B,) places:
    (B, total)."""
    place = torch.arange(total, device=lengths.device)
    masked = torch.zeros(len(lengths), total, dtype=torch.bool, device=lengths.device)
    for _ in range(count):
        numbers = uniform(len(lengths), 2, device=lengths.device, draws=draws)
        wide = (numbers[:, 0] * width).long().minimum(lengths)
        first = (numbers[:, 1] * (lengths - wide + 1)).long()
        masked |= (place >= first[:, None]) & (place < (first + wide)[:, None])
    return masked


def zero_beyond(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (B, C, T, ...) with zeros from place `lengths` (B,) of T on; as it is where all is real."""
    if lengths is None:
        return x
    real = frames_within(lengths, x.shape[2])
    return x.masked_fill(~real.view(real.shape[0], 1, -1, *[1] * (x.dim() - 3)), 0.0)


def through_clips(layer: nn.RNNBase, x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (B, T, D) through recurrent layers, whose way back begins at each clip's own end. Beyond it there is zero."""
    if lengths is None:
        states: Tensor = layer(x)[0]
        return states
    packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    padded: Tensor = pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]
    return padded


def in_groups(x: Tensor, size: int) -> Tensor:
    """x (B, T, D) with `size` frames side by side, the last ones with zeros: (B, T / size rounded up, size D)."""
    x = F.pad(x, (0, 0, 0, -x.shape[1] % size))
    return x.reshape(x.shape[0], -1, size * x.shape[2])
