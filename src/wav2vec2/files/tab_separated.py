"""Tables of utterances as text: TAB between values, one line each."""

from collections.abc import Sequence


def table(lines: Sequence[Sequence[str]]) -> str:
    """The lines, header first. White space inside a value becomes a blank, so that a table stays one.

    >>> table([["id", "text"], ["a", "two\\twords"]])
    'id\\ttext\\na\\ttwo words\\n'
    """
    return "".join("\t".join(" ".join(value.split()) for value in line) + "\n" for line in lines)
