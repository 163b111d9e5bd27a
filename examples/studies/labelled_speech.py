"""The labelled recordings of the label-efficiency study: who is trained on, who chooses settings, who tests.

    digits          strings of three to seven digits (FSDD): three speakers are trained on; by the fourth, "theo",
                    settings were chosen
    digits-jackson  the same with another speaker held out, by whom nothing was chosen; -nicolas, -yweweler likewise
    english         sentences by one reader ("kathleen"), tested on sentences of hers with other words
    german          the same by "kerstin"
    dutch           the same by "nathalie"
    readers         trained on "kathleen", tested on a reader of LibriSpeech

A test shares no sentence with training or with the text of the language model, in whatever spelling.
"""

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from digit_strings import write_digit_strings
from perturbed_speech import table, write_table

from wav2vec2.processing.text_normalization import TextNormalization

RATE = 16000
Row = dict[str, str]

_PLAIN = TextNormalization("straight", "NFC", "remove", case="lower", spaces="single")

READERS = {"english": "kathleen", "german": "kerstin", "dutch": "nathalie", "readers": "kathleen"}

#: Whose digits are held out. Pretraining has heard unlabelled audio of all four; the final test is on speakers of whom
#: nothing was ever heard, by `--test`.
SPEAKERS = {"digits": "theo"} | {f"digits-{name}": name for name in ("jackson", "nicolas", "yweweler")}
TASKS = (*SPEAKERS, *READERS)

#: The reader of LibriSpeech who is tested after training on another.
OTHER_READER = "26"

#: Sentences that test, and those that choose settings.
TEST_SENTENCES, DEVELOPMENT_SENTENCES = 100, 50


@dataclass(frozen=True)
class Recordings:
    """A task's recordings, as lines of a manifest with whole paths and texts in lower case without punctuation."""

    #: What labels may be taken from.
    train: list[Row]
    #: What settings are chosen by.
    development: list[Row]
    #: What is measured.
    test: list[Row]
    #: Text for a language model: none of it is a sentence of `development` or `test`.
    texts: list[str]


def recordings(task: str, data: Path, work: Path) -> Recordings:
    """What a task is made of; audio is written below `work` where it is not a file yet."""
    found = _digits(SPEAKERS[task], data, work) if task in SPEAKERS else _sentences(task, data, work)
    kept_apart = {row["transcript"] for row in (*found.development, *found.test)}
    train = [row for row in found.train if task in SPEAKERS or row["transcript"] not in kept_apart]
    texts = sorted({text for text in found.texts if text not in kept_apart})
    return Recordings(train, found.development, found.test, texts)


def labelled(rows: Sequence[Row], minutes: float, seed: int) -> list[Row]:
    """So many minutes of them; for one seed, less is part of more."""
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    chosen: list[Row] = []
    seconds = 0.0
    for row in rows:
        if seconds >= 60 * minutes:
            return chosen
        chosen.append(row)
        seconds += float(row["duration"])
    raise ValueError(f"{minutes:g} minutes of labels are asked for, and there are {seconds / 60:.1f}")


def manifest_rows(manifest: Path) -> list[Row]:
    """The lines of any manifest with `path`, `duration` and `transcript`, as the tasks have them."""
    return [_row(manifest.parent / row["path"], row["duration"], row["transcript"]) for row in table(manifest)]


def _row(path: Path, duration: str, transcript: str) -> Row:
    return {"path": str(path.resolve()), "duration": duration, "transcript": _plain(transcript)}


def _digits(held_out: str, data: Path, work: Path) -> Recordings:
    """Every string is of one speaker; the texts are those that training may see."""
    manifest = write_digit_strings(data / "fsdd", work / "digit_strings")
    lines = table(manifest)
    ours, theirs = (
        [
            _row(manifest.parent / line["path"], line["duration"], line["transcript"])
            for line in lines
            if (line["speaker"] == held_out) == apart
        ]
        for apart in (False, True)
    )
    return Recordings(ours, theirs[0::2], theirs[1::2], [row["transcript"] for row in ours])


def _sentences(task: str, data: Path, work: Path) -> Recordings:
    """Sentences of one reader in an order that is always the same: first those that test."""
    manifest = _written(data / "speech", READERS[task], work / "sentences")
    rows = manifest_rows(manifest)
    random.Random(0).shuffle(rows)
    texts = list(dict.fromkeys(row["transcript"] for row in rows))
    tested, chosen_by = set(texts[:TEST_SENTENCES]), set(texts[TEST_SENTENCES:][:DEVELOPMENT_SENTENCES])
    by_text = {row["transcript"]: row for row in rows}
    development = [by_text[text] for text in texts if text in chosen_by]
    if task == "readers":
        other = [row | {"path": str(data / "librispeech_train" / row["path"])} for row in _librispeech(data)]
        test = [_row(Path(row["path"]), row["duration"], row["transcript"]) for row in other]
    else:
        test = [by_text[text] for text in texts if text in tested]
    return Recordings([row for row in rows if row["transcript"] not in tested], development, test, texts)


def _librispeech(data: Path) -> list[Row]:
    """What the other reader says."""
    lines = table(data / "librispeech_train" / "manifest.tsv")
    return [line for line in lines if line["speaker"] == OTHER_READER]


def _written(speech: Path, reader: str, folder: Path) -> Path:
    """The recordings of a reader as FLAC files with a manifest; done once."""
    manifest = folder / f"{reader}.tsv"
    if not manifest.is_file():
        rows = []
        (folder / reader).mkdir(parents=True, exist_ok=True)
        for number, (audio, transcript) in enumerate(_of_reader(speech, reader)):
            path = folder / reader / f"{number:04d}.flac"
            soundfile.write(path, audio, RATE)
            rows.append({"path": str(path.resolve()), "duration": f"{len(audio) / RATE:.4f}", "transcript": transcript})
        write_table(manifest, rows)
    return manifest


def _of_reader(speech: Path, reader: str) -> Iterator[tuple[np.ndarray, str]]:
    """Audio and text of every recording of a reader that is said to be for training, in the order of the shards."""
    import pyarrow.parquet as parquet

    for shard in sorted(speech.glob("train-*.parquet")):
        for row in parquet.read_table(shard, columns=["audio", "speaker", "transcript"]).to_pylist():
            if row["speaker"] == reader and row["transcript"]:
                yield soundfile.read(io.BytesIO(row["audio"]["bytes"]))[0], row["transcript"]


def _plain(text: str) -> str:
    """Lower case, no punctuation: what a recogniser of letters can say."""
    return _PLAIN(text)
