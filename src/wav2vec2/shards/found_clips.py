"""What an index says of a clip, and how the audio of a clip is measured without decoding it."""

from pathlib import Path
from typing import IO, Any, NamedTuple

from wav2vec2.processing.audio_files import audio_duration

#: Clips of a tar that lie in the same so many bytes are read together. A row group of parquet is read as it is.
FRAGMENT_BYTES = 16 * 2**20


class FoundClip(NamedTuple):
    """A clip in a shard, as it is found when the shard is indexed."""

    #: Its name in the shard: that of its member, cut or file.
    name: str
    #: Which part of the shard it is read with: so many times `FRAGMENT_BYTES` of a tar, a row group of parquet.
    fragment: int
    #: Where its audio begins: the byte of a tar, the row in a row group.
    offset: int
    #: Bytes of its encoded audio; 0 where only its fragment knows.
    size: int
    #: How long it is, NaN where its header cannot be read.
    seconds: float
    #: Who speaks, if that is known.
    speaker: str | None = None
    #: What is said, if that is known.
    transcript: str | None = None
    #: The corpus it belongs to, if its shard says so.
    corpus: str | None = None
    #: The language that is spoken, if its shard says so.
    language: str | None = None
    #: Its label or labels, for who learns these, if there is one.
    label: str | None = None


def measured(audio: bytes | Path | IO[bytes]) -> float:
    """Seconds by the header, NaN where it cannot be read: one bad clip never stops the rest of its shard."""
    try:
        return audio_duration(audio)
    except MemoryError:
        raise
    except Exception:
        return float("nan")


def encoded_in(value: Any) -> bytes | None:
    """The encoded audio in a column of it: bytes, or {"bytes": ..., "path": ...} as `datasets` writes it."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else None
