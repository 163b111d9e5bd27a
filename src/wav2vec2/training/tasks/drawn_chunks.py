"""What a frame sees in an update of a run with a `streaming` section: drawn from the run's seed and the update alone,
so that all processes and all parts of the update have the same, and a run that is resumed goes on with it."""

from random import Random

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import frame_stride
from wav2vec2.modeling.attention_in_chunks import Chunks
from wav2vec2.training.data.audio_clips import SAMPLING_RATE
from wav2vec2.training.settings.finetuning_sections import StreamingSection
from wav2vec2.training.settings.random_seeds import seed_of


class DrawnChunks:
    """The chunks of one update after the other, for models of a configuration."""

    def __init__(self, section: StreamingSection, config: Wav2Vec2Config, seed: int) -> None:
        self.section, self.seed = section, seed
        self.frame_seconds = frame_stride(config.conv_stride) / SAMPLING_RATE
        seconds = section.left_seconds
        self.left = None if seconds is None else round(seconds / self.frame_seconds)

    def __call__(self, update: int) -> Chunks:
        """Those of an update: none, or a size whose logarithm is uniform, and a right context that is."""
        section = self.section
        draw = Random(seed_of("streaming", self.seed, update)).random
        if draw() >= section.share:
            return Chunks()
        shortest, longest = section.chunk_seconds
        size = max(1, round(shortest * (longest / shortest) ** draw() / self.frame_seconds))
        right = int(draw() * (section.right_chunks * size + 1))
        return Chunks(size, self.left, right, section.sinks)

    def tell(self, config: Wav2Vec2Config) -> None:
        """Say in the configuration of a model what is tuned: streams hear so from then on, whole clips as before."""
        if self.section.share > 0 and config.attention_chunk is None:
            config.tuned_in_chunks, config.attention_left, config.attention_sinks = True, self.left, self.section.sinks
