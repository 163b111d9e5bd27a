"""Models of sentencepiece, as far as their tokens go: read and written without the library.

Such a file is a message of protocol buffers. Field 1 is there once for each piece: its text (1), score (2) and kind
(3). Field 2 says how it was trained and field 3 how texts are normalised.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.modeling.loading import CheckpointError

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_pieces(path: Path, data: bytes) -> list[str]:
    """The texts of all pieces, by id."""
    try:
        pieces = [value for number, value in _fields(data) if number == 1]
        texts = [_text(piece) for piece in pieces]
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: is no model of sentencepiece, or corrupt ({error})") from error
    if not texts:
        raise CheckpointError(f"{path}: is no model of sentencepiece: it has no pieces")
    return texts


def _text(piece: object) -> str:
    if not isinstance(piece, bytes):
        raise ValueError("a piece that is a number")
    texts = [value for number, value in _fields(piece) if number == 1 and isinstance(value, bytes)]
    if len(texts) != 1:
        raise ValueError("a piece without a text")
    return texts[0].decode("utf-8")


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a message: their numbers, and texts or messages as bytes, all others as a number."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            length, place = _varint(data, place)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + length > len(data):
            raise ValueError("a field that ends behind the file")
        content = data[place : place + length]
        yield tag >> 3, content if kind == _BYTES else int.from_bytes(content, "little")
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number of more than 64 bits")


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """A model of single characters, whose texts are taken as they are: no normalisation, a space is `\\u2581`."""
    message = b""
    for row, piece in enumerate(pieces):
        kind = _UNKNOWN if row == 3 else _CONTROL if row < 3 else _NORMAL
        body = _field(1, piece.encode("utf-8")) + bytes([2 << 3 | _FIXED32]) + struct.pack("<f", -float(row))
        message += _field(1, body + _number(3, kind))
    # the trainer's kind of model (3: characters is 4) and its ids of unknown, start, end, padding (40 to 43)
    ids = _number(40, 3) + _number(41, 0) + _number(42, 2) + _number(43, 1)
    message += _field(2, _number(3, 4) + ids)
    # the normaliser's name, and that it neither adds a space in front nor takes spaces away
    message += _field(3, _field(1, b"identity") + _number(3, 0) + _number(4, 0) + _number(5, 1))
    with replaced_file(path) as stream:
        stream.write(message)


def _field(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _as_varint(number << 3 | _VARINT) + _as_varint(value)


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
