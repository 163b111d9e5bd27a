"""The recordings of the study of keyword spotting, and the two recognisers that are made for it.

    synthetic   sentences of the quickstart's grammar by voices it keeps from training, and its model
    real        six keywords by more than fifty people (Picovoice); a model of letters from the package's `small`, fine-
                tuned on one reader of Arctic sentences and three of LibriSpeech; English speech without the keywords

Nobody who says a keyword or is in the background was heard with labels (the model `small` has heard some of the real
background without), and real keywords are taught to nobody. A task has three parts: two halves of background in which
no keyword is said, and `keywords`, in which each clip holds one. Clips are joined to stretches of a minute.
"""

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from labelled_speech import RATE, labelled
from perturbed_speech import table, write_table

from wav2vec2 import load_audio
from wav2vec2.processing.text_normalization import TextNormalization
from wav2vec2.quickstart.manifest_files import Corpus
from wav2vec2.quickstart.sentences import draw_sentences
from wav2vec2.quickstart.speech_synthesis import Order, fulfil
from wav2vec2.quickstart.spoken_corpus import DEVELOPMENT_VOICES, TEST_VOICES, CorpusSize, make_corpus
from wav2vec2.quickstart.training_stages import TrainingSize, finetuning_run, pretraining_run
from wav2vec2.training.finetuning import finetune
from wav2vec2.training.pretraining import pretrain
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun

#: Who is learnt from: readers of whom the texts are known.
READERS = ("kathleen", "libri_deepspeaker")

#: What is listened for: words of the grammar, that are in no sentence of the background; and what people said.
SYNTHETIC = ("captain", "guitar", "harbour", "newspaper", "thunder", "rabbit")
REAL = ("alexa", "computer", "jarvis", "smart mirror", "snowboy", "view glass")

#: Synthetic sentences of each half of the background, and what share of them as many sentences hold each keyword. Five
#: times as many are drawn, all different, and the grammar has no more than some 2,400.
BACKGROUND_SENTENCES, PLANTED = 200, 1 / 20

#: Other English speech, how many minutes of each source, and clips of each real keyword.
BACKGROUND, BACKGROUND_MINUTES, CLIPS = ("pv_intent", "libri_resemblyzer"), 22.0, 50

#: Seconds of a stretch at least, and between two clips.
STRETCH, PAUSE = 60.0, (0.2, 0.8)

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


@dataclass(frozen=True)
class Clip:
    """A recording, and the keyword that is said in it; none in the background."""

    path: Path
    keyword: str | None


def synthetic_clips(work: Path, seed: int, sentences: int) -> dict[str, list[Clip]]:
    """Sentences by the six voices that the model has not heard: so many without keywords in each half, and others."""
    voices = (*TEST_VOICES, *DEVELOPMENT_VOICES)
    drawn = draw_sentences(5 * sentences, 100 + seed)
    with_one = {word: [one for one in drawn if keywords_in(one, SYNTHETIC) == [word]] for word in SYNTHETIC}
    without = [one for one in drawn if not keywords_in(one, SYNTHETIC)]
    texts: list[tuple[str | None, str]] = [(None, one) for one in without[: 2 * sentences]]
    texts += [(word, one) for word in SYNTHETIC for one in with_one[word][: round(PLANTED * sentences)]]
    clips: list[Clip] = []
    for number, voice in enumerate(voices):
        said = texts[number :: len(voices)]
        files = [work / "clips" / voice.name / f"{place:04d}.flac" for place in range(len(said))]
        if not files[-1].is_file():
            fulfil(
                Order(
                    voice.espeak_name,
                    voice.rate,
                    voice.pitch,
                    voice.liveliness,
                    1000 * seed + number,
                    [text for _, text in said],
                    list(map(str, files)),
                )
            )
        clips += [Clip(file, word) for file, (word, _) in zip(files, said, strict=True)]
    return in_parts(clips)


def real_clips(speech: Path, work: Path) -> dict[str, list[Clip]]:
    """Of each keyword as many clips, and as much of each source of background."""
    said = table(written(speech, "pv_wakeword", work / "recordings"))
    clips: list[Clip] = []
    for word in REAL:
        clips += [Clip(Path(row["path"]), word) for row in said if row["transcript"] == word][:CLIPS]
    for source in BACKGROUND:
        seconds = 0.0
        for row in table(written(speech, source, work / "recordings")):
            if seconds < 60 * BACKGROUND_MINUTES:
                clips.append(Clip(Path(row["path"]), None))
                seconds += float(row["duration"])
    return in_parts(clips)


def keywords_in(text: str, keywords: Sequence[str]) -> list[str]:
    """The keywords among the words of a text."""
    return [word for word in keywords if word in text.split()]


def in_parts(clips: list[Clip]) -> dict[str, list[Clip]]:
    """The halves of the background, and the clips with keywords, all in an order that is always the same."""
    shuffled = random.Random(0).sample(clips, len(clips))
    background = [clip for clip in shuffled if clip.keyword is None]
    said = [clip for clip in shuffled if clip.keyword is not None]
    return {"first": background[0::2], "second": background[1::2], "keywords": said}


@dataclass(frozen=True)
class Stretch:
    """A minute of clips, and when each of them begins and ends, with its keyword."""

    path: Path
    clips: list[tuple[float, float, str | None]]


def stretches(clips: Sequence[Clip], folder: Path) -> Iterator[Stretch]:
    """The clips joined, with pauses; a file that is there is not written again."""
    folder.mkdir(parents=True, exist_ok=True)
    chance, number = np.random.default_rng(0), 0
    pieces: list[np.ndarray] = []
    spans: list[tuple[float, float, str | None]] = []
    for place, clip in enumerate(clips):
        sound = load_audio(clip.path)
        begin = sum(map(len, pieces)) / RATE
        spans.append((begin, begin + len(sound) / RATE, clip.keyword))
        pieces += [sound, np.zeros(round(RATE * chance.uniform(*PAUSE)), np.float32)]
        if sum(map(len, pieces)) > STRETCH * RATE or place == len(clips) - 1:
            path = folder / f"{number:03d}.flac"
            if not path.is_file():
                soundfile.write(path, np.concatenate(pieces), RATE)
            yield Stretch(path, spans)
            pieces, spans, number = [], [], number + 1


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
