"""What the headers of WAV, Ogg and MP3 files say about their own length.

libsndfile shortens a cut-off WAV, Ogg or MP3 file without a word, reads only the first of several joined Ogg or MP3
streams, and guesses the length of an MP3 file without a Xing header from the bit rate of its first frame, which may
lose most of it. The checks here read a few headers and decode nothing.

An MP3 file is a row of MPEG layer III frames. Each begins with 32 bits: 11 of sync, then version, layer, protection,
bit rate, sampling rate, padding and more (ISO/IEC 11172-3, section 2.4.2.3). Frames of one file share the sync,
version, layer and sampling rate.
"""

import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

#: Writers that stream do not know the length; they write one of the largest sizes (FFmpeg all ones, SoX 0x7FFFF...).
_UNKNOWN_SIZE = 0x7FFFF000

#: An Ogg page is at most this long: 27 bytes, 255 lacing values, 255 segments of 255 bytes.
_LONGEST_OGG_PAGE = 27 + 255 + 255 * 255

#: What opens an MPEG layer III frame, or the tag before the first; a tag may also close the file before.
_MP3_BEGINS = re.compile(rb"(TAG.{125})?(\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xe0]|ID3[\x02-\x04])", re.DOTALL)

#: So much of the end of an MP3 file is looked at: ten of the longest frames (1,441 bytes).
_MP3_TAIL = 10 * 1441

#: A file with more chunks before its samples than this is not looked through.
_MOST_WAV_CHUNKS = 1000

#: Slack for writers of MP3 that count a closing tag in, and for those that leave the first frame out.
_MP3_SLACK, _MP3_LONGEST_FRAME = 256, 4096

#: The bits of the header that the frames of one file share.
_SHARED_BITS = 0xFFFE0C00

#: Bit rates in kbit/s, of version 1 (True) and of versions 2 and 2.5; 0 for what is free or none.
_BIT_RATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}

#: Sampling rates of version 1, and how often they are halved for versions 2.5, 2 and 1 by their bits.
_RATES, _HALVINGS = (44100, 48000, 32000), {0: 2, 2: 1, 3: 0}

#: So many frames that follow one another are no accident.
_IN_A_ROW = 3


@dataclass(frozen=True)
class XingHeader:
    """The first frame of most MP3 files: `frames` of 1152 or 576 samples, `size` in bytes, and where it starts."""

    frames: int
    size: int
    position: int


def truncation(stream: BinaryIO) -> str | None:
    """Why the file must have been cut off, or None if nothing in its headers says so."""
    magic = _read_at(stream, 0, 4)
    if magic == b"RIFF":
        return _wav_truncation(stream)
    if magic == b"OggS":
        return _ogg_truncation(stream)
    header = xing_header(stream)
    if header is not None and header.size:
        there = _size_of(stream) - header.position
        if there < header.size - _MP3_SLACK:
            return f"truncated: the header tells of {header.size} bytes of sound, {there} are there"
        return None
    return _mp3_truncation(stream)


def joined_streams(stream: BinaryIO) -> str | None:
    """Whether several files were joined end to end so that libsndfile would read only the first."""
    if _read_at(stream, 0, 4) == b"OggS":
        first, last = _read_at(stream, 14, 4), _last_ogg_page(stream)
        if last is not None and last[14:18] != first:
            return "several Ogg streams joined in one file"
        return None
    header = xing_header(stream)
    if header is None or not header.size:
        return None
    after = _read_at(stream, header.position + header.size, _MP3_LONGEST_FRAME)
    if len(after) == _MP3_LONGEST_FRAME and _MP3_BEGINS.match(after):
        return "more MP3 frames than its header tells of (files joined end to end)"
    return None


def xing_header(stream: BinaryIO) -> XingHeader | None:
    """The Xing or Info header of an MP3 file, None if it has none that says how many frames there are."""
    position = end_of_id3(stream)
    frame = _read_at(stream, position, 64)
    found = re.search(rb"Xing|Info", frame)
    if found is None or not re.match(rb"\xff[\xe0-\xff]", frame) or len(frame) < found.end() + 12:
        return None
    flags, frames, size = struct.unpack(">III", frame[found.end() : found.end() + 12])
    if not flags & 1:
        return None
    return XingHeader(frames, size if flags & 2 else 0, position)


