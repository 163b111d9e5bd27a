"""Everything that defines a wav2vec model of 2019. The defaults are those of `wav2vec_large.pt`."""

from collections.abc import Iterator
from typing import Any, ClassVar

from transformers.configuration_utils import PreTrainedConfig

from wav2vec2.configuration import validation as rule
from wav2vec2.configuration.frame_arithmetic import frame_stride, receptive_field


class Wav2VecConfig(PreTrainedConfig):
    """Configuration of wav2vec; the defaults are the large model's. Impossible values are refused, all in one message.

    >>> Wav2VecConfig().first_step, Wav2VecConfig(prediction_offset=1).first_step
    (3, 1)
    >>> Wav2VecConfig(num_negatives=0, dropout=2.0)
    Traceback (most recent call last):
    ...
    ValueError: Wav2VecConfig cannot be used:
      num_negatives=0: must be a positive integer
      dropout=2.0: must be a probability between 0 and 1
    """

    model_type = "wav2vec"

    # --- Encoder: waveform (16 kHz) -> features z (one every 10 ms) ---
    #: Output channels of each convolution.
    conv_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    #: Stride of each convolution; their product is the number of samples per frame (160).
    conv_stride: list[int] | tuple[int, ...] = (5, 4, 2, 2, 2, 1, 1)
    #: Kernel size of each convolution; with the strides they see 465 samples (29 ms) per frame.
    conv_kernel: list[int] | tuple[int, ...] = (10, 8, 4, 4, 4, 1, 1)
    #: Whether each convolution's input is added to its output where both have the same width.
    conv_skip_connections: bool = False
    #: Whether features are log(1 + |x|) of what the last convolution gives.
    log_compression: bool = True

    # --- Context network: z -> c, each from the frames up to its own ---
    #: Output channels of each convolution.
    context_dim: list[int] | tuple[int, ...] = (512,) * 12
    #: Kernel size of each convolution; all have stride 1.
    context_kernel: list[int] | tuple[int, ...] = tuple(range(2, 14))
    #: Whether each convolution's input is added to its output.
    context_skip_connections: bool = True
    #: Whether the convolutions have a bias.
    context_bias: bool = True
    #: Before the first frame: zeros (True), or the first frame again and again (False).
    context_zero_padding: bool = False

    # --- Both ---
    #: Non-linearity after each norm.
    activation: str = "relu"
    #: Whether each norm has a scale and a shift per channel.
    norm_affine: bool = True
    #: A sum of input and output is multiplied by the square root of this.
    residual_scale: float | int = 0.5
    #: Dropout after the context network's convolutions, and on predictions.
    dropout: float | int = 0.0
    #: Dropout on the features that enter the context network.
    feature_dropout: float | int = 0.0
    #: Dropout on what the context network gives.
    context_dropout: float | int = 0.0

    # --- Pretraining ---
    #: K, the number of steps that are predicted, each by a linear map of its own.
    num_prediction_steps: int = 12
    #: How many frames ahead the first of them is. None: the first frame that shares no sample with the one that
    #: predicts it, which is the receptive field in frames, rounded up (fairseq: offset=auto).
    prediction_offset: int | None = None
    #: Distractors for each frame, drawn from the other frames of the clip.
    num_negatives: int = 10
    #: Whether all distractors of a frame together weigh as much as the frame itself. False: each of them does (paper).
    balanced_classes: bool = False
    #: Updates of pretraining behind these weights.
    pretraining_updates: int = 0

    #: The rules of the fields above.
    rules: ClassVar[rule.Rules] = (
        (rule.POSITIVE_LIST, "conv_dim conv_stride conv_kernel context_dim context_kernel"),
        (rule.POSITIVE, "num_prediction_steps num_negatives"),
        (rule.COUNT, "pretraining_updates"),
        (rule.OPTIONAL_POSITIVE, "prediction_offset"),
        (rule.PROBABILITY, "dropout feature_dropout context_dropout"),
        (rule.ABOVE_ZERO, "residual_scale"),
        (rule.ACTIVATION, "activation"),
        (
            rule.FLAG,
            "conv_skip_connections log_compression context_skip_connections context_bias context_zero_padding "
            "norm_affine balanced_classes",
        ),
    )

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Raise one `ValueError` that names every field that cannot work, its value and what would be right."""
        broken = rule.broken_rules(self, self.rules)
        problems = list(broken.values()) or list(self.contradictions())
        if problems:
            listing = "\n  ".join(problems)
            raise ValueError(f"{type(self).__name__} cannot be used:\n  {listing}")

    def contradictions(self) -> Iterator[str]:
        """What is wrong between fields that are possible on their own."""
        for names in (("conv_dim", "conv_stride", "conv_kernel"), ("context_dim", "context_kernel")):
            if problem := rule.equally_long(self, *names):
                yield problem

    @property
    def first_step(self) -> int:
        """How many frames ahead the first step is."""
        if self.prediction_offset is not None:
            return self.prediction_offset
        field, stride = receptive_field(self.conv_kernel, self.conv_stride), frame_stride(self.conv_stride)
        return -(-field // stride)
