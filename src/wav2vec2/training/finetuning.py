"""Fine-tuning with CTC: a run as `wav2vec2 finetune` starts it."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from wav2vec2.baselines import SPECTROGRAM_MODELS
from wav2vec2.baselines.spectrogram.spectrogram_config import SpectrogramCTCConfig
from wav2vec2.baselines.spectrogram.spectrogram_model import SpectrogramForCTC
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.for_ctc import Wav2Vec2ForCTC
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.espeak import check_language
from wav2vec2.processing.processor import Wav2Vec2Processor, load_tokenizer
from wav2vec2.training.checks.clips import ClipSource, clip_sources
from wav2vec2.training.checks.examination import examine
from wav2vec2.training.checks.report import DataProblemsError, ValidationReport
from wav2vec2.training.checks.texts import spell
from wav2vec2.training.ctc_tokenizers import CanBeSpelled, ChosenTokenizer, choose_tokenizer, lenient, strict
from wav2vec2.training.data.audio_clips import Skipped
from wav2vec2.training.data.bad_files import BadFiles
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.model_making import config_of, make_extractor, make_model, start_afresh
from wav2vec2.training.run_output import RunOutput, StartError
from wav2vec2.training.saving.checkpoints import Saveable
from wav2vec2.training.settings.random_seeds import seed_of
from wav2vec2.training.settings.recipes import check_run
from wav2vec2.training.settings.run_config import FinetuneRun
from wav2vec2.training.starting import opened, started
from wav2vec2.training.tasks.ctc_task import CTCTask, Stages
from wav2vec2.training.tasks.drawn_chunks import DrawnChunks
from wav2vec2.training.tasks.slot_text_task import SlotTextTask
from wav2vec2.training.tuning_methods import apply_tuning

#: The parts of a head for CTC, by their names among the modules.
_HEAD = ("recurrent_head", "lm_head")

#: The share of blank frames that a new head begins with.
_BLANKS = 0.7

#: What writes text.
Recogniser = Wav2Vec2ForCTC | SpectrogramForCTC

#: The clips of training and, if there are any, of evaluations, as checks see them.
Sources = tuple[ClipSource, ClipSource | None]

#: What was counted in the training text when the vocabulary was chosen.
VOCABULARY_FILE = "vocabulary.txt"


@dataclass(frozen=True)
class Prepared:
    """All that a run needs before its first update."""

    #: The audio and its transcripts.
    data: TrainingData
    #: What makes inputs and labels of them, and is saved with the model.
    processor: Wav2Vec2Processor
    #: The model, with the weights that it starts from.
    model: Recogniser
    #: What is learnt.
    task: CTCTask
    #: What else every checkpoint holds: a language adapter, additions of low rank.
    saved_beside: list[Saveable]
    #: What is to be said of all that.
    notes: list[str]


def finetune(run: FinetuneRun, resume: bool = True) -> Path:
    """Fine-tune until `run.run.updates` updates are done, from the newest whole checkpoint if there is one.

    Before the first update everything about the data that would spoil the run is an error (`DataProblemsError`).
    """
    check_run(run)
    require_scorer(run)
    if run.text.phonemes is not None:
        check_language(run.text.phonemes)
    with opened(run, resume, lambda output: prepare_finetuning(run, output)) as (accelerator, output, ready):
        beside = [ready.processor, *ready.saved_beside]
        with started(run, accelerator, output, ready.model, ready.task, ready.data, beside, ready.notes) as loop:
            loop.train()
    return Path(run.run.output)


def prepare_finetuning(run: FinetuneRun, output: RunOutput | None = None) -> Prepared:
    """Data, tokens, model and task of a run, checked against each other, and against what lies in its output folder."""
    main = output is None or output.main
    data = TrainingData(run.data, run.run.seed, with_text=True)
    sources = clip_sources(data)
    chosen = choose_tokenizer(run, sources[0])
    if output is not None and output.newest is not None:
        refuse_other_tokens(output.folder, load_tokenizer(output.newest, strict=True), chosen.tokenizer)
    extractor, about_input = make_extractor(run.model, run.data.normalize)
    processor = Wav2Vec2Processor(extractor, strict(chosen.tokenizer))
    model, about_model = make_ctc_model(run, chosen.tokenizer, chosen.keeps_head)
    report = check_data(run, sources, processor, model.config, main, chosen.head_tokens)
    saved_beside = apply_tuning(model, run.tuning, run.run.seed) if isinstance(model, Wav2Vec2ForCTC) else []
    spelling = spelling_of(run, processor.tokenizer)
    skipped = list(clips_to_skip(run, sources, processor.tokenizer, spelling))
    if main:
        write_findings(run, chosen, skipped)
    if run.text.on_unknown == "skip":
        data = data.without_unknown(CanBeSpelled(processor.tokenizer), CanBeSpelled(spelling))
    chunks = chunks_of(run, model.config)
    if chunks is not None:
        chunks.tell(model.config)
    kind = SlotTextTask if run.text.slots else CTCTask
    task = kind(model.config, copy.copy(extractor), spelling, run.run.seed, stages_of(run), chunks)
    if not task.of_phones:
        task.criterion = run.text.judged_by
    notes = [*about_model, *about_input, *chosen.notes, *report.lines()]
    return Prepared(data, processor, model, task, saved_beside, notes)


def make_ctc_model(run: FinetuneRun, tokenizer: Wav2Vec2CTCTokenizer, keep_head: bool) -> tuple[Recogniser, list[str]]:
    """A model with one logit for each token, and what is to be said of it."""
    model, missing, notes = make_model(
        recogniser_class(run),
        run.model,
        run.run.attention,
        head=_HEAD,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.blank_id,
    )
    checkpoint = run.model.checkpoint
    keep_head = keep_head and checkpoint is not None and has_head_of(checkpoint, model.config)
    if not keep_head:
        start_head_afresh(model, run.run.seed)
    parts = [name for name in _HEAD if getattr(model, name, None) is not None]
    fresh = missing + ([] if keep_head else [f"{' and '.join(parts)}, the head of {len(tokenizer)} tokens"])
    start = f"starts afresh: {', '.join(fresh)}" if fresh else "nothing starts afresh: the head is kept"
    if checkpoint is None:
        start = "from scratch: no weight is pretrained"
    return model, [start, *notes]


def recogniser_class(run: FinetuneRun) -> type[Recogniser]:
    """What the run trains: wav2vec 2.0, or a network on log-mel energies, which is not asked for what it lacks."""
    config = config_of(run.model)
    if isinstance(config, Wav2Vec2Config):
        return Wav2Vec2ForCTC
    for key, problem in run.problems_of_spectrogram_model():  # of a checkpoint, which settings alone do not know
        raise StartError(f"{key}: {problem}")
    kind = SPECTROGRAM_MODELS[config.model_type]
    if not issubclass(kind, SpectrogramForCTC):
        raise StartError(f"model: a {config.model_type} model gives labels to whole clips and writes no text")
    return kind


def has_head_of(checkpoint: str, config: Wav2Vec2Config | SpectrogramCTCConfig) -> bool:
    """Whether a checkpoint's CTC head is of the kind, the size and the stride that the configuration asks for."""
    if not isinstance(config, Wav2Vec2Config):
        return True  # there is one kind alone
    saved = Wav2Vec2Config.from_pretrained(checkpoint)
    fields = ("ctc_head", "ctc_head_size", "ctc_head_layers", "ctc_head_stride")
    compared = fields if config.ctc_head == "recurrent" else fields[:1]
    return all(getattr(saved, name) == getattr(config, name) for name in compared)


