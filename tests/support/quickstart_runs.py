"""Quickstarts so small that all stages together take seconds, and recordings to hand to them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from wav2vec2.processing.manifests import read_manifest
from wav2vec2.quickstart import spoken_corpus
from wav2vec2.quickstart.manifest_files import Corpus
from wav2vec2.quickstart.spoken_corpus import DEVELOPMENT_VOICES, TEST_VOICES, TRAINING_VOICES, CorpusSize
from wav2vec2.quickstart.training_stages import TrainingSize
from wav2vec2.quickstart.whole_path import Settings
from wav2vec2.training import starting

SIZE = CorpusSize(training=4, labelled=3, words=1, development=2, test=2)
TRAINING = TrainingSize(
    pretraining_updates=2,
    pretraining_seconds=8.0,
    finetuning_updates=3,
    finetuning_seconds=8.0,
)
SETTINGS = Settings(corpus=SIZE, training=TRAINING)


@contextmanager
def few_voices() -> Iterator[None]:
    """Three voices to train on, one to choose by, two to measure on; and the machine's peak is not measured."""
    with (
        patch.object(spoken_corpus, "TRAINING_VOICES", TRAINING_VOICES[:3]),
        patch.object(spoken_corpus, "DEVELOPMENT_VOICES", DEVELOPMENT_VOICES[:1]),
        patch.object(spoken_corpus, "TEST_VOICES", TEST_VOICES[:2]),
        patch.object(starting, "matmul_peak", lambda *_: 1e9),
    ):
        yield


def own_recordings(corpus: Corpus, folder: Path, speakers: bool = True) -> tuple[Path, Path]:
    """A folder with all audio of a spoken corpus, and a manifest with texts as people write them."""
    audio = folder / "audio"
    rows: list[Sequence[str]] = [("path", "transcript", "speaker")]
    listed = [one for part in (corpus.labelled, corpus.development, corpus.test) for one in read_manifest(part)]
    for number, one in enumerate(listed):
        target = audio / f"{number:03d}.flac"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(one.path.read_bytes())
        text = f"{(one.transcript or '').capitalize()}."
        rows.append((f"audio/{target.name}", text, one.speaker or "" if speakers else ""))
    manifest = folder / "transcripts.tsv"
    manifest.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    (audio / "extra.flac").write_bytes(next(read_manifest(corpus.audio)).path.read_bytes())
    return audio, manifest
