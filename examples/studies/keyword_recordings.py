"""The recordings of the study of keyword spotting, and the two recognisers that are made for it.

    synthetic   sentences of the quickstart's grammar by voices it keeps from training, and its model
    real        six keywords by more than fifty people (Picovoice); a model of letters from the package's `small`, fine-
                tuned on one reader of Arctic sentences and three of LibriSpeech; English speech without the keywords

Nobody who says a keyword or is in the background was heard with labels, and no keyword is taught.
"""

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from labelled_speech import RATE, labelled
from perturbed_speech import table, write_table

from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.quickstart.manifest_files import Corpus
from wav2vec2.quickstart.spoken_corpus import CorpusSize, make_corpus
from wav2vec2.quickstart.training_stages import TrainingSize, finetuning_run, pretraining_run
from wav2vec2.training.finetuning import finetune
from wav2vec2.training.pretraining import pretrain
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun

#: Who is learnt from: readers of whom the texts are known.
READERS = ("kathleen", "libri_deepspeaker")

#: Of the readers' sentences: those that choose a checkpoint, and how many minutes of the others are trained on.
DEVELOPMENT, MINUTES = 30, 15.0

_PLAIN = TextNormalization("straight", "NFC", "remove", case="lower", spaces="single")


def synthetic_model(work: Path, seed: int) -> Path:
    """The model of the quickstart: its corpus, a little more pretraining, fine-tuning. Done once."""
    corpus, size = Corpus(work / "corpus"), TrainingSize()
    if not corpus.test.is_file():
        make_corpus(corpus.folder, CorpusSize(), seed)
    if not (work / "pretraining" / "model").is_dir():
        pretrain(pretraining_run(corpus, work / "pretraining", size, seed))
    if not (work / "finetuning" / "model").is_dir():
        finetune(finetuning_run(corpus, work / "pretraining" / "model", work / "finetuning", size, seed))
    return work / "finetuning" / "model"


def real_model(speech: Path, work: Path, seed: int, updates: int) -> Path:
    """A model of letters by the recipe for `small`, on a quarter of an hour of what the readers say. Done once."""
    train, development = work / "train.tsv", work / "development.tsv"
    if not train.is_file():
        rows = [
            row | {"transcript": _PLAIN(row["transcript"])}
            for source in READERS
            for row in table(written(speech, source, work / "recordings"))
            if 1.0 <= float(row["duration"]) <= 16.0
        ]
        random.Random(0).shuffle(rows)
        write_table(development, rows[:DEVELOPMENT])
        write_table(train, labelled(rows[DEVELOPMENT:], MINUTES, seed))
    settings: dict[str, Any] = {
        "data.train.0.path": train,
        "data.valid.0.path": development,
        "data.speeds": "[0.88, 1.13]",  # of seven, for time
        "run.output": work / "finetuning",
        "run.updates": updates,
        "run.save_every": updates // 4,
        "run.evaluate_every": updates // 4,
        "run.seed": seed,
        "run.report": "false",
    }
    if not (work / "finetuning" / "model").is_dir():
        finetune(read_run(FinetuneRun, "ctc_small_minutes", [f"{name}={value}" for name, value in settings.items()]))
    return work / "finetuning" / "model"


def written(speech: Path, source: str, folder: Path) -> Path:
    """The recordings of a source for training as FLAC files, with a manifest; done once."""
    manifest = folder / f"{source}.tsv"
    if not manifest.is_file():
        rows = []
        (folder / source).mkdir(parents=True, exist_ok=True)
        for number, (audio, row) in enumerate(_of_source(speech, source)):
            path = folder / source / f"{number:04d}.flac"
            soundfile.write(path, audio, RATE)
            seconds = {"path": str(path.resolve()), "duration": f"{len(audio) / RATE:.4f}"}
            rows.append(seconds | {"speaker": row["speaker"], "transcript": row["transcript"] or ""})
        write_table(manifest, rows)
    return manifest


def _of_source(speech: Path, source: str) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    import pyarrow.parquet as parquet

    columns = ["audio", "speaker", "source", "transcript"]
    for shard in sorted(speech.glob("train-*.parquet")):
        for row in parquet.read_table(shard, columns=columns, filters=[("source", "==", source)]).to_pylist():
            yield soundfile.read(io.BytesIO(row["audio"]["bytes"]))[0], row
