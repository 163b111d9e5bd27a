"""Slots of whole clips: a run as `wav2vec2 finetune --task slots` starts it.

A manifest says what every clip asks for (`processing/slot_tables.py`); the values that the training clips name are all
that the model can say. Slots inside of a text are another thing: CTC with tokens that open and close them
(`processing/slot_texts.py`).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch

from wav2vec2.baselines import CRNNConfig, CRNNForSlots, DepthwiseCNNConfig, DepthwiseCNNForSlots, SpectrogramConfig
from wav2vec2.modeling.for_slots import Wav2Vec2ForSlots, slot_values_of
from wav2vec2.modeling.slot_values import SlotValues
from wav2vec2.processing.manifests import ManifestError, read_manifest
from wav2vec2.processing.slot_tables import slots_of_text, text_in
from wav2vec2.training.data.audio_clips import TrainingDataError
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.model_making import config_of, make_extractor, make_model
from wav2vec2.training.run_output import StartError
from wav2vec2.training.settings.finetuning_sections import TuningSection
from wav2vec2.training.settings.random_seeds import seed_of
from wav2vec2.training.settings.recipes import check_run
from wav2vec2.training.settings.run_config import Source, SupervisedRun
from wav2vec2.training.settings.run_sections import CountOrZero
from wav2vec2.training.settings.typed_values import OneOf
from wav2vec2.training.starting import opened, started
from wav2vec2.training.tasks.slot_task import SlotTask
from wav2vec2.training.tuning_methods import apply_tuning

#: What fills slots.
SlotModel = Wav2Vec2ForSlots | CRNNForSlots | DepthwiseCNNForSlots

#: The modules of its heads, of which a model has some.
_HEAD = ("projector", "classifier", "recurrent_head", "slot_head")

#: The column of slots where none is named.
_COLUMN = "slots"

#: Values of an evaluation that are named in a note.
_NAMED = 5


@dataclass
class SlotTuningSection(TuningSection):
    """As for recognition; a head that only averages frames needs no start of its own."""

    freeze_updates: CountOrZero | None = 0


@dataclass(kw_only=True)
class SlotsRun(SupervisedRun):
    """A run that learns to fill slots. Sources are manifests; `text_column` names the column of the slots, or with
    commas between them several that are a slot each."""

    #: What is learnt: "slots", a value of each slot.
    task: Annotated[str, OneOf("slots")] = "slots"
    #: Which weights are trained, and when.
    tuning: SlotTuningSection = field(default_factory=SlotTuningSection)


def learn_slots(run: SlotsRun, resume: bool = True) -> Path:
    """Train until `run.run.updates` updates are done, from the newest whole checkpoint if there is one, and say where
    the results lie."""
    check_run(run)
    with opened(run, resume, lambda _: read_slots(run)) as (accelerator, output, (values, data, about_data)):
        model, about_model = make_slot_model(run, values)
        beside = apply_tuning(model, run.tuning, run.run.seed) if isinstance(model, Wav2Vec2ForSlots) else []
        extractor, about_input = make_extractor(run.model, run.data.normalize)
        task = SlotTask(model.config, extractor, values, run.run.seed, run.tuning.freeze_updates)
        notes = [*about_data, *about_input, *about_model]
        with started(run, accelerator, output, model, task, data, [extractor, *beside], notes) as loop:
            loop.train()
    return Path(run.run.output)


def read_slots(run: SlotsRun) -> tuple[SlotValues, TrainingData, list[str]]:
    """The values that training names, the data, and what is to be said of both."""
    for source in [*run.data.train, *run.data.valid]:
        source.text_column = source.text_column or _COLUMN
    values = slot_values(run)
    listed = [f"{name} ({len(known)} values)" for name, known in values.slots.items()]
    notes = [f"slots: {', '.join(listed)}", *unheard_values(run, values)]
    return values, TrainingData(run.data, run.run.seed, with_text=True), notes


def slot_values(run: SlotsRun) -> SlotValues:
    """Every slot and value of the training clips, in alphabetical order."""
    found: dict[str, set[str]] = {}
    for said in slots_in(run.data.train):
        for name, value in said.items():
            found.setdefault(name, set()).add(value)
    if not found:
        raise TrainingDataError("data.train: no clip says anything of a slot; there is nothing to learn")
    return SlotValues({name: sorted(found[name]) for name in sorted(found)})


def unheard_values(run: SlotsRun, values: SlotValues) -> Iterator[str]:
    """What clips of the evaluation ask for that no training clip does: each is an error there, whatever is learnt."""
    unknown = Counter(
        f"{name}={value}"
        for said in slots_in(run.data.valid)
        for name, value in said.items()
        if value not in values.slots.get(name, [])
    )
    if unknown:
        shown = ", ".join(name for name, _ in unknown.most_common(_NAMED))
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        yield f"warning: data.valid: values that no training clip has, which are errors: {shown}{more}"


def slots_in(sources: list[Source]) -> Iterator[dict[str, str]]:
    """What the clips of manifests ask for."""
    for source in sources:
        try:
            recordings = list(read_manifest(source.path))
        except (OSError, ManifestError) as error:
            raise TrainingDataError(f"{source.path}: the manifest cannot be read ({error})") from error
        for one in recordings:
            text = text_in(one, source.text_column)
            if text is None:
                raise TrainingDataError(
                    f"{source.path}: the header has no column {source.text_column}; name the column of the slots, or "
                    "one for each slot, as data.train.0.text_column=action,object,location"
                )
            try:
                yield slots_of_text(text)
            except ValueError as error:
                raise TrainingDataError(f"{source.path}: {one.path.name}: {error}") from error


def slot_model_class(run: SlotsRun) -> type[SlotModel]:
    """What the run trains: wav2vec 2.0, or a network on log-mel energies, which is not asked for what it lacks."""
    config = config_of(run.model)
    if not isinstance(config, SpectrogramConfig):
        return Wav2Vec2ForSlots
    for key, problem in run.problems_of_spectrogram_model():  # of a checkpoint, which settings alone do not know
        raise StartError(f"{key}: {problem}")
    if isinstance(config, CRNNConfig):
        return CRNNForSlots
    if isinstance(config, DepthwiseCNNConfig):
        return DepthwiseCNNForSlots
    raise StartError(f"model: a {config.model_type} model fills no slots; crnn, yamnet and wav2vec 2.0 do")


def make_slot_model(run: SlotsRun, values: SlotValues) -> tuple[SlotModel, list[str]]:
    """A model for these slots, and what is to be said of it. A checkpoint's head is kept where it has the same."""
    kind, labels = slot_model_class(run), values.labels
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    model, missing, notes = make_model(kind, run.model, run.run.attention, head=_HEAD, **names)
    if run.model.checkpoint is None:
        return model, ["from scratch: no weight is pretrained", *notes]
    if has_head_for(run.model.checkpoint, kind, model.config, values):
        said = f"starts afresh: {', '.join(missing)}" if missing else "nothing starts afresh: the head is kept"
        return model, [said, *notes]
    head = [name for name in _HEAD if getattr(model, name, None) is not None]
    start_head_afresh(model, head, run.run.seed)
    return model, [f"starts afresh: {', '.join([*missing, *head])}, the head of {len(labels)} values", *notes]


def has_head_for(checkpoint: str, kind: type[SlotModel], config: SpectrogramConfig, values: SlotValues) -> bool:
    """Whether a checkpoint's head is of the same kind, for the same values."""
    saved = kind.config_class.from_pretrained(checkpoint)
    if kind.__name__ not in (saved.architectures or []) or slot_values_of(saved) != values:
        return False
    return getattr(saved, "ctc_head", None) == getattr(config, "ctc_head", None)


def start_head_afresh(model: SlotModel, head: list[str], seed: int) -> None:
    """Weights that follow from the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("slot head", seed))
        for name in head:
            if isinstance(model, Wav2Vec2ForSlots):
                model.start_afresh(model.get_submodule(name))
            else:
                for module in model.get_submodule(name).modules():
                    getattr(module, "reset_parameters", lambda: None)()
