"""MPEG layer III frames, the pieces of an MP3 file: how long each is, and whether the last one is whole.

A frame begins with 32 bits: 11 of sync, then version, layer, protection, bit rate, sampling rate, padding and more
(ISO/IEC 11172-3, section 2.4.2.3). Frames of one file share the sync, version, layer and sampling rate.
"""

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


def missing_at_end(first: bytes, tail: bytes) -> int:
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
