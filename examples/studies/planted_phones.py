"""Speech by espeak-ng in which a phone was replaced, left out or put in, with the phones that it says.

A sentence becomes phones in espeak's own letters ("t_'i:_tS_3"), one of them is changed, and espeak says them as they
then are (`[[t'i:S3]]`) and tells in IPA what it says, after its own rules: a t between vowels is flapped, whoever put
it there. A change after which the IPA does not differ in just that phone is not heard, and another is drawn. What may
replace what was listed before anything was measured: pairs of phones of English that learners confuse.
"""

import ctypes
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wav2vec2.quickstart.speech_synthesis import Order, Synthesiser
from wav2vec2.quickstart.spoken_corpus import Voice

#: Phones of American English in espeak's letters; each may be said for the other.
PAIRS = (
    "p b, t d, k g, p t, t k, f v, s z, s S, S tS, tS dZ, T s, T t, D d, D z, v w, v b, f p, l r, m n, n N, w r, h k, "
    "i: I, I E, E a, V A:, a V, u: U, O: oU, eI E, aI eI, OI oU, i: eI, u: oU, aI aU"
)
#: What may be put in.
PUT_IN = ["p", "t", "k", "b", "d", "g", "s", "S", "f", "v", "m", "n", "l", "w", "I", "E", "V", "i:"]

SUBSTITUTES: dict[str, list[str]] = {}
for pair in PAIRS.split(", "):
    one, other = pair.split()
    SUBSTITUTES.setdefault(one, []).append(other)
    SUBSTITUTES.setdefault(other, []).append(one)

#: What nonsense is made of, vowels for vowels and consonants for consonants.
VOWELS = ["i:", "I", "E", "a", "V", "A:", "U", "u:", "O:", "eI", "aI", "aU", "OI", "oU", "3:"]
CONSONANTS = [
    "p",
    "b",
    "t",
    "d",
    "k",
    "g",
    "f",
    "v",
    "T",
    "D",
    "s",
    "z",
    "S",
    "Z",
    "tS",
    "dZ",
    "m",
    "n",
    "N",
    "l",
    "r",
    "w",
    "j",
    "h",
]

#: Stress and what else stands before a phone.
_MARKS = re.compile(r"^[',%=|]*")
_STRESS = re.compile("[ˈˌ]")
_IPA, _APART = 0x2, ord("_") << 8

Words = list[list[str]]


class Speaker(Synthesiser):
    """espeak, which also tells the phones of a text, or of phones between [[ and ]]."""

    def __init__(self, voice: str) -> None:
        super().__init__()
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.say(Order(voice, 160, 50, 50, 0, [], []), "[[a]]")  # from then on it knows what [[ means

    def letters(self, text: str) -> Words:
        """The phones of each word in espeak's letters."""
        words = ([letter for letter in word if letter.strip(":;")] for word in self._told(text, _APART))
        return [word for word in words if word]

    def ipa(self, words: Words) -> Words:
        """The phones that are said for these letters."""
        return self._told(f"[[{written(words)}]]", _APART | _IPA)

    def _told(self, text: str, mode: int) -> Words:
        pointer = ctypes.pointer(ctypes.c_char_p(text.encode()))
        told = ""
        while pointer.contents.value is not None:
            told += " " + (self._library.espeak_TextToPhonemes(pointer, 1, mode) or b"").decode()
        words = [[phone for phone in _STRESS.sub("", word).split("_") if phone] for word in told.split()]
        return [word for word in words if word]


def written(words: Words) -> str:
    """Phones as espeak reads them between [[ and ]]; "|" keeps two letters from being read as one phone."""
    return " ".join("|".join(word) for word in words)


def in_manifest(words: Words) -> str:
    """IPA with blanks between phones and bars between words."""
    return " | ".join(" ".join(word) for word in words)


@dataclass(frozen=True)
class Planted:
    """A sentence and how it is said."""

    #: untouched, substitution, omission or insertion.
    kind: str
    #: What is asked for, in IPA.
    asked: Words
    #: What is said.
    said: Words
    #: The number of the phone of `asked` that is replaced or left out, or before which another is put in; -1: none.
    place: int
    #: What is said there, "" for nothing.
    instead: str
    #: What espeak is to read.
    text: str


def plain(words: Words) -> list[str]:
    """The phones without their words."""
    return [phone for word in words for phone in word]


