"""Tables of utterances as text: TAB between values, one line each."""

from collections.abc import Sequence

from wav2vec2.evaluation.scoring import Counts


def count_columns(unit: str) -> tuple[str, ...]:
    """The names of the columns of `count_values`; `unit` is words or characters."""
    return unit, f"{unit}_substituted", f"{unit}_deleted", f"{unit}_inserted"


def count_values(counts: Counts) -> tuple[str, ...]:
    """Reference units, and the three kinds of errors."""
    return tuple(map(str, (counts.reference, counts.substitutions, counts.deletions, counts.insertions)))


def table(lines: Sequence[Sequence[str]]) -> str:
    """The lines, header first. White space inside a value becomes a blank, so that a table stays one.

    >>> table([["id", "text"], ["a", "two\\twords"]])
    'id\\ttext\\na\\ttwo words\\n'
    """
    return "".join("\t".join(" ".join(value.split()) for value in line) + "\n" for line in lines)
