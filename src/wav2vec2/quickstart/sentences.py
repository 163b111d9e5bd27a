"""Sentences for a small spoken corpus: a grammar of seventy words that nobody has to download.

Every sentence is drawn from one of a few patterns, so a language model has something to learn, and a model of speech
hears each word in many neighbourhoods. Half of the patterns are short: where a few letters have to be found in a second
of speech, CTC learns much sooner which sound belongs to which letter.
"""

import random
from collections.abc import Collection

#: The kinds of words that patterns are made of. No word is written in two ways that sound alike.
WORDS: dict[str, str] = {
    "person": "teacher farmer doctor sister captain",
    "quality": "old young happy",
    "looks": "green yellow heavy",
    "thing": "table window bottle guitar newspaper",
    "animal": "horse rabbit",
    "food": "butter coffee lemon",
    "does": "carried painted forgot sold",
    "moves": "walked returned",
    "place": "kitchen garden harbour mountain",
    "relation": "behind under",
    "time": "yesterday tomorrow",
    "day": "monday friday",
    "number": "three seven twelve",
    "weather": "rain thunder",
    "will": "will should",
    "act": "carry paint forget",
}

#: "<kind>" stands for a word of that kind.
PATTERNS = (
    "the <quality> <person> <does> a <looks> <thing>",
    "the <person> <does> the <thing> <relation> the <place>",
    "my <person> <moves> to the <place> on <day>",
    "please bring <number> <looks> things from the <place>",
    "we <will> <act> the <thing> before <day> morning",
    "there was <weather> over the <place> on <day>",
    "<number> people <moves> from the <place> to the <place>",
    "she said that the <person> <will> <act> the <thing>",
    "does the <quality> <person> like <food>",
    "nobody <does> the <thing> because of the <weather>",
    "the <person> and the <person> <does> some <food>",
    "<time> the <animal> <moves>",
    "<relation> the <looks> <place>",
    "a <quality> <animal>",
    "the <looks> <thing>",
    "<day> morning",
    "<food> with <food>",
    "the <weather> <moves>",
    "<number> <looks> things",
    "the <quality> <person> <moves>",
    "we <act> the <thing>",
    "on <day> the <person> <moves>",
    "my <thing> was <looks>",
    "the <place> on <day>",
    "the <person> and the <animal>",
    "<number> people in the <place>",
    "the <person> <does> it",
    "<person> <will> <act>",
)


def draw_sentences(count: int, seed: int, without: Collection[str] = ()) -> list[str]:
    """So many sentences, all different and none of those in `without`; the same for the same seed.

    >>> draw_sentences(2, seed=1) == draw_sentences(3, seed=1)[:2]
    True
    """
    kinds = {kind: words.split() for kind, words in WORDS.items()}
    chance = random.Random(seed)
    known, found = set(without), list[str]()
    while len(found) < count:
        sentence = _filled(PATTERNS[chance.randrange(len(PATTERNS))], kinds, chance)
        if sentence not in known:
            known.add(sentence)
            found.append(sentence)
    return found


def draw_words(count: int, seed: int) -> list[str]:
    """So many words of the grammar, each alone; the same for the same seed."""
    return random.Random(seed).sample(sorted(vocabulary()), count)


def vocabulary() -> set[str]:
    """Every word that a sentence can have."""
    fixed = {word for pattern in PATTERNS for word in pattern.split() if not word.startswith("<")}
    return fixed | {word for words in WORDS.values() for word in words.split()}


def _filled(pattern: str, kinds: dict[str, list[str]], chance: random.Random) -> str:
    said: list[str] = []
    for part in pattern.split():
        choices = kinds[part.strip("<>")] if part.startswith("<") else [part]
        fresh = [word for word in choices if word not in said] if part.startswith("<") else choices
        said.append(fresh[chance.randrange(len(fresh))])
    return " ".join(said)
