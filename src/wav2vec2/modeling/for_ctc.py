"""Speech recognition: one score per frame and token, trained with CTC.

Shapes: B batch, S samples, T frames, V tokens, U labels.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import can_return_tuple

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import Length, logits_length
from wav2vec2.files.hub_files import hub_options
from wav2vec2.modeling.ctc_loss import ctc_loss
from wav2vec2.modeling.dropout import Dropout
from wav2vec2.modeling.feature_encoder import frames_within
from wav2vec2.modeling.input_checks import check_labels
from wav2vec2.modeling.language_adapters import LanguageSwitch
from wav2vec2.modeling.layer_drop import join_with_zero_gradient
from wav2vec2.modeling.loading import CheckpointError, Source
from wav2vec2.modeling.outputs import Wav2Vec2CTCOutput
from wav2vec2.modeling.random_draws import choose_draws
from wav2vec2.modeling.recurrent_head import RecurrentHead
from wav2vec2.modeling.wav2vec2_model import Clips, Wav2Vec2Model

#: The logit of a token that is ruled out, beside a blank of 0: its probability is 0 in every dtype, and half precision
#: can still hold it.
_IMPOSSIBLE = -1e4


class Wav2Vec2ForCTC(LanguageSwitch):
    """The model with a linear layer over its vocabulary, or by `config.ctc_head` with recurrent layers before it. The
    blank is `config.pad_token_id`."""

    accepts_loss_kwargs = True  # Trainer: the loss is already divided by num_items_in_batch
    fresh_parts = (*LanguageSwitch.fresh_parts, "lm_head.", "recurrent_head.")

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        vocab_size, _ = vocabulary(config)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout = Dropout(config.final_dropout)
        self.recurrent_head = RecurrentHead(config) if config.ctc_head == "recurrent" else None
        self.lm_head = nn.Linear(head_inputs(config), vocab_size)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Source, *model_args: Any, **kwargs: Any) -> Any:
        """As for every model; `target_lang` also switches to that language's adapter and head."""
        language = kwargs.pop("target_lang", None)
        with_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
        )
        _refuse_half_a_head(pretrained_model_name_or_path, info)
        if language is not None:
            model.set_language(language, **hub_options(kwargs))
        return (model, info) if with_info else model

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
    ) -> Wav2Vec2CTCOutput:
        """`labels` (B, U) are padded with -100. `num_items_in_batch` is the number of labels in the whole update; the
        loss is then the sum divided by it. Outside of training, frames beyond a clip's own are blanks in the logits, so
        that whoever decodes whole rows of a batch gets the text of each clip."""
        config, blank_labels = self.config, None
        vocab_size, blank = vocabulary(config)
        if labels is not None:
            blank_labels = check_labels(labels, vocab_size, blank, len(input_values))
        with torch.no_grad() if self.encoder_held else nullcontext():
            outputs = self.wav2vec2(
                input_values,
                attention_mask=attention_mask,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
                clip_seeds=clip_seeds,
                return_dict=True,
            )
        context = outputs.last_hidden_state
        if self.encoder_held:
            context = join_with_zero_gradient(context, *self.held_parameters())
        logits = self.lm_head(self.heard(context, input_values, attention_mask, clip_seeds))
        lengths = self.frame_lengths(input_values, attention_mask).to(logits.device)
        loss = dropped = None
        if labels is not None:
            rules = (config.ctc_loss_reduction, config.ctc_zero_infinity, config.ctc_drop_infeasible)
            loss, dropped = ctc_loss(logits, labels.to(logits.device), lengths, blank, *rules, num_items_in_batch)
        may_be_padded = attention_mask is not None or not isinstance(input_values, Tensor)
        if may_be_padded and not self.training and config.padding_invariant_norm:
            logits = blank_beyond(logits, lengths, blank)
        return Wav2Vec2CTCOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            dropped=dropped,
            blank_labels=blank_labels,
        )

    def heard(
        self, context: Tensor, input_values: Clips, attention_mask: Tensor | None, clip_seeds: Tensor | None = None
    ) -> Tensor:
        """What the linear layer looks at, of the Transformer's frames (B, T, H)."""
        if self.recurrent_head is None:
            return self.dropout(context)
        lengths = self.wav2vec2.frame_lengths(input_values, attention_mask).to(context.device)
        draws = choose_draws(None, clip_seeds, context.device)
        output: Tensor = self.recurrent_head(context, lengths, draws)
        return output

    def _get_feat_extract_output_lengths(self, input_lengths: Length, add_adapter: bool | None = None) -> Length:
        """Frames of the logits of clips of `input_lengths` samples."""
        return logits_length(input_lengths, self.config, add_adapter)


def _refuse_half_a_head(source: Source, info: dict[str, Any]) -> None:
    """Recurrent layers that are new under a linear layer that was trained on others: these were lost. (Under a linear
    head's they are meant to be new; its shape is another, always.)"""
    lost = sorted(name for name in info["missing_keys"] if name.startswith("recurrent_head."))
    afresh = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    if lost and "lm_head.weight" not in afresh:
        raise CheckpointError(f"{source}: lm_head.weight is there, but not what it stands on: {', '.join(lost)}")


def head_inputs(config: Wav2Vec2Config) -> int:
    """Width of what the linear layer of the head looks at."""
    if config.ctc_head == "recurrent":
        return 2 * config.ctc_head_size
    return (config.output_hidden_size if config.add_adapter else None) or config.hidden_size


def blank_beyond(logits: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """Logits (B, T, V) that say blank, and nothing else, from frame `lengths` (B,) on."""
    tokens = torch.arange(logits.shape[2], device=logits.device)
    certain = torch.where(tokens == blank, 0.0, _IMPOSSIBLE).to(logits.dtype)
    return torch.where(frames_within(lengths, logits.shape[1])[:, :, None], logits, certain)


def vocabulary(config: Wav2Vec2Config) -> tuple[int, int]:
    """Number of tokens, and which one is the blank. Refuse a head without size, or without its blank."""
    if config.vocab_size is None:
        raise ValueError("vocab_size=None: CTC needs the number of tokens, the blank included")
    if config.pad_token_id is None or not 0 <= config.pad_token_id < config.vocab_size:
        raise ValueError(
            f"pad_token_id={config.pad_token_id}: the CTC blank must be one of the vocab_size={config.vocab_size} "
            "tokens; pass the blank's id as pad_token_id"
        )
    return config.vocab_size, config.pad_token_id
