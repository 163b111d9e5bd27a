"""The first line of a table of texts: does it name columns, and which of them is the id, which the text?

A header that is taken for an utterance is an utterance too many, always right, and the rate is wrong without a word.
So a line that could be either is refused, with what would be clear.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: What columns of ids are called, the best first: where a row has several, the first that is not empty is its id.
IDS = (
    "id", "utterance_id", "utt_id", "utterance", "utt", "uid", "key", "segment", "segment_id",
    "path", "file", "file_name", "filename", "audio", "audio_path", "audio_filepath", "wav", "clip",
)  # fmt: skip

#: What columns of texts are called.
TEXTS = (
    "transcript", "transcription", "text", "sentence", "reference", "hypothesis", "prediction",
    "normalized_text", "raw_transcription", "raw_text", "ref", "hyp",
)  # fmt: skip

_CLEAR = "name the columns in the first line, `id` and `text` of the two that count"


@dataclass(frozen=True)
class Header:
    """The columns of a table by their names, and which of them are ids (the best first) and the text."""

    columns: tuple[str, ...]
    ids: tuple[str, ...]
    text: str


def header_of(lines: Sequence[str]) -> Header | None:
    """The header of a table with TABs, None if it has none and its lines are `id TAB text`.

    What is neither is a ValueError: a third column without a header, a header without a column of texts or with two.
    """
    columns = tuple(lines[0].split("\t"))
    known = {name.strip().casefold(): name for name in reversed(columns)}
    ids, texts = _named(IDS, known), _named(TEXTS, known)
    if ids and texts:
        if len(texts) > 1 and not {"path", "transcript"} <= set(columns):  # those two make it a manifest
            raise ValueError(f"the header has several columns of texts ({', '.join(texts)}): leave one of them")
        if len(set(columns)) != len(columns):
            raise ValueError(f"a column stands twice in the header ({', '.join(columns)})")
        return Header(columns, ids, texts[0])
    if longer := next((line for line in lines if line.count("\t") > 1), None):
        raise ValueError(f"more than two columns, and no header that says which is the text: {longer[:80]!r}; {_CLEAR}")
    if ids or (texts and _no_number(columns[0])):
        raise ValueError(f"the first line may be a header or an utterance: {lines[0][:80]!r}; {_CLEAR}")
    return None


def check_first_rows(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> None:
    """Raise ValueError if both tables begin with the same two words, unlike any id below: a header of unknown names."""
    if not references:
        return
    first, *others = references.items()
    same = first == next(iter(hypotheses.items()), None)
    unlike = _no_number(first[0]) and not any(_no_number(name) for name, _ in others)
    if same and others and unlike and len(first[1].split()) == 1:
        raise ValueError(f"both files begin with {' TAB '.join(first)!r}, which looks like a header; {_CLEAR}")


def _named(names: Sequence[str], known: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(known[name] for name in names if name in known)


def _no_number(name: str) -> bool:
    """Ids of utterances have a number, or are files; words that name a column have and are none."""
    return not any(character.isdigit() or character in "./\\" for character in name)
