"""Everything that defines a vq-wav2vec model. The defaults are those of `vq-wav2vec.pt`."""

from collections.abc import Iterator
from typing import Any, ClassVar

from wav2vec2.baselines.wav2vec.wav2vec_config import Wav2VecConfig
from wav2vec2.configuration import validation as rule


class VQWav2VecConfig(Wav2VecConfig):
    """Configuration of vq-wav2vec: wav2vec's, with one more layer of the encoder, GELU, and a quantizer.

    >>> VQWav2VecConfig().codevector_dim, VQWav2VecConfig(quantizer="kmeans").num_codebooks
    (512, 1)
    >>> VQWav2VecConfig(num_codevector_groups=3)
    Traceback (most recent call last):
    ...
    ValueError: VQWav2VecConfig cannot be used:
      codevector_dim=512: must be divisible by num_codevector_groups=3
    """

    model_type = "vq-wav2vec"

    conv_dim: list[int] | tuple[int, ...] = (512,) * 8
    conv_stride: list[int] | tuple[int, ...] = (5, 4, 2, 2, 2, 1, 1, 1)
    conv_kernel: list[int] | tuple[int, ...] = (10, 8, 4, 4, 4, 1, 1, 1)
    log_compression: bool = False
    activation: str = "gelu"

    # --- Quantizer ---
    #: "gumbel": a network scores the entries, and training draws one by a Gumbel softmax. "kmeans": the nearest entry.
    quantizer: str = "gumbel"
    #: G, groups into which a quantized vector is cut.
    num_codevector_groups: int = 2
    #: V, entries that each group chooses from.
    num_codevectors_per_group: int = 320
    #: Size of a quantized vector: all G entries together. By default the encoder's width.
    codevector_dim: int | None = None
    #: Whether all groups choose from one codebook (fairseq: combine_groups) or each from its own.
    share_codebook: bool = True

    # --- Gumbel ---
    #: Layers of the network that scores the entries; those before the last are twice as wide as their input.
    quantizer_depth: int = 2
    #: Gumbel temperature at update n (`pretraining_updates`): max(end, start * decay ** n).
    gumbel_temperature_start: float | int = 2.0
    #: The floor of that schedule.
    gumbel_temperature_end: float | int = 0.5
    #: The factor per update of that schedule.
    gumbel_temperature_decay: float | int = 0.999995

    # --- k-means ---
    #: gamma, how strongly features are drawn to their entries, beside 1 for entries that are drawn to their features.
    commitment_weight: float | int = 0.25
    #: Weight of both in the pretraining loss.
    kmeans_loss_weight: float | int = 1.0

    rules: ClassVar[rule.Rules] = (
        *Wav2VecConfig.rules,
        ((lambda v: v in ("gumbel", "kmeans"), 'must be "gumbel" or "kmeans"'), "quantizer"),
        (rule.POSITIVE, "num_codevector_groups num_codevectors_per_group codevector_dim quantizer_depth"),
        (rule.FLAG, "share_codebook"),
        (rule.ABOVE_ZERO, "gumbel_temperature_start gumbel_temperature_end"),
        (rule.FACTOR, "gumbel_temperature_decay"),
        (rule.NOT_NEGATIVE, "commitment_weight kmeans_loss_weight"),
    )

    def __post_init__(self, **kwargs: Any) -> None:
        if self.codevector_dim is None and self.conv_dim:
            self.codevector_dim = self.conv_dim[-1]
        super().__post_init__(**kwargs)

    def contradictions(self) -> Iterator[str]:
        """As of wav2vec; and vectors are cut into whole pieces, which for k-means are those of the features."""
        yield from super().contradictions()
        dim, groups, width = self.codevector_dim, self.num_codevector_groups, self.conv_dim[-1]
        if int(dim or 0) % groups:
            yield f"codevector_dim={dim}: must be divisible by num_codevector_groups={groups}"
        if self.quantizer == "kmeans" and dim != width:
            yield f"codevector_dim={dim}: must be conv_dim[-1]={width} where quantizer='kmeans'"

    @property
    def num_codebooks(self) -> int:
        """One for all groups, or one for each."""
        return 1 if self.share_codebook else self.num_codevector_groups

    def gumbel_temperature(self, update: int) -> float:
        """The Gumbel softmax's temperature after `update` updates."""
        decayed = self.gumbel_temperature_start * self.gumbel_temperature_decay**update
        return float(max(self.gumbel_temperature_end, decayed))