def changed(letters: Words, kind: str, chance: random.Random) -> tuple[Words, int]:
    """The letters with one change of that kind, and the number of its word; the same letters if none is possible."""
    number = chance.choice([at for at, word in enumerate(letters) if len(word) > 1] or [0])
    word = letters[number]
    at = chance.randrange(len(word))
    mark = _MARKS.match(word[at])[0]  # type: ignore[index]
    phone = word[at][len(mark) :]
    if kind == "substitution" and phone in SUBSTITUTES:
        new = [*word[:at], mark + chance.choice(SUBSTITUTES[phone]), *word[at + 1 :]]
    elif kind == "omission" and len(word) > 2 and mark in ("", "%"):
        new = [*word[:at], *word[at + 1 :]]
    elif kind == "insertion":
        new = [*word[:at], chance.choice(PUT_IN), *word[at:]]
    else:
        new = word
    return [*letters[:number], new, *letters[number + 1 :]], number


def planted(speaker: Speaker, sentence: str, kind: str, chance: random.Random) -> Planted | None:
    """The sentence with one change of that kind that is heard in just one phone; None if forty drawn ones are not."""
    letters = speaker.letters(sentence)
    asked = speaker.ipa(letters)
    if kind == "untouched":
        return Planted(kind, asked, asked, -1, "", f"[[{written(letters)}]]")
    for _ in range(40):
        new, _ = changed(letters, kind, chance)
        said = speaker.ipa(new)
        place = place_of(plain(asked), plain(said), kind) if len(said) == len(asked) else None
        if place is not None:
            instead = "" if kind == "omission" else plain(said)[place]
            return Planted(kind, asked, said, place, instead, f"[[{written(new)}]]")
    return None


def place_of(asked: Sequence[str], said: Sequence[str], kind: str) -> int | None:
    """Where two lists of phones differ, if they do so by one change of that kind, of which the place is sure: what is
    left out or put in is no double of its neighbour."""
    start = next((at for at, (a, b) in enumerate(zip(asked, said, strict=False)) if a != b), None)
    if start is None:
        return None
    before, after = {"substitution": (1, 1), "omission": (1, 0), "insertion": (0, 1)}[kind]
    if asked[start + before :] != said[start + after :]:
        return None
    longer = said if kind == "insertion" else asked
    return start if kind == "substitution" or start == 0 or longer[start] != longer[start - 1] else None


def nonsense(letters: Words, share: float, chance: random.Random) -> Words:
    """The letters of which a share is another vowel or consonant, so that nothing can be guessed from the words."""
    found = []
    for word in letters:
        new = []
        for letter in word:
            mark = _MARKS.match(letter)[0]  # type: ignore[index]
            kinds = [kind for kind in (VOWELS, CONSONANTS) if letter[len(mark) :] in kind]
            new.append(mark + chance.choice(kinds[0]) if kinds and chance.random() < share else letter)
        found.append(new)
    return found


def spoken(voice: Voice, texts: Sequence[str], folder: Path, seed: int) -> list[tuple[Path, float]]:
    """The files of a voice that says the texts, and their seconds; made by a process of its own, once."""
    files = [folder / voice.name / f"{number:03d}.flac" for number in range(len(texts))]
    order = Order(voice.espeak_name, voice.rate, voice.pitch, voice.liveliness, seed, texts, list(map(str, files)))
    command = [sys.executable, "-m", "wav2vec2.quickstart.speech_synthesis"]
    done = subprocess.run(command, input=json.dumps(asdict(order)), capture_output=True, text=True, check=True)
    return list(zip(files, json.loads(done.stdout), strict=True))


def sentences(speech: Path, reader: str, fewest: int, most: int) -> Iterator[str]:
    """The different texts of a reader that have so many words, in an order that is always the same."""
    import pyarrow.parquet as parquet

    found: dict[str, None] = {}
    for shard in sorted(speech.glob("train-*.parquet")):
        for row in parquet.read_table(shard, columns=["speaker", "transcript"]).to_pylist():
            text = row["transcript"]
            if row["speaker"] == reader and text and fewest <= len(text.split()) <= most:
                found[" ".join(re.sub("[^a-z' ]", " ", text.lower()).split())] = None
    shuffled = list(found)
    random.Random(0).shuffle(shuffled)
    yield from shuffled
