"""Which words of a hypothesis are right: the cheapest edit of the reference into it."""

from collections.abc import Sequence
from typing import NamedTuple


class Comparison(NamedTuple):
    """Word errors (substitutions, insertions, deletions), and for each word of the hypothesis whether it is right."""

    errors: int
    correct: list[bool]


def compare_words(hypothesis: Sequence[str], reference: Sequence[str]) -> Comparison:
    """Levenshtein's distance over words, and the matches on one shortest path.

    >>> compare_words("a cat sat down".split(), "the cat sat".split())
    Comparison(errors=2, correct=[False, True, True, False])
    """
    rows = [list(range(len(reference) + 1))]
    for number, word in enumerate(hypothesis, 1):
        row, above = [number], rows[-1]
        for place, other in enumerate(reference):
            row.append(min(above[place] + (word != other), above[place + 1] + 1, row[place] + 1))
        rows.append(row)
    correct = [False] * len(hypothesis)
    number, place = len(hypothesis), len(reference)
    while number and place:
        cost, match = rows[number][place], hypothesis[number - 1] == reference[place - 1]
        if cost == rows[number - 1][place - 1] + (not match):
            correct[number - 1] = match
            number, place = number - 1, place - 1
        elif cost == rows[number - 1][place] + 1:
            number -= 1
        else:
            place -= 1
    return Comparison(rows[-1][-1], correct)
