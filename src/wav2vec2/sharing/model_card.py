"""The model card, written from the evaluation and the facts of the run. What was not measured is said not to be.

Every figure comes from an argument; this file adds words. `evaluation.evaluation_run` makes the evaluation, the first
line of a run's `log.jsonl` holds the facts.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from wav2vec2.evaluation.evaluation import Evaluation
from wav2vec2.evaluation.label_evaluation import KIND, LabelEvaluation
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.sharing import evaluation_tables, label_tables
from wav2vec2.sharing.card_metadata import metadata_problems
from wav2vec2.sharing.card_usage import usage_section
from wav2vec2.sharing.evaluation_tables import weights_problems
from wav2vec2.sharing.publishable_files import Secrets, private_lines

#: Stands for the name on the Hub until `push` knows it.
REPOSITORY = "USER/NAME"
CARD = "README.md"

#: Files that a run, an evaluation and a checkpoint leave in their folders.
_LOG, _CURVES, _EVALUATION, _CONFIG = "log.jsonl", "report.png", "evaluation.json", "config.json"
#: What `wav2vec2 average` leaves in the folder of a mean.
_AVERAGE = "average.json"

#: What is told of a run, in this order: key of the facts, what it is called, how it is written.
_FACTS: tuple[tuple[str, str, str], ...] = (
    ("recipe", "recipe", "{}"),
    ("model", "started from", "{}"),
    ("data", "audio", "{}"),
    ("hours", "hours of audio", "{:.3f}"),
    ("clips", "clips", "{}"),
    ("speeds", "copies at other speeds among these", "{}"),
    ("seconds_per_update", "seconds of audio per update", "{:g}"),
    ("updates", "updates", "{}"),
    ("epochs", "times through the data", "{:.2f}"),
    ("learning_rate", "learning rate", "{:g}"),
    ("weights", "weights", "{}"),
    ("parameters", "parameters", "{}"),
    ("trained_parameters", "parameters that were trained", "{}"),
    ("precision", "precision", "{}"),
    ("hardware", "hardware", "{}"),
    ("processes", "processes", "{}"),
    ("wall_seconds", "wall time of the updates in seconds", "{:.0f}"),
    ("seed", "seed", "{}"),
    ("commit", "commit of the code", "{}"),
    ("versions", "versions", "{}"),
)

#: By the end of a class's name, the task under which the Hub lists it.
_PIPELINES = {"ForCTC": "automatic-speech-recognition", "Classification": "audio-classification"}

#: Of these, a run that says nothing has none.
_IF_ANY = ("speeds",)


class CardError(ValueError):
    """A card that would not be true, or that the Hub would not take."""


@dataclass(frozen=True)
class CardFacts:
    """What nobody can measure and the author has to say."""

    #: Of the weights: an identifier of the Hub, such as apache-2.0; the licence of the data limits it.
    license: str
    #: Codes of ISO 639, such as en or swh.
    languages: Sequence[str] = ()
    #: What the card is headed with; None takes the name of the repository or of the folder.
    title: str | None = None
    #: Names on the Hub of what it was trained on.
    datasets: Sequence[str] = ()
    #: Name on the Hub of the checkpoint that it was trained from.
    base_model: str | None = None
    #: What the licence is called, for license="other".
    license_name: str | None = None
    #: Where the licence can be read, for license="other".
    license_link: str | None = None
    #: Sentences on what it should not be used for, beside those that always hold.
    limitations: Sequence[str] = ()
    #: Words by which the Hub finds it, beside those that every card has.
    tags: Sequence[str] = ()


def write_card_from_files(
    folder: Path, facts: CardFacts, evaluation: Path | None = None, run: Path | None = None, data: str | None = None
) -> Path:
    """Write the card of a model folder; the evaluation and the picture of the run's curves are put beside it.

    `data` says in a sentence what the audio is. The card is refused, or written whole.
    """
    for path, needed in ((folder / _CONFIG, True), (evaluation, False), (run and run / _LOG, False)):
        if path is not None and not path.is_file():
            what = "is no folder of a model: it has no config.json" if needed else "no such file"
            raise CardError(f"{folder if needed else path}: {what}")
    measured = None if evaluation is None else json.loads(evaluation.read_text(encoding="utf-8"))
    told = {} if run is None else facts_of_log(run / _LOG)
    if measured is not None and "parameters" in told:
        parameters, trained = measured["model"]["parameters"], told["parameters"]
        if abs(parameters - trained) > 0.1 * parameters:  # low-rank additions, which the run counts, are hundredths
            raise CardError(
                f"the evaluation is of a model of {parameters:,} parameters, the run of one of {trained:,}: they are "
                "not of the same model"
            )
    if (folder / _AVERAGE).is_file():
        updates = json.loads((folder / _AVERAGE).read_text(encoding="utf-8"))["mean_of_updates"]
        each = f"; each: {told['weights']}" if "weights" in told else ""
        told["weights"] = f"mean of those after updates {', '.join(map(str, updates))}{each}"
    if data is not None:
        told["data"] = data
    if run is not None and (run / _CURVES).is_file():
        shutil.copyfile(run / _CURVES, folder / _CURVES)
    written = write_card(folder, facts, measured, told)
    if evaluation is not None and evaluation.resolve() != (folder / _EVALUATION).resolve():
        shutil.copyfile(evaluation, folder / _EVALUATION)
    return written


def write_card(
    folder: Path | str,
    facts: CardFacts,
    evaluation: Evaluation | LabelEvaluation | Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    repository: str = REPOSITORY,
) -> Path:
    """Write `README.md` into the folder of a checkpoint, replacing an older one whole.

    `evaluation` is an `Evaluation`, a `LabelEvaluation` or the JSON object of one, `run` the facts of the training
    run: those of its log and `commit`, `wall_seconds` and `data` (a sentence). Metadata that the Hub would refuse, a
    path of this machine, a token, and an evaluation of other weights than the folder's are a `CardError`.
    """
    folder = Path(folder)
    if isinstance(evaluation, Mapping):
        kind = LabelEvaluation if evaluation.get("kind") == KIND else Evaluation
        evaluation = kind.from_json(json.dumps(evaluation))
    text = card_text(folder, facts, evaluation, run or {}, repository)
    machine = replace(Secrets.of_this_machine(), names=())  # words of a text may be names; `push` knows the publisher
    problems = metadata_problems(text) + [str(one) for one in private_lines(text, CARD, machine)]
    problems += weights_problems(folder, text)
    if problems:
        raise CardError("the card would be refused:\n  " + "\n  ".join(problems))
    with replaced_file(folder / CARD) as stream:
        stream.write(text.encode("utf-8"))
    return folder / CARD


def card_text(
    folder: Path,
    facts: CardFacts,
    evaluation: Evaluation | LabelEvaluation | None,
    run: Mapping[str, Any],
    repository: str,
) -> str:
    """The whole card of a checkpoint folder."""
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["an unknown class"])[0]
    title = facts.title or (repository.split("/")[-1] if repository != REPOSITORY else folder.resolve().name)
    pictures = sorted(path.name for path in folder.glob("report*.png"))
    template = Template(files("wav2vec2.sharing").joinpath("model_card_template.md").read_text(encoding="utf-8"))
    filled = template.substitute(
        metadata=_metadata(facts, evaluation, architecture, title),
        title=title,
        summary=_summary(facts, architecture),
        results=_results(evaluation),
        not_measured=_not_measured(evaluation),
        training=training_section(run, facts),
        curves="\n\n".join(f"![Curves of the training run]({name})" for name in pictures),
        usage=usage_section(
            architecture, repository, (folder / "decoder.json").is_file(), config.get("ctc_head") == "recurrent"
        ),
        licence=_licence(facts),
        limits=_limits(facts, evaluation, architecture),
    )
    return re.sub(r"\n{3,}", "\n\n", filled).rstrip() + "\n"


def facts_of_log(log: Path | str) -> dict[str, Any]:
    """The facts in the first line of a run's `log.jsonl`, and the wall time of its updates together."""
    facts: dict[str, Any] = {}
    seconds = 0.0
    for line in Path(log).read_text(encoding="utf-8").splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        if content.get("kind") == "run":
            facts = content
        seconds += content.get("wall_seconds") or 0.0
    return facts | {"wall_seconds": seconds} if seconds else facts