def start_head_afresh(model: Recogniser, seed: int) -> None:
    """Small random weights, and a bias that makes seven frames in ten blank, as trained models have them.

    Without the bias CTC runs begin with hundreds of updates in which the model finds the blank and writes nothing else,
    or, where frames have much in common, fills them with letters and stays there; with it letters come after some
    eighty. Weights of zero do not help: through them nothing reaches the encoder (docs/finetuning.md).
    """
    head = model.lm_head
    if isinstance(model, Wav2Vec2ForCTC) and model.recurrent_head is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("recurrent head", seed))
            model.start_afresh(model.recurrent_head)
    start_afresh(head, seed, model.config.initializer_range)
    with torch.no_grad():
        head.bias[model.config.pad_token_id] = math.log(_BLANKS / (1 - _BLANKS) * (head.out_features - 1))


def check_data(
    run: FinetuneRun,
    sources: Sources,
    processor: Wav2Vec2Processor,
    config: Wav2Vec2Config | SpectrogramCTCConfig,
    main: bool,
    head_tokens: list[str] | None = None,
) -> ValidationReport:
    """Whether data and model belong together, kept in the output folder whatever comes out. `head_tokens`: those that
    a head that is kept was trained for."""
    report = examine(
        *sources,
        processor.tokenizer,
        processor.feature_extractor,
        config,
        on_unknown=run.text.on_unknown,
        max_bad_share=run.data.max_bad_share,
        saved_tokens=head_tokens,
        seed=run.run.seed,
    )
    if main:
        report.save(run.run.output)
    if report.problems and run.data.on_problems == "stop":
        raise DataProblemsError(report)
    return report


