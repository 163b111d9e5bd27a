"""What all networks on log-mel energies are configured by: the energies, the masks of training, and for text the loss.

The rest of the package asks the same of these configurations as of `Wav2Vec2Config`:

* `conv_kernel`, `conv_stride`: how many frames a clip has, and when they are. The windows of the energies are the first
  layer; a layer with a stride over frames counts as one with a kernel of 1, so that a frame stands for the middle of
  what it hears;
* `frames_per_logits`, `add_adapter`: nothing comes after those layers that leaves out frames;
* `vocab_size`, `pad_token_id` (the blank), `ctc_loss_reduction`, `ctc_zero_infinity`, `ctc_drop_infeasible`: what CTC
  spells with, and what its loss is;
* `operations(samples)`: what a clip costs, for the log.
"""

import math
from collections.abc import Iterator
from typing import Any, ClassVar

from transformers.configuration_utils import PreTrainedConfig

from wav2vec2.configuration import validation as rule
from wav2vec2.configuration.frame_arithmetic import conv_output_length, one_of_every


class SpectrogramConfig(PreTrainedConfig):
    """Log-mel energies of windows of `window_length` samples, and how they are masked in training (SpecAugment, arXiv
    1904.08779). Impossible values are refused, all in one message."""

    # --- Log-mel energies, of audio at 16 kHz ---
    #: Bands, as wide as each other on the mel scale.
    num_mel_bins: int = 80
    #: Samples of a window (25 ms).
    window_length: int = 400
    #: Samples from one window to the next; 320 are the 20 ms of wav2vec 2.0.
    hop_length: int = 320
    #: Where the lowest band begins, in Hertz.
    lowest_hertz: float | int = 60.0
    #: Where the highest band ends.
    highest_hertz: float | int = 7600.0
    #: Whether each band is taken relative to its own mean and deviation over a clip, or all to those of all together.
    band_by_band: bool = True

    # --- Masks, in training alone ---
    #: Spans of frames that are masked in a clip ...
    time_masks: int = 0
    #: ... each of fewer frames than this.
    time_mask_width: int = 15
    #: Spans of bands that are masked in a clip ...
    band_masks: int = 0
    #: ... each of fewer bands than this.
    band_mask_width: int = 10

    #: The rules of the fields above.
    rules: ClassVar[rule.Rules] = (
        (rule.POSITIVE, "num_mel_bins window_length hop_length time_mask_width band_mask_width"),
        (rule.COUNT, "time_masks band_masks"),
        (rule.NOT_NEGATIVE, "lowest_hertz highest_hertz"),
        (rule.FLAG, "band_by_band"),
    )

    #: Deviation of the weights of a head that starts afresh.
    initializer_range: ClassVar[float] = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Raise one `ValueError` that names every field that cannot work, its value and what would be right."""
        problems = list(rule.broken_rules(self, self.rules).values()) or list(self.contradictions())
        if problems:
            listing = "\n  ".join(problems)
            raise ValueError(f"{type(self).__name__} cannot be used:\n  {listing}")

    def contradictions(self) -> Iterator[str]:
        """What is wrong between fields that are possible on their own."""
        if not self.lowest_hertz < self.highest_hertz <= 8000:
            yield f"highest_hertz={self.highest_hertz}: must be above lowest_hertz={self.lowest_hertz} and at most 8000"

    @property
    def add_adapter(self) -> bool:
        """There is none: nothing leaves out frames behind the layers of `conv_stride`, ..."""
        return False

    @property
    def frames_per_logits(self) -> int:
        """... and every frame has its logits."""
        return 1

    @property
    def frame_stride(self) -> int:
        """Windows from one frame of the network to the next."""
        return 1

    @property
    def conv_kernel(self) -> tuple[int, int]:
        """A window, and one of its frames in so many."""
        return self.window_length, 1

    @property
    def conv_stride(self) -> tuple[int, int]:
        """Samples between windows, and windows between frames."""
        return self.hop_length, self.frame_stride

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame to the next, for pipelines of Transformers."""
        return math.prod(self.conv_stride)

    def windows(self, samples: int) -> int:
        """Windows in a clip of so many samples."""
        return conv_output_length(samples, (self.window_length,), (self.hop_length,))

    def frames(self, samples: int) -> int:
        """Frames of the network in a clip of so many samples."""
        return one_of_every(self.windows(samples), self.frame_stride)

    def operations(self, samples: int) -> float:
        """Operations in the products of a clip's forward pass; a multiplication and an addition are two."""
        raise NotImplementedError


class SpectrogramCTCConfig(SpectrogramConfig):
    """Of a network that writes text: also what it spells with. The defaults of the masks are those of the studies."""

    time_masks: int = 2
    band_masks: int = 2

    # --- CTC ---
    #: Tokens, the blank included.
    vocab_size: int | None = 32
    #: The blank.
    pad_token_id: int | None = 0
    #: What is made of the losses of a batch: "sum", "mean" or "none".
    ctc_loss_reduction: str = "sum"
    #: Whether torch replaces an infinite loss by zero.
    ctc_zero_infinity: bool = False
    #: Whether a text that has no room in its audio is left out of the loss.
    ctc_drop_infeasible: bool = True

    rules: ClassVar[rule.Rules] = (
        *SpectrogramConfig.rules,
        (rule.OPTIONAL_POSITIVE, "vocab_size"),
        (rule.OPTIONAL_INTEGER, "pad_token_id"),
        ((lambda v: v in ("sum", "mean", "none"), 'must be "sum", "mean" or "none"'), "ctc_loss_reduction"),
        (rule.FLAG, "ctc_zero_infinity ctc_drop_infeasible"),
    )


def recurrent_operations(inputs: int, width: int, layers: int, gates: int) -> float:
    """Operations of one frame in the products of bidirectional recurrent layers, each with so many gates (3 of a GRU,
    4 of an LSTM)."""
    sizes = [inputs, *[2 * width] * (layers - 1)]
    return 2.0 * 2 * gates * width * sum(size + width for size in sizes)