def training_section(run: Mapping[str, Any], facts: CardFacts) -> str:
    """A table of the facts of the run; those that nobody recorded are named."""
    lines = ["| | |", "|---|---|"]
    missing = []
    for key, name, form in _FACTS:
        value = run.get(key)
        if value is None and key in _IF_ANY:
            continue
        if value is None:
            missing.append(name)
        elif isinstance(value, Mapping):
            lines.append(f"| {name} | {', '.join(f'{part} {text}' for part, text in value.items())} |")
        else:
            lines.append(f"| {name} | {form.format(value)} |")
    names = ", ".join(f"`{name}`" for name in facts.datasets)
    before = f"Trained on {names}.\n\n" if names else ""
    table = "\n".join(lines) if len(lines) > 2 else ""
    after = f"\n\nNot recorded: {', '.join(missing)}." if missing else ""
    return f"{before}{table}{after}".strip()


def _results(evaluation: Evaluation | LabelEvaluation | None) -> str:
    if evaluation is None:
        return "Nothing: no evaluation was made of these weights. How often they are wrong is not known."
    if isinstance(evaluation, LabelEvaluation):
        return label_tables.results_section(evaluation)
    return evaluation_tables.results_section(evaluation)


def _metadata(facts: CardFacts, evaluation: Evaluation | LabelEvaluation | None, architecture: str, title: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results: list[EvalResult] = []
    if isinstance(evaluation, LabelEvaluation):
        results = label_tables.eval_results(evaluation)
    elif evaluation is not None:
        results = evaluation_tables.eval_results(evaluation)
    data = ModelCardData(
        language=list(facts.languages) or None,
        license=facts.license,
        license_name=facts.license_name,
        license_link=facts.license_link,
        library_name="transformers",
        pipeline_tag=next((tag for head, tag in _PIPELINES.items() if architecture.endswith(head)), None),
        tags=list(dict.fromkeys(["wav2vec2", "speech", "audio", *facts.tags])),
        datasets=list(facts.datasets) or None,
        base_model=facts.base_model,
        metrics=list(dict.fromkeys(one.metric_type for one in results)) or None,
        model_name=title if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _summary(facts: CardFacts, architecture: str) -> str:
    what = {
        "Wav2Vec2ForCTC": "A wav2vec 2.0 model that turns speech into text (CTC)",
        "CRNNForCTC": "A CRNN on log-mel energies that turns speech into text (CTC)",
        "TimeFrequencyLSTMForCTC": "A time-frequency LSTM on log-mel energies that turns speech into text (CTC)",
        "Wav2Vec2ForPreTraining": "A wav2vec 2.0 model, pretrained on speech without transcripts. It writes no text "
        "before it is fine-tuned",
        "Wav2Vec2ForSequenceClassification": "A wav2vec 2.0 model that gives whole recordings labels",
        "Wav2Vec2ForAudioFrameClassification": "A wav2vec 2.0 model that says what is heard when",
        "CRNNForSequenceClassification": "A CRNN on log-mel energies that gives whole recordings labels",
        "DepthwiseCNNForSequenceClassification": "A network on log-mel energies that gives whole recordings labels",
    }.get(architecture, f"A wav2vec 2.0 model ({architecture})")
    based = (
        f", trained from [{facts.base_model}](https://huggingface.co/{facts.base_model})" if facts.base_model else ""
    )
    is_stock = architecture.startswith("Wav2Vec2")
    files_are = " Parameter names and files are those of Transformers." if is_stock else ""
    return f"{what}{based}. It takes 16 kHz mono audio.{files_are}"


def _not_measured(evaluation: Evaluation | LabelEvaluation | None) -> str:
    if evaluation is None:
        return ""
    unknown = ["other recordings than those above (accents, noise, telephone, children, far microphones)"]
    if isinstance(evaluation, LabelEvaluation):
        unknown += label_tables.not_measured(evaluation)
    else:
        unknown += evaluation_tables.not_measured(evaluation)
    unknown.append("differences between groups of speakers, such as by age, sex or dialect")
    return f"Not measured: {'; '.join(unknown)}."


def _licence(facts: CardFacts) -> str:
    name = facts.license_name or facts.license
    named = f"[{name}]({facts.license_link})" if facts.license_link else f"`{name}`"
    languages = ", ".join(f"`{code}`" for code in facts.languages) or "not stated"
    return f"Licence of the weights: {named}. Languages (ISO 639): {languages}."


def _limits(facts: CardFacts, evaluation: Evaluation | LabelEvaluation | None, architecture: str) -> str:
    lines = list(facts.limitations)
    if architecture.endswith("ForCTC"):
        lines += [
            "Transcripts contain errors; where a wrong word does harm, a person has to check them.",
            "Output is limited to the characters of the vocabulary: no punctuation or case beyond it.",
        ]
    if evaluation is not None:
        lines.append(f"The figures hold for data like `{evaluation.data.name}`; elsewhere expect more errors.")
    lines.append("The model repeats what its training data has too much or too little of; that was not studied.")
    return "\n".join(f"- {line}" for line in lines)
