"""Tables of utterances as text: TAB between values, one line each, no quoting."""

from collections.abc import Sequence


def table(lines: Sequence[Sequence[str]]) -> str:
    """The lines, header first. White space inside a value becomes a blank, so that a table stays one.

    >>> table([["id", "text"], ["a", "two\\twords"]])
    'id\\ttext\\na\\ttwo words\\n'
    """
    return "".join("\t".join(" ".join(value.split()) for value in line) + "\n" for line in lines)


def values_by_column(columns: Sequence[str], line: str) -> dict[str, str]:
    """The values of a line by the names of its columns; a ValueError if there are more or fewer of them.

    >>> values_by_column(["id", "text"], "a\\ttwo words")
    {'id': 'a', 'text': 'two words'}
    """
    values = line.split("\t")
    if len(values) != len(columns):
        raise ValueError(f"{len(values)} columns, but the header has {len(columns)}")
    return dict(zip(columns, values, strict=True))
