"""Files of texts with ids, references and hypotheses: read, matched by their ids, and scored.

Three forms are told apart by what is in them: `id TAB text` lines; tables whose first line names the columns, as
manifests do; and `text (id)` lines, the "trn" form of NIST's sclite.

A header that is taken for an utterance is an utterance too many, always right, and the rate is wrong without a word. So
a first line that could be either is refused, with what would be clear.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.evaluation import ErrorRate, error_rate
from wav2vec2.evaluation.scoring import UtteranceScore, count_columns, count_values, score_utterances
from wav2vec2.files.tab_separated import table, values_by_column

#: Ids that a message names.
_SHOWN = 20

#: What columns of ids are called, the best first: where a row has several, the first that is not empty is its id.
_IDS = (
    "id", "utterance_id", "utt_id", "utterance", "utt", "uid", "key", "segment", "segment_id",
    "path", "file", "file_name", "filename", "audio", "audio_path", "audio_filepath", "wav", "clip",
)  # fmt: skip

#: What columns of texts are called.
_TEXTS = (
    "transcript", "transcription", "text", "sentence", "reference", "hypothesis", "prediction",
    "normalized_text", "raw_transcription", "raw_text", "ref", "hyp",
)  # fmt: skip

_CLEAR = "name the columns in the first line, `id` and `text` of the two that count"

#: What a row of any of the three forms says: the id, the text, and the speaker where it is known.
Row = tuple[str, str, str | None]


class TextTableError(ValueError):
    """Texts that cannot be read or matched: where, what is wrong, which ids."""


@dataclass(frozen=True)
class TextTable:
    """Texts by id, the speakers of those whose speaker the file tells, and whether a header named the columns."""

    texts: dict[str, str]
    speakers: dict[str, str] = field(default_factory=dict)
    has_header: bool = False


@dataclass(frozen=True)
class TableHeader:
    """The columns of a table by their names, and which of them are ids (the best first) and the text."""

    columns: tuple[str, ...]
    ids: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class ScoredTexts:
    """The rates of a corpus, and its utterances in the order of the references."""

    #: The name of what was done to both texts before their words were compared.
    normalizer: str
    #: How the intervals of the rates were made.
    resampling: Resampling
    #: Errors in words.
    wer: ErrorRate
    #: Errors in characters.
    cer: ErrorRate
    #: The ids of the utterances.
    ids: list[str]
    #: The texts that are right, as they were given.
    references: list[str]
    #: The texts that were recognised, as they were given.
    hypotheses: list[str]
    #: The alignment and the counts of each utterance.
    scores: list[UtteranceScore]


def score_files(
    references: Path, hypotheses: Path, normalizer: str = "none", how: Resampling | None = None
) -> ScoredTexts:
    """Match the texts of two files by their ids and count; ids on one side alone, or twice, are a `TextTableError`."""
    how, said, recognised = how or Resampling(), read_texts(references), read_texts(hypotheses)
    if not (said.has_header or recognised.has_header):
        _check_first_rows(said.texts, recognised.texts)
    ids, right, heard = paired(said.texts, recognised.texts)
    scores = score_utterances(right, heard, normalizer)
    speakers = [said.speakers[name] for name in ids] if len(said.speakers) == len(ids) else None
    wer = error_rate([one.words for one in scores], speakers, how)
    cer = error_rate([one.characters for one in scores], speakers, how)
    return ScoredTexts(normalizer, how, wer, cer, ids, right, heard, scores)


def text_table(scored: ScoredTexts) -> str:
    """One line for each utterance: its texts as they were given, its errors as they were counted."""
    header = ["id", "reference", "hypothesis", *count_columns("words"), *count_columns("characters")]
    rows = zip(scored.ids, scored.references, scored.hypotheses, scored.scores, strict=True)
    return table([header, *([*texts, *count_values(one.words), *count_values(one.characters)] for *texts, one in rows)])


def read_texts(path: Path) -> TextTable:
    """Read a file in any of the three forms. An id that stands twice is an error."""
    try:
        lines = [line for line in path.read_text("utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise TextTableError(f"{path}: is not UTF-8 text ({error.reason})") from error
    header = None
    if any("\t" in line for line in lines):
        try:
            header = _header_of(lines)
        except ValueError as error:
            raise TextTableError(f"{path}: {error}") from error
        rows = list(_tab_rows(path, lines) if header is None else _named_rows(path, header, lines[1:]))
    else:
        rows = list(_trn_rows(path, lines))
    check_once(path.name, [name for name, _, _ in rows])
    speakers = {name: speaker for name, _, speaker in rows if speaker}
    return TextTable({name: text for name, text, _ in rows}, speakers, header is not None)


def paired(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> tuple[list[str], list[str], list[str]]:
    """Ids, references and hypotheses in the order of the references; ids on one side alone are an error."""
    missing = [name for name in references if name not in hypotheses]
    extra = [name for name in hypotheses if name not in references]
    faults = []
    if missing:
        faults.append(f"{len(missing)} references have no hypothesis: {listed(missing)}")
    if extra:
        faults.append(f"{len(extra)} hypotheses have no reference: {listed(extra)}")
    if faults:
        raise TextTableError("; ".join(faults))
    if not references:
        raise TextTableError("there are no texts to score")
    names = list(references)
    return names, [references[name] for name in names], [hypotheses[name] for name in names]


def check_once(where: str, names: list[str]) -> None:
    """Ids that stand twice are an error: it could not be known which text is meant, and one would count twice."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise TextTableError(f"{where}: {len(twice)} ids stand more than once: {listed(twice)}")


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _header_of(lines: Sequence[str]) -> TableHeader | None:
    """The header of a table with TABs, None if it has none and its lines are `id TAB text`.

    What is neither is a ValueError: a third column without a header, a header without a column of texts or with two.
    """
    columns = tuple(lines[0].split("\t"))
    known = {name.strip().casefold(): name for name in reversed(columns)}
    ids, texts = (tuple(known[name] for name in names if name in known) for names in (_IDS, _TEXTS))
    if ids and texts:
        if len(texts) > 1 and not {"path", "transcript"} <= set(columns):  # those two make it a manifest
            raise ValueError(f"the header has several columns of texts ({', '.join(texts)}): leave one of them")
        if len(set(columns)) != len(columns):
            raise ValueError(f"a column stands twice in the header ({', '.join(columns)})")
        return TableHeader(columns, ids, texts[0])
    if longer := next((line for line in lines if line.count("\t") > 1), None):
        raise ValueError(f"more than two columns, and no header that says which is the text: {longer[:80]!r}; {_CLEAR}")
    if ids or (texts and _no_number(columns[0])):
        raise ValueError(f"the first line may be a header or an utterance: {lines[0][:80]!r}; {_CLEAR}")
    return None


