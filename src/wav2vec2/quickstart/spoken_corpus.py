"""A small corpus of synthetic English speech: some voices and some sentences are kept from training.

| part | voices | sentences | labels are used |
|---|---|---|---|
| pretrain | training | training | no |
| train | training | the first of them | yes |
| dev | development | development | yes, to choose |
| test | test | test | yes, to measure |
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from wav2vec2.quickstart.manifest_files import Corpus, Utterance, minutes_of, write_manifest
from wav2vec2.quickstart.sentences import draw_sentences, draw_words, vocabulary
from wav2vec2.quickstart.speech_synthesis import Order
from wav2vec2.quickstart.voices import DEVELOPMENT_VOICES, TEST_VOICES, TRAINING_VOICES, Voice


@dataclass(frozen=True)
class CorpusSize:
    """How many sentences each voice says; of those of a training voice, how many come with their text, and how many
    single words it says before them, with their text."""

    training: int = 20
    labelled: int = 10
    words: int = 6
    development: int = 16
    test: int = 40


def make_corpus(folder: Path, size: CorpusSize, seed: int) -> list[str]:
    """Speak it into the folder, with its manifests; what there is, in sentences. The same for the same seed."""
    parts = list(_parts(size, seed))
    orders = [_order(folder, voice, texts, seed) for _, voice, texts in parts]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        seconds = list(pool.map(_spoken, orders))
    spoken: dict[str, list[list[Utterance]]] = {"training": [], "development": [], "test": []}
    for (part, voice, texts), order, lengths in zip(parts, orders, seconds, strict=True):
        files = map(Path, order.files)
        spoken[part].append(
            [Utterance(*one) for one in zip(files, lengths, [voice.name] * len(texts), texts, strict=True)]
        )
    corpus = Corpus(folder)
    audio = [one for voice in spoken["training"] for one in voice]
    labelled = [one for voice in spoken["training"] for one in voice[: size.words + size.labelled]]
    development, test = ([one for voice in spoken[part] for one in voice] for part in ("development", "test"))
    write_manifest(corpus.audio, (Utterance(one.path, one.seconds, one.speaker, None) for one in audio))
    for path, utterances in ((corpus.labelled, labelled), (corpus.development, development), (corpus.test, test)):
        write_manifest(path, utterances)
    return _described(audio, labelled, development, test)


def _parts(size: CorpusSize, seed: int) -> Iterator[tuple[str, Voice, list[str]]]:
    """Each voice with what it says. No sentence is said twice; single words are, by other voices."""
    said: list[str] = []
    voices = {"training": TRAINING_VOICES, "development": DEVELOPMENT_VOICES, "test": TEST_VOICES}
    for number, (part, speakers) in enumerate(voices.items()):
        each = getattr(size, part)
        texts = draw_sentences(each * len(speakers), 3 * seed + number, without=said)
        said += texts
        for index, voice in enumerate(speakers):
            words = draw_words(size.words, 1000 * seed + index) if part == "training" else []
            yield part, voice, words + texts[index * each : (index + 1) * each]


def _order(folder: Path, voice: Voice, texts: Sequence[str], seed: int) -> Order:
    files = [str(folder / "audio" / voice.name / f"{number:03d}.flac") for number in range(len(texts))]
    voices = [one.name for one in (*TRAINING_VOICES, *DEVELOPMENT_VOICES, *TEST_VOICES)]
    noise = 1000 * seed + voices.index(voice.name)
    return Order(voice.espeak_name, voice.rate, voice.pitch, voice.liveliness, noise, texts, files)


def _spoken(order: Order) -> list[float]:
    """The seconds of each file, said by a process of its own."""
    command = [sys.executable, "-m", "wav2vec2.quickstart.speech_synthesis"]
    done = subprocess.run(command, input=json.dumps(asdict(order)), capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise OSError(f"speech could not be made with the voice {order.espeak_name}: {reason[0]}")
    found: list[float] = json.loads(done.stdout)
    return found


def _described(
    audio: Sequence[Utterance],
    labelled: Sequence[Utterance],
    development: Sequence[Utterance],
    test: Sequence[Utterance],
) -> list[str]:
    return [
        f"synthetic speech (espeak-ng): sentences from a grammar of {len(vocabulary())} words, read by "
        f"{len(TRAINING_VOICES)} voices",
        f"{minutes_of(audio):.1f} minutes of audio without labels, {minutes_of(labelled):.1f} of them also with their "
        f"text ({len(labelled)} sentences and single words)",
        f"kept from training: {len(test)} sentences by {len(TEST_VOICES)} voices ({minutes_of(test):.1f} minutes) to "
        f"measure on, {len(development)} by {len(DEVELOPMENT_VOICES)} others to choose by",
    ]
