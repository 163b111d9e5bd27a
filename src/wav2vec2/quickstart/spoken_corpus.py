"""A small corpus of synthetic English speech: some voices and some sentences are kept from training.

The voices have accents of English and throats of espeak-ng, at different rates and pitches. A throat (espeak's variant)
and a pitch make a speaker; held-out voices have throats that no training voice has.

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


@dataclass(frozen=True)
class Voice:
    """One speaker."""

    #: espeak's file of the accent.
    accent: str
    #: espeak's variant.
    throat: str
    #: Words a minute.
    rate: int
    #: How high, from 0 to 100.
    pitch: int
    #: How far the pitch goes up and down, from 0 to 100.
    liveliness: int

    @property
    def name(self) -> str:
        """What the speaker is called in manifests.

        >>> Voice("en-GB-scotland", "f2", 160, 50, 40).name
        'en-gb-scotland_f2'
        """
        return f"{self.accent.lower()}_{self.throat}"

    @property
    def espeak_name(self) -> str:
        """As espeak's `espeak_SetVoiceByName` takes it."""
        return f"gmw/{self.accent}+{self.throat}"


#: Throats of espeak-ng that sound like people; robots, whispers and the throats of other voices below are left out.
_THROATS = (
    "m1 f1 m2 f2 m3 f3 m5 f5 m7 m8 Annie Mario adam Alicia Andrea Andy Diogo Gene Henrique Hugo Jacky Lee Marco Mike "
    "Reed antonio aunty belinda benjamin boris caleb david ed edward grandma grandpa gustave john linda max michel "
    "miguel norbert pablo paul pedro quincy rob sandro shelby steph travis victor zac"
)
_ACCENTS = ("en-US", "en", "en-GB-x-rp", "en-GB-scotland")

#: Those that are trained on: a throat each, at rates from 148 to 178 and pitches from 40 to 60 that follow no order.
TRAINING_VOICES = tuple(
    Voice(_ACCENTS[number % 4], throat, 148 + 7 * number % 31, 40 + 5 * number % 21, 40 + 9 * number % 21)
    for number, throat in enumerate(_THROATS.split())
)

#: On which checkpoints are compared, and the weights of the language model are found.
DEVELOPMENT_VOICES = (Voice("en-US", "Michael", 160, 50, 50), Voice("en", "anika", 160, 50, 50))

#: On which the model is measured, once.
TEST_VOICES = (
    Voice("en-US", "m4", 168, 48, 50),
    Voice("en", "m6", 158, 52, 50),
    Voice("en-GB-x-rp", "f4", 162, 52, 50),
    Voice("en-US", "Alex", 160, 50, 50),
)


@dataclass(frozen=True)
class CorpusSize:
    """How much each voice says."""

    #: Sentences of a training voice.
    training: int = 12
    #: How many of those come with their text.
    labelled: int = 2
    #: Single words that a training voice says before them, with their text.
    words: int = 1
    #: Sentences of a voice that is chosen by.
    development: int = 16
    #: Sentences of a voice that is measured on.
    test: int = 40


def make_corpus(folder: Path, size: CorpusSize, seed: int) -> list[str]:
    """Speak the corpus into the folder, with its manifests, and say in sentences what there is.

    It is the same for the same seed.
    """
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
    return [
        f"synthetic speech (espeak-ng): sentences from a grammar of {len(vocabulary())} words, read by "
        f"{len(TRAINING_VOICES)} voices",
        f"{minutes_of(audio):.1f} minutes of audio without labels, {minutes_of(labelled):.1f} of them also with their "
        f"text ({len(labelled)} sentences and single words)",
        f"kept from training: {len(test)} sentences by {len(TEST_VOICES)} voices ({minutes_of(test):.1f} minutes) to "
        f"measure on, {len(development)} by {len(DEVELOPMENT_VOICES)} others to choose by",
    ]


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