def stages_of(run: FinetuneRun) -> Stages:
    """What the plateau of an evaluation is explained by."""
    updates = run.run.updates
    return Stages(run.tuning.freeze_updates, round(run.schedule.warmup * updates), updates)


def chunks_of(run: FinetuneRun, config: Wav2Vec2Config | SpectrogramCTCConfig) -> DrawnChunks | None:
    """What frames see in each update, where the run says so. What comes behind the Transformer must not see more."""
    if run.streaming is None or not isinstance(config, Wav2Vec2Config):
        return None
    for name, taken in (("ctc_head", "linear"), ("add_adapter", False)):
        if getattr(config, name) != taken:
            raise StartError(
                f"streaming: the model has {name}={getattr(config, name)}, which hears beyond every chunk; a stream "
                f"needs model.config.{name}={taken}"
            )
    return DrawnChunks(run.streaming, config, run.run.seed)


def require_scorer(run: FinetuneRun) -> None:
    """Evaluations need jiwer: better to know now than after an hour."""
    if run.data.valid and find_spec("jiwer") is None:
        raise ImportError('evaluations need jiwer, which is not installed: pip install "wav2vec2[train]"')


def refuse_other_tokens(output: Path, before: Wav2Vec2CTCTokenizer, now: Wav2Vec2CTCTokenizer) -> None:
    """A run that is resumed spells as it did: after a change of text or choices, a head's logits would get other
    meanings without a word."""
    if said_with(before) != said_with(now):
        raise StartError(
            f"run.output={output} holds a run with another vocabulary ({len(before)} tokens, now {len(now)}) or other "
            "choices under text: the training text or text.* have changed since. Put them back, or choose another "
            "output"
        )


def said_with(tokenizer: Wav2Vec2CTCTokenizer) -> tuple[object, ...]:
    """All on which the labels of a text depend."""
    language = getattr(tokenizer, "phonemizer_lang", None), getattr(tokenizer, "do_phonemize", None)
    return tokenizer.tokens, tokenizer.normalization, *language


def spelling_of(run: FinetuneRun, tokenizer: Wav2Vec2CTCTokenizer) -> Wav2Vec2CTCTokenizer:
    """What the run spells with. Training clips with unknown characters may be skipped, but not those of an evaluation:
    its error rate would be that of the easier ones. There they are the token for what is unknown, and errors."""
    if run.text.on_unknown == "error" or (run.text.on_unknown == "skip" and tokenizer.unk_token is None):
        return tokenizer
    return lenient(tokenizer)


def clips_to_skip(
    run: FinetuneRun, sources: Sources, tokenizer: Wav2Vec2CTCTokenizer, scoring: Wav2Vec2CTCTokenizer
) -> Iterator[Skipped]:
    """The clips that are left out because of a character without a token; those of an evaluation only if their texts
    cannot be spelled for `scoring` either."""
    if run.text.on_unknown != "skip":
        return
    for source, other in zip(sources, (tokenizer, scoring), strict=True):
        if source is None:
            continue
        found = spell(source, tokenizer)
        odd = dict.fromkeys(sorted(found.with_unknown), "characters without a token") if other.strict else {}
        yield from (Skipped(source.id(index), reason) for index, reason in {**odd, **found.refused}.items())


def write_findings(run: FinetuneRun, chosen: ChosenTokenizer, skipped: list[Skipped]) -> None:
    """What was counted in the text, and which clips are left out for it."""
    output = Path(run.run.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / VOCABULARY_FILE).write_text("\n".join(chosen.notes) + "\n", encoding="utf-8")
    BadFiles(output / "dropped.tsv", most=1.0).add(skipped, used=0)
