"""Files of texts with ids, for references and hypotheses.

Three forms are told apart by what is in them: `id TAB text` lines; tables whose first line names the columns, as
manifests do (see `text_headers`); and `text (id)` lines, the "trn" form of NIST's sclite.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wav2vec2.evaluation.text_headers import Header, header_of

_SHOWN = 20


class TextTableError(ValueError):
    """Texts that cannot be read or matched: where, what is wrong, which ids."""


@dataclass(frozen=True)
class TextTable:
    """Texts by id, and the speakers of those whose speaker the file tells."""

    texts: dict[str, str]
    speakers: dict[str, str] = field(default_factory=dict)
    has_header: bool = False


def read_texts(path: Path) -> TextTable:
    """Read a file in any of the three forms. An id that stands twice is an error."""
    try:
        lines = [line for line in path.read_text("utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise TextTableError(f"{path}: is not UTF-8 text ({error.reason})") from error
    header = None
    if any("\t" in line for line in lines):
        header = _header(path, lines)
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


Row = tuple[str, str, str | None]


def _header(path: Path, lines: list[str]) -> Header | None:
    try:
        return header_of(lines)
    except ValueError as error:
        raise TextTableError(f"{path}: {error}") from error


def _named_rows(path: Path, header: Header, lines: list[str]) -> Iterator[Row]:
    count = len(header.columns)
    for line in lines:
        values = line.split("\t")
        if len(values) != count:
            raise TextTableError(f"{path}: {len(values)} columns, but the header has {count}: {line[:80]!r}")
        row = dict(zip(header.columns, values, strict=True))
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
