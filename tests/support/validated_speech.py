"""Made-up speech to be validated: voices of a known pitch, and sentences of a known speed, in files with manifests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.training.checks.clips import clip_sources
from wav2vec2.training.checks.examination import examine
from wav2vec2.training.checks.report import ValidationReport
from wav2vec2.training.data.batch_loading import TrainingData
from wav2vec2.training.settings.run_config import FinetuneDataSection, Source

RATE = 16000
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PANGRAM = "once upon a time there was quick brown fox who jumped over some very lazy dogs in park by sea"
WORDS = PANGRAM.split()


def voice(seed: int, seconds: float, pitch: float = 120.0, rate: int = RATE) -> NDArray[np.float64]:
    """Harmonics of a wavering fundamental that fall by 6 dB an octave, in syllables: the same at every rate."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * pitch * (time + 0.004 * np.sin(2 * np.pi * 3 * time))
    wave = sum(np.cos(n * phase + generator.uniform(0, 6)) / n for n in range(1, 24))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time + generator.uniform(0, 6))
    samples: NDArray[np.float64] = 0.12 * wave * syllables
    return samples


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest and the file it is of; `true_rate` is that of the samples, `header` that of the file."""

    name: str
    text: str
    seconds: float
    seed: int
    speaker: str = "anna"
    true_rate: int = RATE
    header: int | None = None
    channels: int = 1
    labelled: int | None = None
    said_seconds: float | None = None

    def write(self, folder: Path) -> str:
        """Write the file, return its line."""
        samples = voice(self.seed, self.seconds, rate=self.true_rate)
        rate = self.header or self.true_rate
        if self.channels > 1:
            samples = np.stack([samples] * self.channels, axis=1)
        soundfile.write(folder / self.name, samples, rate)
        seconds = len(samples) / rate if self.said_seconds is None else self.said_seconds
        return f"{self.name}\t{seconds:.4f}\t{self.labelled or rate}\t{self.speaker}\t{self.text}"


def sentences(count: int, prefix: str, seed: int = 0, speaker: str = "anna") -> list[Utterance]:
    """Sentences at about 14 characters a second, no two with the same text."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        text = " ".join(generator.permutation(WORDS)[: generator.integers(3, 7)])
        seconds = round(len(text) / generator.uniform(12, 16), 3)
        found.append(Utterance(f"{prefix}{number:02d}.wav", text, seconds, seed * 1000 + number, speaker))
    return found


def changed(utterances: Sequence[Utterance], index: int, **changes: Any) -> list[Utterance]:
    """The same with one of them changed."""
    return [replace(one, **changes) if number == index else one for number, one in enumerate(utterances)]


def manifest(folder: Path, name: str, utterances: Sequence[Utterance]) -> Path:
    """Write files and manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path\tduration\tsample_rate\tspeaker\ttranscript", *(one.write(folder) for one in utterances)]
    path = folder / f"{name}.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def letters(tokens: str = LETTERS, **settings: Any) -> Wav2Vec2CTCTokenizer:
    """A tokenizer of these letters."""
    names = ["<pad>", "<unk>", "|", *tokens]
    return Wav2Vec2CTCTokenizer({token: number for number, token in enumerate(names)}, **settings)


def config_of(tokenizer: Wav2Vec2CTCTokenizer, **changes: Any) -> Wav2Vec2Config:
    """The config of a model that goes with it."""
    return Wav2Vec2Config(**{"vocab_size": len(tokenizer), "pad_token_id": tokenizer.blank_id, **changes})


def section(train: Path, valid: Path | None = None, **changes: Any) -> FinetuneDataSection:
    """The data of a run, durations kept beside the manifest."""
    return FinetuneDataSection(
        train=[Source(str(train))],
        valid=[] if valid is None else [Source(str(valid))],
        cache=str(train.parent / "cache"),
        **changes,
    )


def report_of(
    train: Path, valid: Path | None = None, tokenizer: Wav2Vec2CTCTokenizer | None = None, **options: Any
) -> ValidationReport:
    """What validation finds in these manifests."""
    tokenizer = tokenizer or letters()
    sources = clip_sources(TrainingData(section(train, valid), 1, with_text=True))
    config = options.pop("config", None) or config_of(tokenizer)
    return examine(*sources, tokenizer, Wav2Vec2FeatureExtractor(), config, **options)


def kinds(report: ValidationReport, severity: Any = "problem") -> list[tuple[str, str]]:
    """(kind, where) of the findings of a severity."""
    return [(finding.kind, finding.where) for finding in report.of(severity)]