def _check_first_rows(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> None:
    """Raise ValueError if both tables begin with the same two words, unlike any id below: a header of unknown names."""
    if not references:
        return
    first, *others = references.items()
    same = first == next(iter(hypotheses.items()), None)
    unlike = _no_number(first[0]) and not any(_no_number(name) for name, _ in others)
    if same and others and unlike and len(first[1].split()) == 1:
        raise ValueError(f"both files begin with {' TAB '.join(first)!r}, which looks like a header; {_CLEAR}")


def _no_number(name: str) -> bool:
    """Whether a name has no digit and is no file: names of columns are like that, ids of utterances are not."""
    return not any(character.isdigit() or character in "./\\" for character in name)


def _named_rows(path: Path, header: TableHeader, lines: list[str]) -> Iterator[Row]:
    for line in lines:
        try:
            row = values_by_column(header.columns, line)
        except ValueError as error:
            raise TextTableError(f"{path}: {error}: {line[:80]!r}") from error
        name = next((row[column].strip() for column in header.ids if row[column].strip()), None)
        if name is None:
            raise TextTableError(f"{path}: a line without an id: {line[:80]!r}")
        yield name, row[header.text], row.get("speaker")


def _tab_rows(path: Path, lines: list[str]) -> Iterator[Row]:
    for line in lines:
        name, tab, text = line.partition("\t")
        if not tab and " " in line.strip():  # an id alone is an empty text whose TAB an editor took away
            raise TextTableError(f"{path}: a line without TAB between id and text: {line[:80]!r}")
        if not name.strip():
            raise TextTableError(f"{path}: a line without an id: {line[:80]!r}")
        yield name.strip(), text, None


def _trn_rows(path: Path, lines: list[str]) -> Iterator[Row]:
    for line in lines:
        text, bracket, rest = line.rstrip().rpartition("(")
        name, end = rest[:-1], rest[-1:]
        is_apart = not text or text[-1].isspace()
        if not (bracket and end == ")" and is_apart and name.split() == [name] and ")" not in name):
            raise TextTableError(
                f"{path}: neither `id TAB text`, nor `text (id)`, nor a table whose first line names the "
                f"columns: {line[:80]!r}"
            )
        yield name, text.strip(), None
