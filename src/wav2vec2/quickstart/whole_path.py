"""`wav2vec2 quickstart`: a pretrained model and audio -> pretraining that goes on -> fine-tuning, and the same from
scratch -> language model -> measurement -> transcript -> card."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.quickstart.manifest_files import Corpus
from wav2vec2.quickstart.own_recordings import take_recordings
from wav2vec2.quickstart.recognition import (
    SCRATCH,
    DataDescription,
    build_language_model,
    measure,
    transcribe_one,
    write_model_card,
)
from wav2vec2.quickstart.resumable_stages import ResumableStages, Say, StoppedError
from wav2vec2.quickstart.spoken_corpus import CorpusSize, make_corpus
from wav2vec2.quickstart.training_stages import (
    CHECKPOINT,
    TrainingSize,
    expected_minutes,
    finetuning_run,
    pretraining_run,
)

#: What the sizes are made for, in minutes on two cores.
MINUTES = 6.0

#: Holds the settings, and marks a folder as one of a quickstart.
SETTINGS = "quickstart.json"

#: All that a quickstart leaves in its folder.
_LEFT = ("corpus", "pretraining", "finetuning", SCRATCH, "model", "evaluation", "transcripts", "stages", SETTINGS)

_SYNTHETIC = (
    "Synthetic voices alone were heard with labels: it does not recognise people.",
    "It knows the seventy words of a small grammar; others are spelled by ear.",
)


class SettingsError(ValueError):
    """The folder holds something else than was asked for."""


@dataclass(frozen=True)
class Settings:
    """What a quickstart depends on."""

    #: Every random choice follows from it.
    seed: int = 1
    #: How long it may take on two cores: scales the updates of all trainings.
    minutes: float = MINUTES
    #: The folder with one's own recordings; None makes a spoken corpus.
    audio: str | None = None
    #: The manifest with what is said in some of them.
    transcripts: str | None = None
    #: How much is spoken where there are no recordings.
    corpus: CorpusSize = field(default_factory=CorpusSize)
    #: How long the trainings are before they are scaled.
    training: TrainingSize = field(default_factory=TrainingSize)

    def __post_init__(self) -> None:
        if (self.audio is None) != (self.transcripts is None):
            raise SettingsError("--audio and --transcripts go together: a folder of audio, and a manifest with texts")
        if not self.minutes > 0 or self.seed < 0:
            raise SettingsError(f"minutes={self.minutes:g}, seed={self.seed}: must be above 0, and at least 0")

    def data(self) -> DataDescription:
        """What the data is called, and what the card says of it."""
        if self.audio is not None:
            return DataDescription(
                "own recordings", None, "own recordings, a part of them kept from training", "unknown", (), ()
            )
        sentence = "synthetic speech (espeak-ng) of sentences from a small grammar, several voices; some voices and "
        sentence += "all sentences of the test kept from training"
        return DataDescription(
            "synthetic-english-quickstart", f"seed-{self.seed}", sentence, "cc-by-sa-4.0", ("en",), _SYNTHETIC
        )


class Quickstart:
    """All stages in a folder."""

    def __init__(self, settings: Settings, output: Path, say: Say) -> None:
        self.settings, self.output, self.say = settings, output, say
        self.corpus = Corpus(output / "corpus")
        self.model = output / "model"
        self.stages = ResumableStages(output / "stages", say)

    def say_how_long(self) -> None:
        """Say how long all of it will take, unless a part is done already."""
        if not self.stages.folder.is_dir():
            minutes = expected_minutes(self.training_size())
            self.say(f"about {minutes:.0f} minutes on this machine; what is done is kept if it is stopped")

    def run(self) -> None:
        """Carry out every stage that is not done yet."""
        steps = (
            ("recordings", self.make_recordings),
            ("pretraining", self.pretrain),
            ("fine-tuning", self.finetune),
            ("from scratch", self.train_from_scratch),
            ("language model", self.build_language_model),
            ("measurement", self.measure),
            ("transcript", self.transcribe),
            ("model card", self.write_card),
        )
        for name, work in steps:
            self.stages.run(name, work)
        self.say("\nWhat it took:")
        for line in self.stages.times():
            self.say(f"  {line}")

    def make_recordings(self) -> list[str]:
        """Speak a corpus, or look through one's own recordings."""
        settings = self.settings
        if settings.audio is None or settings.transcripts is None:
            return make_corpus(self.corpus.folder, settings.corpus, settings.seed)
        return take_recordings(self.corpus.folder, Path(settings.audio), Path(settings.transcripts), settings.seed)

    def pretrain(self) -> list[str]:
        """Learn from audio alone."""
        from wav2vec2.training.pretraining import pretrain
        from wav2vec2.training.progress.training_log import read_log

        run = pretraining_run(self.corpus, self.output / "pretraining", self.training_size(), self.settings.seed)
        pretrain(run)
        self._finished("pretraining")
        told = [line["accuracy"] for line in read_log(self.output / "pretraining") if line["kind"] == "training"]
        return [
            f"`{CHECKPOINT}`, which comes with wav2vec2, goes on for {run.run.updates} updates of "
            f"{run.data.seconds_per_update:g} s without labels: the masked piece of sound is told from 100 others in "
            f"{told[0]:.0%} of the cases at first, {told[-1]:.0%} at last (guessing: 1 %)",
            "that is to see how it is done: it takes hours of audio, and of time, to change what the model knows",
        ]

    def finetune(self) -> list[str]:
        """Learn to spell."""
        return self._learn_to_spell(self.output / "pretraining" / "model", "finetuning")

    def train_from_scratch(self) -> list[str]:
        """What the same labels give the same shape without pretraining."""
        return self._learn_to_spell(None, SCRATCH)

    def _learn_to_spell(self, checkpoint: Path | None, name: str) -> list[str]:
        from wav2vec2.training.finetuning import finetune
        from wav2vec2.training.progress.training_log import read_log

        output = self.output / name
        run = finetuning_run(self.corpus, checkpoint, output, self.training_size(), self.settings.seed)
        finetune(run)
        self._finished(name)
        rates = [line["wer"] for line in read_log(output) if line["kind"] == "evaluation"]
        return [
            f"{run.run.updates} updates of {run.data.seconds_per_update:g} s with labels; WER on the recordings to "
            f"choose by: {', '.join(f'{rate:.0%}' for rate in rates)}"
        ]

    def build_language_model(self) -> list[str]:
        """Train n-grams on the texts, and find how much they should count."""
        return build_language_model(self.output / "finetuning" / "model", self.corpus, self.model)

    def measure(self) -> list[str]:
        """Measure on the test set how often the model is wrong, and the one from scratch."""
        scratch, data = self.output / SCRATCH / "model", self.settings.data()
        return measure(self.model, scratch, self.corpus, data, self.output / "evaluation")

    def transcribe(self) -> list[str]:
        """Transcribe a recording, with the times of its words."""
        return transcribe_one(self.model, self.corpus, self.output / "transcripts")

    def write_card(self) -> list[str]:
        """Write the model card: what others have to know of the model."""
        runs = {name: self.output / name for name in ("pretraining", "finetuning")}
        lines = write_model_card(self.model, self.settings.data(), self.output / "evaluation", runs)
        reports = ", ".join(str(folder / "report.html") for folder in runs.values())
        if self.settings.audio is not None:
            lines.append(
                "its licence is `unknown`: change it in README.md before others get the model; the weights that it "
                "started from are CC BY-SA 4.0, which asks for the same or a compatible one"
            )
        return [*lines, f"reports: {reports}, {self.output / 'evaluation' / 'evaluation.html'}"]

    def training_size(self) -> TrainingSize:
        """The runs, scaled to the time that is given."""
        return self.settings.training.scaled(self.settings.minutes / MINUTES)

    def _finished(self, name: str) -> None:
        if not (self.output / name / "model").is_dir():
            raise StoppedError(f"{name} was stopped and is saved; the same command goes on from there")


