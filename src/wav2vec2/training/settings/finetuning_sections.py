"""The sections of a fine-tuning run: those of pretraining with other defaults, and what happens to text and weights.

The defaults are BASE on 10 hours (paper, appendix B; fairseq's `config/finetuning/base_10h.yaml`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from wav2vec2.processing.text_normalization import CHOICES
from wav2vec2.training.settings.finetuning_config import FINETUNING_CONFIG
from wav2vec2.training.settings.run_sections import (
    Count,
    CountOrZero,
    DataSection,
    ModelSection,
    NotNegative,
    OptimizerSection,
    Positive,
    RunSection,
    ScheduleSection,
    Share,
)
from wav2vec2.training.settings.typed_values import Between, OneOf, Problem


@dataclass
class FinetuneModelSection(ModelSection):
    """Which pretrained model; what `config` does not say is as in the paper's fine-tuning."""

    config: dict[str, Any] = field(default_factory=lambda: dict(FINETUNING_CONFIG))

    def problems(self) -> Iterator[Problem]:
        """As in pretraining; and there is a head for the model."""
        from wav2vec2.training.settings.model_choice import is_ancestor  # Transformers, which sections do not need

        if is_ancestor(self.preset):
            yield "preset", "is a model without heads, which can be pretrained alone: use one of wav2vec 2.0"
        else:
            yield from super().problems()


@dataclass
class FinetuneDataSection(DataSection):
    """The labelled audio. Clips are never cropped: too long or too short ones are left out, and listed."""

    min_seconds: NotNegative = 0.1
    #: LibriSpeech's longest utterance has 35 s.
    max_seconds: Positive = 40.0
    #: 3.2 M samples x 2 GPUs x accumulation 4 (base_10h.yaml), as the paper's 8 GPUs.
    seconds_per_update: Positive = 1600.0
    #: 3.2 M samples.
    seconds_per_batch: Positive = 200.0
    #: Each clip of `train` comes also at these speeds, from 0.5 to 2, as clips of their own: at 1.1 as if the tape ran
    #: so much faster, shorter and higher, formants included. Three readers then sound like many: [0.9, 1.1].
    speeds: list[Annotated[float, Between(0.5, 2)]] = field(default_factory=list)
    #: What is wrong with the data before the first update "stop"s the run, or is only told of ("warn"), as where a
    #: model is to learn its validation clips by heart.
    on_problems: Annotated[str, OneOf("stop", "warn")] = "stop"

    def problems(self) -> Iterator[Problem]:
        """What holds for all data; and each copy is another clip than the others."""
        yield from super().problems()
        named = [f"{speed:g}" for speed in self.speeds]
        if "1" in named:
            yield "speeds", "1 is the clip itself, which is trained on anyway: name other speeds alone, as [0.9, 1.1]"
        if twice := sorted({name for name in named if named.count(name) > 1}):
            yield "speeds", f"{', '.join(twice)} stands there more than once: name each speed once"


@dataclass
class FinetuneOptimizerSection(OptimizerSection):
    """Adam of base_10h.yaml: a smaller epsilon and no weight decay."""

    learning_rate: Positive = 5e-5
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 0.0


@dataclass
class FinetuneScheduleSection(ScheduleSection):
    """The paper's tri-stage schedule: 10 % up, 40 % held, 50 % down; the two scales are fairseq's."""

    kind: Annotated[str, OneOf("polynomial", "cosine", "tri_stage", "constant")] = "tri_stage"
    warmup: Share = 0.1
    initial_scale: Share = 0.01
    final_scale: Share = 0.05


@dataclass
class FinetuneRunSection(RunSection):
    """As in pretraining, for shorter runs."""

    updates: Count = 20_000
    evaluate_every: Count = 1000
    save_every: Count = 1000


