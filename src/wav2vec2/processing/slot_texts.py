"""Texts in which slots are marked, so that a recogniser writes what was said and what of it fills which slot:

    i want a <size>eight ounce</size> latte with <milk>soy milk</milk>

Each mark is one token of the vocabulary, and CTC learns it as it learns letters (SUPERB's slot filling does so with
`B-size eight ounce E-size`, which is read here too). A recogniser may write marks that belong to nothing. They are read
from left to right: a mark that opens goes with the next one that closes a slot of its name, and reading goes on behind
that; marks in between are taken out of the value; a mark without its other, and a pair around nothing, are as if they
were not there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wav2vec2.processing.slot_marks import MARK, check_name, from_superb
from wav2vec2.processing.texts_and_paths import Piece


@dataclass(frozen=True)
class SaidSlot:
    """A slot, its value as it was said, and in a path the frames of it, `end` exclusive."""

    #: Its name.
    name: str
    #: What was said.
    value: str
    #: The first frame of its first letter, or in a text the place of it.
    start: int
    #: Behind its last letter.
    end: int


@dataclass(frozen=True)
class SlotText:
    """A `text` without its marks, and the `slots` in it in their order."""

    text: str
    slots: tuple[SaidSlot, ...]

    @property
    def values(self) -> dict[str, list[str]]:
        """The values of each slot that is there."""
        found: dict[str, list[str]] = {}
        for slot in self.slots:
            found.setdefault(slot.name, []).append(slot.value)
        return found


def read_slots(text: str) -> SlotText:
    """What a marked text says; the frames of its slots are places in it.

    >>> read_slots("a <size>small</size> latte</milk> please").values
    {'size': ['small']}
    >>> read_slots("a <size>small</size> latte</milk> please").text
    'a small latte please'
    """
    text = from_superb(text)
    pieces, at = [], 0
    for mark in [*MARK.finditer(text), None]:
        end = len(text) if mark is None else mark.start()
        pieces += [Piece(text[place], place, place + 1) for place in range(at, end)]
        if mark is not None:
            pieces.append(Piece(mark[0], *mark.span()))
            at = mark.end()
    return read_pieces(pieces)


def read_pieces(pieces: Sequence[Piece], delimiter: str | None = " ") -> SlotText:
    """The same of the tokens of a path, whose words the `delimiter` stands between."""
    pieces = [piece._replace(token=" ") if piece.token == delimiter else piece for piece in pieces]
    marks = [MARK.fullmatch(piece.token) for piece in pieces]
    slots, at = [], 0
    while at < len(pieces):
        mark, at = marks[at], at + 1
        if mark is None or mark[1]:
            continue
        close = next((n for n in range(at, len(pieces)) if pieces[n].token == f"</{mark[2]}>"), None)
        if close is not None:
            inside = [piece for piece, other in zip(pieces[at:close], marks[at:close], strict=True) if other is None]
            value, letters = _words(inside), [piece for piece in inside if piece.token != " "]
            if value:
                slots.append(SaidSlot(mark[2], value, letters[0].start, letters[-1].end))
            at = close + 1
    plain = [piece for piece, mark in zip(pieces, marks, strict=True) if mark is None]
    return SlotText(_words(plain), tuple(slots))


def marked(text: str, slots: Mapping[str, str]) -> str:
    """A text in which the values of the slots are marked where they are said. Long values come first, so that none is
    looked for inside of another; a `ValueError` for one that is not said, word by word.

    >>> marked("a small latte with soy milk", {"milk": "soy milk", "size": "small"})
    'a <size>small</size> latte with <milk>soy milk</milk>'
    """
    words = text.split()
    taken: list[tuple[int, int, str]] = []
    for name, value in sorted(slots.items(), key=lambda item: -len(item[1].split())):
        check_name(name)
        said = value.split()
        free = (
            start
            for start in range(len(words) - len(said) + 1)
            if words[start : start + len(said)] == said
            and not any(start < end and begin < start + len(said) for begin, end, _ in taken)
        )
        start = next(free, None)
        if not said or start is None:
            raise ValueError(f"{value!r} ({name}) is not said in {text!r}")
        taken.append((start, start + len(said), name))
    for start, end, name in taken:
        words[start] = f"<{name}>{words[start]}"
        words[end - 1] += f"</{name}>"
    return " ".join(words)


def _words(pieces: Sequence[Piece]) -> str:
    return " ".join("".join(piece.token for piece in pieces).split())