def quickstart(settings: Settings, output: Path, fresh: bool = False, say: Say = lambda line: None) -> None:
    """Run it in `output`, from where it stands there, or with `fresh` from the beginning."""
    prepare_folder(settings, output, fresh)
    path = Quickstart(settings, output, say)
    path.say_how_long()
    path.run()


def prepare_folder(settings: Settings, output: Path, fresh: bool) -> None:
    """A folder that is empty, or of a quickstart with these settings. Nothing else is ever deleted in it."""
    file = output / SETTINGS
    if output.exists() and not output.is_dir():
        raise SettingsError(f"--output: {output} is not a folder")
    if output.is_dir() and any(output.iterdir()) and not file.is_file():
        raise SettingsError(f"--output: {output} holds other files; choose an empty folder or a new one")
    if fresh and file.is_file():
        for name in _LEFT:
            path = output / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    wanted = json.loads(json.dumps(asdict(settings)))
    if file.is_file():
        _refuse_other_settings(file, wanted, output)
        return
    output.mkdir(parents=True, exist_ok=True)
    with replaced_file(file) as stream:
        stream.write((json.dumps(wanted, indent=1) + "\n").encode("utf-8"))


def _refuse_other_settings(file: Path, wanted: dict[str, Any], output: Path) -> None:
    """What was begun with some settings, which the file holds, cannot go on with others."""
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        saved = None
    if not isinstance(saved, dict):
        raise SettingsError(f"{file}: cannot be read as the settings of a quickstart; --fresh starts over")
    differing = [name for name in wanted if saved.get(name) != wanted[name]]
    if differing:
        told = "; ".join(f"{name}: {saved.get(name)} there, {wanted[name]} asked for" for name in differing)
        raise SettingsError(
            f"--output: {output} holds a quickstart with other settings ({told}). --fresh starts over, another "
            "--output keeps it"
        )