def end_of_id3(stream: BinaryIO) -> int:
    """Where the MPEG frames start: behind the ID3v2 tag, whose size is written in 7 bits a byte; 0 without one."""
    tag = _read_at(stream, 0, 10)
    if len(tag) < 10 or tag[:3] != b"ID3":
        return 0
    size = 0
    for byte in tag[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _mp3_truncation(stream: BinaryIO) -> str | None:
    """An MP3 file that does not say how long it is tells that it was cut by an incomplete last frame alone."""
    first = end_of_id3(stream)
    length = min(_size_of(stream) - first, _MP3_TAIL)
    tail = _read_at(stream, _size_of(stream) - length, length)
    missing = _missing_at_end(_read_at(stream, first, 4), tail)
    return f"truncated: its last frame lacks {missing} bytes" if missing else None


def _wav_truncation(stream: BinaryIO) -> str | None:
    """Walk the chunks of a RIFF file to its samples and compare the size they claim with what is there."""
    end = _size_of(stream)
    position = 12
    for _ in range(_MOST_WAV_CHUNKS):
        header = _read_at(stream, position, 8)
        size = int.from_bytes(header[4:], "little")
        there = end - position - 8
        if len(header) < 8:
            break
        if header[:4] == b"data":
            if there < size < _UNKNOWN_SIZE:
                return f"truncated: the header tells of {size} bytes of samples, {there} are there"
            return None
        position += 8 + size + size % 2
    return None


def _ogg_truncation(stream: BinaryIO) -> str | None:
    """The last page of an Ogg file says that it is the last (RFC 3533, section 6: header type flag 4)."""
    last = _last_ogg_page(stream)
    if last is None or len(last) < 27:
        return "truncated in its last Ogg page"
    segments = last[26]
    body = sum(last[27 : 27 + segments])
    if len(last) < 27 + segments + body:
        return "truncated in its last Ogg page"
    return None if last[5] & 4 else "truncated: its last Ogg page does not close the stream"


def _last_ogg_page(stream: BinaryIO) -> bytes | None:
    """The bytes from the start of the last page to the end of the file."""
    length = min(_size_of(stream), _LONGEST_OGG_PAGE)
    tail = _read_at(stream, _size_of(stream) - length, length)
    start = tail.rfind(b"OggS\x00")
    return None if start < 0 else tail[start:]


def _size_of(stream: BinaryIO) -> int:
    stream.seek(0, os.SEEK_END)
    return stream.tell()


def _read_at(stream: BinaryIO, position: int, count: int) -> bytes:
    stream.seek(position)
    return stream.read(count)


def _missing_at_end(first: bytes, tail: bytes) -> int:
    """How many bytes the last frame lacks, if frames like the one that begins with `first` lead to the end of the tail.

    Where the frames of the tail begin is not known: at the first place from which several follow one another.
    """
    if not frame_length(first):
        return 0
    for begin in range(len(tail)):
        if tail[begin] == 0xFF and len(ends := _frame_ends(tail, begin, _shared(first))) > _IN_A_ROW:
            return max(0, ends[-1] - len(tail))
    return 0


def frame_length(header: bytes) -> int:
    """The bytes of the layer III frame that begins with these four; 0 if they begin none, or one of free bit rate.

    >>> frame_length(bytes([0xFF, 0xFB, 0x90, 0x64]))  # 128 kbit/s at 44.1 kHz
    417
    """
    bits = int.from_bytes(header, "big")
    version, layer, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 10 & 3
    if len(header) < 4 or bits >> 21 != 0x7FF or version == 1 or layer != 1 or rate == 3:
        return 0
    bit_rate = 1000 * _BIT_RATES[version == 3][bits >> 12 & 15]
    samples = 1152 if version == 3 else 576
    return samples // 8 * bit_rate // (_RATES[rate] >> _HALVINGS[version]) + (bits >> 9 & 1) if bit_rate else 0


def _frame_ends(tail: bytes, begin: int, shared: int) -> list[int]:
    """Where the frames that follow one another from `begin` on end; the last end may be behind the tail."""
    ends, place = [], begin
    while _shared(header := tail[place : place + 4]) == shared and (length := frame_length(header)):
        place += length
        ends.append(place)
    return ends


def _shared(header: bytes) -> int:
    return int.from_bytes(header, "big") & _SHARED_BITS
