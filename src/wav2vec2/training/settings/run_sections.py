"""The sections of a training run, as dataclasses: what pretraining and fine-tuning share.

The defaults are the paper's pretraining of BASE (arXiv 2006.11477, section 4.2, and fairseq's
`config/pretraining/wav2vec2_base_librispeech.yaml`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from wav2vec2.training.settings.typed_values import Between, OneOf, Problem

Positive = Annotated[float, Between(0, above=True)]
NotNegative = Annotated[float, Between(0)]
Share = Annotated[float, Between(0, 1)]
Count = Annotated[int, Between(1)]
CountOrZero = Annotated[int, Between(0)]


@dataclass
class Source:
    """One place where audio comes from: a folder, a manifest, parquet shards or a data set of `datasets`, or shards of
    any kind anywhere (docs/scale.md)."""

    #: Folder, manifest (.tsv), parquet file or pattern, the name of a data set, an index of shards or their address.
    #: Relative to the current directory.
    path: str
    #: Split of a data set, as "train".
    split: str | None = None
    #: Configuration of a data set, as "clean" or a language.
    name: str | None = None
    #: What `path` is; "auto" looks.
    format: Annotated[str, OneOf("auto", "folder", "manifest", "parquet", "dataset", "shards")] = "auto"
    #: Read a data set as a stream instead of downloading it first.
    streaming: bool = False
    #: How often this source is drawn beside the others; by default its hours to the power `data.balance`.
    weight: Positive | None = None
    #: Hours of audio in a stream, which cannot be counted beforehand.
    hours: Positive | None = None
    #: Column that holds the audio.
    audio_column: str = "audio"
    #: Column that holds the transcript; of slots, `a,b,c` are three columns.
    text_column: str | None = None
    #: Revision of a data set on the Hub: a commit, tag or branch.
    revision: str | None = None

    def problems(self) -> Iterator[Problem]:
        """What cannot be together."""
        if not self.path:
            yield "path", "must name a folder, a manifest, a parquet file or a data set"
        if self.streaming and self.format in ("folder", "manifest", "shards"):
            yield "streaming", f"only a data set or parquet can be a stream, not format={self.format}"


@dataclass
class ModelSection:
    """Which model: a fresh one of a published size, or a checkpoint."""

    #: A function of `wav2vec2.configuration.presets`, as "base", or of `wav2vec2.baselines.presets`, as
    #: "wav2vec_large": a model with fresh weights.
    preset: str | None = None
    #: Folder or Hub name of a checkpoint to start from, or "small", the model that comes with the package.
    checkpoint: str | None = None
    #: Fields of its configuration (`Wav2Vec2Config`, of an ancestor `Wav2VecConfig` or `VQWav2VecConfig`) that replace
    #: those of the preset or the checkpoint.
    config: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> Iterator[Problem]:
        """Exactly one of preset and checkpoint, and a configuration that a model can have."""
        from wav2vec2.training.settings.model_choice import config_problems  # Transformers, which sections do not need

        if (self.preset is None) == (self.checkpoint is None):
            state = "neither is" if self.preset is None else "both are"
            yield (
                "preset",
                f"exactly one of model.preset and model.checkpoint must be given, and {state} "
                "(null takes one back: model.preset=null)",
            )
        else:
            yield from config_problems(self.preset, self.config)


@dataclass
class DataSection:
    """The audio, and how it is cut into batches."""

    #: What is trained on.
    train: list[Source] = field(default_factory=list)
    #: What is evaluated on; without it there is no evaluation.
    valid: list[Source] = field(default_factory=list)
    #: Alpha of XLS-R: a source is drawn in proportion to hours ** balance. 1 is as it is, 0 makes sources equal.
    balance: Share = 1.0
    #: The same of the languages within a corpus; of shards alone.
    language_balance: Share = 1.0
    #: Shorter clips are left out (paper: 32,000 samples).
    min_seconds: NotNegative = 2.0
    #: Longer clips are cropped at random (BASE: 250,000 samples); with transcripts they are left out.
    max_seconds: Positive = 15.6
    #: Audio per update over all processes: the batch size that quality depends on (BASE: 1.6 h).
    seconds_per_update: Positive = 5760.0
    #: What one process holds at once, padding included (BASE: 1.4 M samples per GPU). Lower it when memory runs out.
    seconds_per_batch: Positive = 87.5
    #: Zero mean and unit variance per clip, as the models with layer norm expect it.
    normalize: bool = True
    #: Clips of like length are grouped within the audio of this many updates.
    bucket_updates: Count = 20
    #: Micro-batches are as long as one of so many steps up to the longest clip, and have as many clips as fit in: few
    #: shapes, for each of which a GPU plans its work once. 0: as long as the longest of their clips.
    length_steps: CountOrZero = 32
    #: Processes that read and decode audio; 0 reads in the training process.
    workers: CountOrZero = 2
    #: The run stops when more than this share of the clips cannot be read.
    max_bad_share: Share = 0.01
    #: Folder for durations that were read from file headers; by default beside other caches of the user.
    cache: str | None = None
    #: Clips of a stream that are held to shuffle from.
    stream_pool: Count = 1000
    #: Shards are divided into so many lanes, whatever the number of processes, each of which reads its own: a multiple
    #: of the most processes that the run may ever have. It cannot change.
    lanes: Count = 64
    #: Gigabytes of shards that are kept on the disk of a machine, below `cache`; 0: none, clips are read one by one.
    shard_cache_gib: NotNegative = 32.0

    def problems(self) -> Iterator[Problem]:
        """Something to train on, and lengths that fit into each other."""
        if not self.train:
            yield (
                "train",
                "no audio to train on: give a folder, a manifest or a data set, such as data.train.0.path=FOLDER",
            )
        if self.min_seconds > self.max_seconds:
            yield "min_seconds", f"must be at most data.max_seconds={self.max_seconds:g}"
        if self.seconds_per_batch < self.max_seconds:
            yield "seconds_per_batch", f"must have room for one clip of data.max_seconds={self.max_seconds:g}"


@dataclass
class OptimizerSection:
    """Adam with decoupled weight decay (paper, section 4.2; the constants stand in fairseq's yaml files)."""

    #: The highest learning rate of the schedule.
    learning_rate: Positive = 5e-4
    #: Decay of the running means of gradient and squared gradient.
    betas: tuple[Annotated[float, Between(0, 0.999999)], Annotated[float, Between(0, 0.999999)]] = (0.9, 0.98)
    #: Added to the root of the squared gradient's mean.
    epsilon: Positive = 1e-6
    #: Weight decay, on matrices and convolutions alone.
    weight_decay: NotNegative = 0.01
    #: Longest gradient; longer ones are shortened to it. The published runs do not clip.
    clip_norm: Positive | None = None


@dataclass
class ScheduleSection:
    """The learning rate over the updates, as factors of `optimizer.learning_rate`."""

    #: After the warm-up: "polynomial" or "cosine" to final_scale, "tri_stage" (hold, then exponential decay), or
    #: "constant".
    kind: Annotated[str, OneOf("polynomial", "cosine", "tri_stage", "constant")] = "polynomial"
    #: Share of the updates in which the learning rate rises linearly from initial_scale.
    warmup: Share = 0.08
    #: Share of the updates at the highest learning rate; "tri_stage" alone.
    hold: Share = 0.4
    #: Power of the polynomial; 1 is a straight line.
    power: Positive = 1.0
    #: Factor at the first update.
    initial_scale: Share = 0.0
    #: Factor that is reached with the end of the last update, which itself is one step short of it, as in fairseq.
    final_scale: Share = 0.0

    def problems(self) -> Iterator[Problem]:
        """The stages fit into the run, and an exponential decay does not end at zero."""
        if self.kind != "tri_stage":
            return
        if self.warmup + self.hold > 1:
            yield "hold", f"with schedule.warmup={self.warmup:g} the two must be at most 1 together"
        if self.final_scale == 0:
            yield "final_scale", "must be above 0: an exponential decay never reaches 0 (the paper's is 0.05)"


@dataclass
class RunSection:
    """How long, where to, and how the machine is used."""

    #: Folder of the log, the checkpoints and the report. Relative to the current directory.
    output: str = ""
    #: Optimizer steps in all, those of a warm start included.
    updates: Count = 400_000
    #: Every random choice follows from it.
    seed: CountOrZero = 1
    #: Arithmetic of the forward pass; "auto" is bf16 where the hardware has it, otherwise fp32.
    precision: Annotated[str, OneOf("auto", "bf16", "fp16", "fp32")] = "auto"
    #: `torch.compile` each Transformer layer: up to some minutes at the start, faster updates.
    compile: bool = False
    #: Compute activations twice instead of keeping them: less memory, slower.
    gradient_checkpointing: bool = False
    #: So many processes hold one copy of the model together, each its part of every weight, gradient and optimizer
    #: state (FSDP2); more processes hold further copies (HSDP), fewer one. null: as `accelerate launch` is configured.
    shard_over: Count | None = None
    #: Implementation of attention; by default Transformers' choice.
    attention: Annotated[str, OneOf("eager", "sdpa", "flash_attention_2")] | None = None
    #: Code usage is made even over the whole "update" (the same on any number of processes) or each "batch" (fairseq).
    diversity_over: Annotated[str, OneOf("update", "batch")] = "update"
    #: Updates between two lines of the log.
    log_every: Count = 100
    #: Updates between two evaluations.
    evaluate_every: Count = 5000
    #: Updates between two checkpoints; an evaluation that is among the best ones so far saves one too.
    save_every: Count = 5000
    #: Each process writes its own part of a checkpoint. A model is made of it at the end of the run, and by `wav2vec2
    #: consolidate`.
    save_in_parts: bool = False
    #: Also save when this many minutes have passed since the last checkpoint.
    save_minutes: Positive | None = None
    #: Checkpoints that are kept: the last ones ...
    keep_last: Count = 2
    #: ... and the best ones by the evaluation.
    keep_best: CountOrZero = 1
    #: Where the log also goes: the file `log.jsonl` is always written.
    trackers: list[Annotated[str, OneOf("tensorboard", "trackio")]] = field(default_factory=list)
    #: Decay of a moving average of the weights, such as 0.999: what is evaluated and saved is the average then.
    ema: Annotated[float, Between(0, 0.999999)] | None = None
    #: Write the one-page report at the end.
    report: bool = True

    def problems(self) -> Iterator[Problem]:
        """There is somewhere to write to."""
        if not self.output:
            yield "output", "must name a folder, such as run.output=outputs/first_run"
        if self.shard_over is not None and self.precision == "fp16":
            yield "precision", "must be bf16 or fp32 with run.shard_over: a loss scale is not divided"


@dataclass
class GuardSection:
    """What stops a run that has gone wrong; each guard can be switched off by name."""

    #: Stop when the codebooks collapse: perplexity near one code per group, or distractors equal to the target.
    collapse: bool = True
    #: Stop when the loss is not finite, and name the first module that made it so.
    non_finite: bool = True
    #: Stop when accuracy does not leave chance.
    stalled: bool = True
    #: Updates for which a fault must last before the run stops.
    patience: Count = 200
    #: Updates at the start in which collapse and standstill do not count.
    grace: CountOrZero = 1000


@dataclass
class RecipeOrigin:
    """Where a run came from. The reader fills it; it is saved with the run and is not written by hand."""

    #: Name of the recipe's file without its folder.
    recipe: str | None = None
    #: The recipe's own `data.seconds_per_update`, before overrides.
    seconds_per_update: Positive | None = None
