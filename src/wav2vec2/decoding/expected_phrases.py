"""A decoder that hears what is expected at this point of a conversation, and nothing else."""

import logging
from collections.abc import Sequence

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.language_models.phrase_bigrams import PhraseBigrams

logger = logging.getLogger("wav2vec2")

#: Among the phrases: other words may be said too. What is written for each of them.
UNKNOWN = "[unk]"


def expecting(decoder: CTCDecoder, phrases: Sequence[str]) -> CTCDecoder:
    """A decoder like this one for which there are no words but those of the phrases, as in Vosk's `phrase_list`.

    Words that follow each other in a phrase are favoured; in another order they may be said as well. If "[unk]" is
    among the phrases, any other word can be heard at the cost of the decoder's `unknown_penalty`, and is written
    "[unk]": that is how speech that nobody expected is told from the phrases. Words that the vocabulary has no letters
    for are left out, with a warning; phrases without any other are a ValueError.
    """
    expected = [decoder.speller.in_case(phrase) for phrase in phrases if phrase != UNKNOWN]
    words = list(dict.fromkeys(word for phrase in expected for word in phrase.split()))
    impossible = {word for word in words if decoder.speller.spell(word) is None}
    if impossible:
        logger.warning("phrases: %s cannot be spelled with the vocabulary, and are left out", sorted(impossible)[:5])
        expected = [" ".join(word for word in phrase.split() if word not in impossible) for phrase in expected]
    model = PhraseBigrams(expected)
    anything_else = UNKNOWN in phrases
    return CTCDecoder(
        **decoder.settings()
        | {
            "language_model": model,
            "lexicon": None if anything_else else model.vocabulary,
            "known_words": None,
            "score_boundary": True,
            "unknown_word": UNKNOWN if anything_else else None,
        }
    )
