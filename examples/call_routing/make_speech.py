"""Telephone speech to train a recogniser for a dialogue on: what may be said in it, and other sentences.

    python examples/call_routing/make_speech.py outputs/telephone

Writes train.tsv and dev.tsv with their recordings: 8 kHz mu-law, with the noise of a line. The other sentences teach
the letters: a model that has only heard the dialogue's words would hear them in everything. That takes half a minute.
"""

import argparse
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
from dialogue import read_dialogue
from telephone import RATE, over_the_line
from voices import CHOSEN_BY, TRAINED_ON, Speech, people, spoken

from wav2vec2.quickstart.manifest_files import Utterance, minutes_of, write_manifest
from wav2vec2.quickstart.sentences import draw_sentences, vocabulary
from wav2vec2.quickstart.speech_synthesis import SAMPLING_RATE

#: What each person says: phrases of the dialogue, other sentences, words of those alone.
PHRASES, SENTENCES, WORDS = 7, 2, 2

#: Decibels of the speech above the noise, and seconds of silence before and behind it.
SNR, SILENCE = (8.0, 40.0), (0.1, 0.6)


def texts_of_everybody(phrases: Sequence[str], count: int, chance: random.Random, seed: int) -> list[list[str]]:
    """What so many people say: all phrases come round equally often, and no sentence comes twice."""
    turns = -(-count * PHRASES // len(phrases))
    shuffled = [phrase for _ in range(turns) for phrase in chance.sample(phrases, len(phrases))]
    sentences, words = draw_sentences(count * SENTENCES, seed), sorted(vocabulary())
    return [
        shuffled[number * PHRASES : (number + 1) * PHRASES]
        + sentences[number * SENTENCES : (number + 1) * SENTENCES]
        + chance.sample(words, WORDS)
        for number in range(count)
    ]


def recorded(speech: Speech, chance: np.random.Generator) -> np.ndarray:
    """An utterance as it comes over a line, with silence around it."""
    before, behind = (round(chance.uniform(*SILENCE) * SAMPLING_RATE) for _ in range(2))
    louder = np.pad(speech * chance.uniform(0.3, 2.0), (before, behind))
    return over_the_line(louder.astype(np.float32), SAMPLING_RATE, chance.uniform(*SNR), chance)


def main() -> None:
    """Both parts of the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the recordings and manifests go")
    parser.add_argument("--dialogue", type=Path, default=Path(__file__).with_name("dialogue.yaml"))
    parser.add_argument("--people", type=int, default=len(TRAINED_ON), help="how many are trained on")
    asked = parser.parse_args()
    phrases = read_dialogue(asked.dialogue).phrases()
    for seed, (part, throats, count) in enumerate((("train", TRAINED_ON, asked.people), ("dev", CHOSEN_BY, 8))):
        chance = np.random.default_rng(seed)
        voices = list(islice(people(throats), count))
        texts = texts_of_everybody(phrases, count, random.Random(seed), seed)
        utterances = []
        for number, (voice, said, clips) in enumerate(
            zip(voices, texts, spoken(list(zip(voices, texts, strict=True))), strict=True)
        ):
            for place, (text, clip) in enumerate(zip(said, clips, strict=True)):
                path = asked.folder / "audio" / f"{part}_{number:02d}_{voice.name}" / f"{place:02d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                sound = recorded(clip, chance)
                soundfile.write(path, sound, RATE, subtype="ULAW")
                utterances.append(Utterance(path, len(sound) / RATE, voice.name, text))
        write_manifest(asked.folder / f"{part}.tsv", utterances)
        print(f"{part}.tsv: {minutes_of(utterances):.1f} minutes, {len(utterances)} recordings, {count} people")


if __name__ == "__main__":
    main()
