"""Do a language model and what a search may spell belong together? A model in the other case is worse than none.

Every word that a model does not know costs the penalty of unknown words, so a search that can spell hardly any of a
model's words glues everything into few unknown ones. What counts is the share of the words' probability, not whether
there is a word: a stray apostrophe is spelled in every case.
"""

import warnings
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from wav2vec2.decoding.spelling import Speller

#: Shares of the words' probability: below the first it is said, below the second the case may be mistaken.
_USUAL, _HALF = 0.9, 0.5


def check_spellable(words: Sequence[str], probabilities: NDArray[np.float64], speller: Speller) -> None:
    """Compare a language model's words, each with its probability on its own, with what the vocabulary spells.

    In the wrong case, or without a word that can be spelled, it is a ValueError; where the rest cannot be spelled
    either way, a warning that says how much it is.
    """

    def share(of: Callable[[str], str]) -> float:
        spelled = np.array([speller.spell(of(word)) is not None for word in words], dtype=bool)
        return float(probabilities[spelled].sum() / max(probabilities.sum(), 1e-300))

    as_it_is = share(str)
    if as_it_is >= _USUAL:
        return
    lost = [word for word in words if speller.spell(word) is None]
    said = f"language_model: {as_it_is:.1%} of its words by probability can be spelled with the vocabulary"
    if as_it_is < _HALF:
        for case, of in (("upper", str.upper), ("lower", str.lower)):
            if (other := share(of)) >= _HALF:
                raise ValueError(f"{said}, but {other:.1%} in {case} case: train it on text in {case} case")
    if as_it_is == 0.0:
        raise ValueError(
            f"language_model: none of its words, such as {lost[:5]}, can be spelled with the vocabulary "
            f"{speller.vocabulary[:40]}"
        )
    warnings.warn(f"{said}; the others, such as {lost[:5]}, are never found", stacklevel=2)


def check_lexicon(lexicon: Collection[str], known: Collection[str]) -> None:
    """A ValueError where a language model knows none of a lexicon's words, or far more of them in the other case."""
    as_it_is = sum(word in known for word in lexicon)
    said = f"lexicon: the language model knows {as_it_is} of its {len(lexicon)} words"
    for case, of in (("upper", str.upper), ("lower", str.lower)):
        if (other := sum(of(word) in known for word in lexicon)) > 2 * as_it_is:
            raise ValueError(f"{said}, but {other} in {case} case: write both in one case")
    if as_it_is == 0:
        words, others = sorted(lexicon)[:5], [word for word in known if not word.startswith("<")][:5]
        raise ValueError(f"{said}, such as {words}, but for instance {others}")