@dataclass
class TextSection:
    """What happens to transcripts before they are cut into tokens; it is saved with the model."""

    #: A vocabulary that is there already: `vocab.json`, or a folder with a tokenizer. By default it is built from the
    #: training transcripts under the choices below.
    vocabulary: str | None = None
    #: espeak-ng's code of a language, as "en-us": the targets are the phones with which espeak says the transcripts,
    #: not their letters, and what is chosen below for letters has no say.
    phonemes: str | None = None
    #: The transcripts are phones already, in espeak's IPA with blanks between them: people wrote down what was said.
    phonemes_given: bool = False
    #: Form of the Unicode standard in which accents are written.
    unicode_form: Annotated[str, OneOf(*CHOICES["unicode_form"])] = "NFC"
    #: Letters in one case halve what there is to learn.
    case: Annotated[str, OneOf(*CHOICES["case"])] = "lower"
    #: Punctuation, symbols and control characters.
    punctuation: Annotated[str, OneOf(*CHOICES["punctuation"])] = "remove"
    #: Digits; "refuse" stops at a text that has some (numbers are to be spelled out).
    digits: Annotated[str, OneOf(*CHOICES["digits"])] = "keep"
    #: Typographic apostrophes.
    apostrophes: Annotated[str, OneOf(*CHOICES["apostrophes"])] = "straight"
    #: Token between words; null for scripts without spaces.
    word_delimiter: str | None = "|"
    #: The transcripts mark slots, as `a <size>small</size> latte` (docs/slots.md): each mark is one token.
    slots: bool = False
    #: Characters seen less often get no token.
    min_count: Count = 1
    #: A transcript with a character that has no token: an "error" before the first update, "skip" and list the clip,
    #: or the token for "unknown". Clips of an evaluation are not skipped: such characters are errors there.
    on_unknown: Annotated[str, OneOf("error", "skip", "unknown")] = "error"
    #: The error rate by which one model of the run is better than another; "cer" where nearly every word is wrong;
    #: "slot_error", of marked slots, 1 less the F1 of their values. A model of phones has one alone, that of phones.
    judged_by: Annotated[str, OneOf("wer", "cer", "slot_error")] = "wer"

    def problems(self) -> Iterator[Problem]:
        """What is chosen for letters has no meaning for phones; slots have errors where there are some."""
        if self.judged_by == "slot_error" and not self.slots:
            yield "judged_by", "is of marked slots: text.slots=true, or wer or cer"
        if self.phonemes is None:
            if self.phonemes_given:
                yield "phonemes_given", "goes with text.phonemes, which names the language"
            return
        if self.slots:
            yield "slots", "are marked in texts of letters: leave out text.phonemes"
        if not self.phonemes.strip():
            yield "phonemes", "must be espeak-ng's code of a language, as en-us; null for letters"
        for name in ("unicode_form", "case", "punctuation", "digits", "apostrophes"):
            if getattr(self, name) != getattr(TextSection, name):
                yield name, "is for letters: with text.phonemes, espeak-ng reads the text as it is written"


@dataclass
class TuningSection:
    """Which weights are trained, and when."""

    #: Updates in which only the new head is trained (paper: 10,000); null: it is all that is ever trained.
    freeze_updates: CountOrZero | None = 10_000
    #: "full": all weights but the convolutional encoder. "adapter": MMS language adapter and head. "lora": low-rank
    #: additions (arXiv 2106.09685) and the head.
    method: Annotated[str, OneOf("full", "adapter", "lora")] = "full"
    #: Name of the language whose adapter is trained and saved, as "fao"; "adapter" alone.
    language: str | None = None
    #: Rank of the additions; "lora" alone, as the fields below.
    lora_rank: Count = 16
    #: The additions are scaled by alpha / rank.
    lora_alpha: Positive = 32.0
    #: Dropout before the additions.
    lora_dropout: Share = 0.05
    #: Linear layers that get an addition, by the end of their names.
    lora_targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "out_proj"])
    #: Compute the convolutions of a clip once, where they are not trained, and keep their output (16 bits a number) in
    #: "memory" or on the "disk", in the folder of the run; null computes it each time. Where the head alone is ever
    #: trained and nothing is drawn below it, the Transformer's output is kept instead.
    keep_features: Annotated[str, OneOf("memory", "disk")] | None = None
    #: What each process may keep; base takes 0.17 GiB for an hour of audio. The clips that come first are kept, the
    #: others computed each time.
    keep_features_gib: Positive = 2.0

    def problems(self) -> Iterator[Problem]:
        """A language goes with adapters, and LoRA needs somewhere to be."""
        if self.method == "adapter" and not self.language:
            yield "language", "must name the language of the adapter, such as tuning.language=fao"
        if self.method != "adapter" and self.language is not None:
            yield "language", "belongs to tuning.method=adapter"
        if self.method == "lora" and not self.lora_targets:
            yield "lora_targets", "must name at least one linear layer, as q_proj"


@dataclass
class StreamingSection:
    """Updates that hear as a stream does, so that one model serves live and offline (docs/finetuning.md)."""

    #: Share of the updates in which attention is in chunks (`modeling/attention_in_chunks.py`). In the others, and in
    #: evaluations, every frame sees its whole clip.
    share: Share = 0.5
    #: Seconds of a chunk, drawn between these two for each update: as often from 0.16 to 0.32 as from 0.32 to 0.64.
    chunk_seconds: tuple[Positive, Positive] = (0.16, 1.28)
    #: The right context is drawn up to so many times the chunk; 2, as `StreamingRecogniser` divides its latency. The
    #: Transformer computes it anew for every chunk: an update has up to 1 + right_chunks times as many frames.
    right_chunks: NotNegative = 2.0
    #: Seconds before its chunk that a frame sees; null: all.
    left_seconds: NotNegative | None = 8.0
    #: Frames at the beginning of a clip that every frame sees, however far back they lie (attention sinks).
    sinks: CountOrZero = 0

    def problems(self) -> Iterator[Problem]:
        """The two lengths are in order."""
        shortest, longest = self.chunk_seconds
        if shortest > longest:
            yield "chunk_seconds", "must be the shortest chunk and then the longest"
