"""Everything that defines a wav2vec 2.0 model.

Names and defaults are those of Transformers' own `Wav2Vec2Config`, so any published `config.json` loads here and any
of ours loads there. Fields that only this package has come last; they are neutral by default and are written to
`config.json` only when they were changed.
"""

import math
import os
from dataclasses import fields
from typing import Any

from transformers.configuration_utils import PreTrainedConfig

from wav2vec2.configuration.validation import problems_of
from wav2vec2.files.shipped_checkpoints import known_names_told, located


class Wav2Vec2Config(PreTrainedConfig):
    """Configuration of every wav2vec 2.0 model; the defaults are those of
    [facebook/wav2vec2-base-960h](https://huggingface.co/facebook/wav2vec2-base-960h), which Transformers also reads
    here for its own examples. Impossible values are refused, all of them in one message; whatever keeps a model from
    being built of values that are possible each is refused by the model, and by `check`.

    >>> Wav2Vec2Config(hidden_size=96, num_attention_heads=12).inputs_to_logits_ratio
    320
    >>> Wav2Vec2Config(layerdrop=-1, hidden_dropout=2.0)
    Traceback (most recent call last):
    ...
    ValueError: Wav2Vec2Config cannot be used:
      hidden_dropout=2.0: must be a probability between 0 and 1
      layerdrop=-1: must be a probability between 0 and 1
    >>> Wav2Vec2Config(hidden_size=80).check()
    Traceback (most recent call last):
    ...
    ValueError: Wav2Vec2Config cannot be used:
      hidden_size=80: must be divisible by num_attention_heads=12
    """

    model_type = "wav2vec2"
    #: What Trainer leaves out of its predictions.
    keys_to_ignore_at_inference = ["dropped", "blank_labels"]

    # --- Feature encoder: waveform (16 kHz) -> frames (one every 20 ms) ---
    #: Output channels of each convolution.
    conv_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    #: Stride of each convolution; their product is the number of samples per frame (320).
    conv_stride: list[int] | tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    #: Kernel size of each convolution; with the strides they see 400 samples (25 ms) per frame.
    conv_kernel: list[int] | tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    #: Whether the convolutions have a bias (the models with layer norm do).
    conv_bias: bool = False
    #: "group": group norm after the first convolution (BASE, LARGE LS-960). "layer": layer norm after each one.
    feat_extract_norm: str = "group"
    #: Non-linearity of the feature encoder and of the positional convolution.
    feat_extract_activation: str = "gelu"
    #: Dropout on the projected features that enter the Transformer (fairseq: dropout_input).
    feat_proj_dropout: float | int = 0.0
    #: Dropout on the features that the quantizer sees (fairseq: dropout_features).
    feat_quantizer_dropout: float | int = 0.0

    # --- Transformer ---
    #: Width of the Transformer.
    hidden_size: int = 768
    #: Number of Transformer layers.
    num_hidden_layers: int = 12
    #: Attention heads per layer; the head size is hidden_size / num_attention_heads.
    num_attention_heads: int = 12
    #: Width of the feed-forward networks.
    intermediate_size: int = 3072
    #: Non-linearity of the feed-forward networks.
    hidden_act: str = "gelu"
    #: Dropout after attention, after the feed-forward network and before the first layer.
    hidden_dropout: float | int = 0.1
    #: Dropout inside the feed-forward network, after its non-linearity.
    activation_dropout: float | int = 0.1
    #: Dropout on the attention weights.
    attention_dropout: float | int = 0.1
    #: Probability of skipping a whole Transformer layer during training.
    layerdrop: float | int = 0.1
    #: False: layer norm after each block (BASE, LARGE LS-960). True: before it (LV-60k, XLS-R, MMS, Omnilingual).
    do_stable_layer_norm: bool = False
    #: Epsilon of the Transformer's layer norms.
    layer_norm_eps: float = 1e-5
    #: Kernel size of the convolution that encodes positions.
    num_conv_pos_embeddings: int = 128
    #: Groups of the convolution that encodes positions.
    num_conv_pos_embedding_groups: int = 16
    #: Standard deviation of the Transformer's linear layers at initialisation.
    initializer_range: float = 0.02

    # --- Masking ---
    #: Whether fine-tuning masks spans of time and channels. A mask that is handed in is always applied.
    apply_spec_augment: bool = True
    #: Expected share of frames inside a span if spans never overlapped (the paper's p times mask_time_length).
    mask_time_prob: float | int = 0.05
    #: Frames per masked span.
    mask_time_length: int = 10
    #: Least number of masked spans in a clip that has room for them.
    mask_time_min_masks: int = 2
    #: The same three, for spans of channels.
    mask_feature_prob: float | int = 0.0
    #: Channels per masked span.
    mask_feature_length: int = 10
    #: Least number of masked channel spans.
    mask_feature_min_masks: int = 0

    # --- Pretraining ---
    #: V, entries in each codebook.
    num_codevectors_per_group: int = 320
    #: G, number of codebooks; their entries are concatenated.
    num_codevector_groups: int = 2
    #: Size of a quantized vector: all G entries together.
    codevector_dim: int = 256
    #: Size of the space in which prediction and target are compared.
    proj_codevector_dim: int = 256
    #: kappa, the temperature of the contrastive logits.
    contrastive_logits_temperature: float = 0.1
    #: K, distractors per masked frame.
    num_negatives: int = 100
    #: alpha, the weight of the diversity loss.
    diversity_loss_weight: float | int = 0.1

    # --- Heads ---
    #: Number of CTC outputs, the blank included.
    vocab_size: int | None = 32
    #: Dropout before the CTC head.
    final_dropout: float | int = 0.1
    #: "sum" or "mean" over the utterances of a batch, or "none": one loss each.
    ctc_loss_reduction: str = "sum"
    #: Whether torch replaces an infinite CTC loss by zero (see also ctc_drop_infeasible).
    ctc_zero_infinity: bool = False
    #: Whether classification heads learn a weighted sum of all layers instead of using the last one.
    use_weighted_layer_sum: bool = False
    #: Width of the projection before pooling in sequence classification.
    classifier_proj_size: int = 256
    #: Output channels of each time-delay layer of the x-vector head.
    tdnn_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 1500)
    #: Kernel size of each time-delay layer.
    tdnn_kernel: list[int] | tuple[int, ...] = (5, 3, 3, 1, 1)
    #: Dilation of each time-delay layer.
    tdnn_dilation: list[int] | tuple[int, ...] = (1, 2, 3, 1, 1)
    #: Size of the speaker embedding.
    xvector_output_dim: int = 512

    # --- Tokens ---
    #: The CTC blank.
    pad_token_id: int | None = 0
    #: Start and end of a sentence; CTC does not use them, saved tokenizers may.
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    # --- Adapters ---
    #: Whether strided convolutions follow the Transformer (for encoder-decoder models).
    add_adapter: bool = False
    #: Kernel size of those convolutions.
    adapter_kernel_size: int = 3
    #: Stride of those convolutions.
    adapter_stride: int = 2
    #: Number of those convolutions.
    num_adapter_layers: int = 3
    #: Width after those convolutions; hidden_size when left out.
    output_hidden_size: int | None = None
    #: Width of the language adapter in every layer (MMS: 16); None for no language adapters.
    adapter_attn_dim: int | None = None

    # --- Only in this package ---
    #: Normalise each clip over its own samples, so that padding never changes a result. False: stock, bit for bit.
    padding_invariant_norm: bool = True
    #: Scale of the gradient that reaches the feature encoder (paper: 0.1 for BASE). 1 leaves it alone; at 0 there is
    #: none, and no weight decay moves it.
    feature_grad_mult: float | int = 1.0
    #: Weight of the mean square of the convolutions' output in the pretraining loss (fairseq: 10 for BASE).
    feature_penalty_weight: float | int = 0.0
    #: Gumbel temperature at update n: max(end, start * decay ** n). A decay of 1 keeps the start.
    gumbel_temperature_start: float | int = 2.0
    #: The floor of that schedule.
    gumbel_temperature_end: float | int = 0.5
    #: The factor per update of that schedule (paper: 0.999995).
    gumbel_temperature_decay: float | int = 1.0
    #: What `set_gumbel_temperature` made it, until `set_update` lets the schedule decide again.
    gumbel_temperature_by_hand: float | int | None = None
    #: Updates of pretraining behind these weights: where the Gumbel schedule stands.
    pretraining_updates: int = 0
    #: Leave utterances whose text cannot fit into their frames out of the CTC loss, and name them in the output.
    ctc_drop_infeasible: bool = True
    #: "linear": the CTC head is one linear layer, as in stock. "recurrent": before it come a convolution and
    #: bidirectional GRUs over features that are normalised over their clip, for few labels (docs/finetuning.md).
    ctc_head: str = "linear"
    #: Channels of that convolution, and of each direction of those GRUs.
    ctc_head_size: int = 160
    #: Number of those GRUs.
    ctc_head_layers: int = 2
    #: Stride of that convolution: so many frames make one frame of logits.
    ctc_head_stride: int = 2
    #: Dropout on the input of the recurrent head and on what each of its GRUs gives (instead of final_dropout).
    ctc_head_dropout: float | int = 0.2
    #: SpecAugment's masks (mask_time_prob and the others) fall on what the recurrent head hears, as zeros behind the
    #: normalisation, and no more on what the Transformer hears, which guesses much of what is masked.
    ctc_head_masks: bool = False
    #: Frames in a chunk of attention (`modeling/attention_in_chunks.py`); None: every frame sees the whole clip, as in
    #: stock. A run's `streaming` section draws its own in training, and leaves this as it is.
    attention_chunk: int | None = None
    #: Whether the model was tuned by a run's `streaming` section: a live stream then hears in chunks, as it was tuned.
    #: Whole clips it hears as attention_chunk says.
    tuned_in_chunks: bool = False
    #: Frames before its chunk that a frame sees; None: all. This and what follows count where there are chunks.
    attention_left: int | None = None
    #: Frames behind its chunk that a frame sees.
    attention_right: int = 0
    #: Frames at the beginning of the clip that every frame sees, however far back they lie.
    attention_sinks: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive what follows from other fields, then refuse what cannot work."""
        if isinstance(self.conv_dim, list | tuple):
            self.num_feat_extract_layers = len(self.conv_dim)
        kwargs.pop("num_feat_extract_layers", None)  # derived, though stock writes it into config.json
        self.output_hidden_size = self.output_hidden_size or self.hidden_size
        super().__post_init__(**kwargs)
        self.check(of_a_model=False)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As in stock Transformers, which asks for every `config.json` here; short names of models that come with the
        package are known too, and told where a name is not."""
        with known_names_told(pretrained_model_name_or_path):
            found: tuple[dict[str, Any], dict[str, Any]] = super().get_config_dict(
                located(pretrained_model_name_or_path), **kwargs
            )
        return found

    def check(self, of_a_model: bool = True) -> None:
        """Raise one `ValueError` that names every field that cannot work, its value and what would be right."""
        if problems := problems_of(self, of_a_model):
            listing = "\n  ".join(problems)
            raise ValueError(f"{type(self).__name__} cannot be used:\n  {listing}")

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame to the next: of the logits, where the CTC head has a stride."""
        return math.prod(self.conv_stride) * self.frames_per_logits

    @property
    def frames_per_logits(self) -> int:
        """Frames of the Transformer for each frame of CTC's logits."""
        return self.ctc_head_stride if self.ctc_head == "recurrent" else 1

    @property
    def hears_in_chunks(self) -> bool:
        """Whether a live stream is heard in chunks, with keys and values that are kept (`modeling/kept_keys.py`)."""
        return self.tuned_in_chunks or self.attention_chunk is not None

    @property
    def masks_at_head(self) -> bool:
        """Whether SpecAugment's masks fall on the input of the recurrent head."""
        return self.ctc_head == "recurrent" and self.ctc_head_masks

    def gumbel_temperature(self, update: int) -> float:
        """The Gumbel softmax's temperature after `update` updates."""
        decayed = self.gumbel_temperature_start * self.gumbel_temperature_decay**update
        return float(max(self.gumbel_temperature_end, decayed))

    def to_diff_dict(self) -> dict[str, Any]:
        """As in stock Transformers, which need not know our own fields: those that have their defaults are left out."""
        written: dict[str, Any] = super().to_diff_dict()
        defaults = {field.name: field.default for field in fields(type(self))}
        for name in OWN_FIELDS:
            if written.get(name) == defaults[name]:
                written.pop(name, None)
        return written


#: The fields that stock Transformers does not have.
OWN_FIELDS = (
    "padding_invariant_norm",
    "feature_grad_mult",
    "feature_penalty_weight",
    "gumbel_temperature_start",
    "gumbel_temperature_end",
    "gumbel_temperature_decay",
    "gumbel_temperature_by_hand",
    "pretraining_updates",
    "ctc_drop_infeasible",
    "ctc_head",
    "ctc_head_size",
    "ctc_head_layers",
    "ctc_head_stride",
    "ctc_head_dropout",
    "ctc_head_masks",
    "attention_chunk",
    "tuned_in_chunks",
    "attention_left",
    "attention_right",
    "attention_sinks",
)
