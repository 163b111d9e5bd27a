"""Events of the Wyoming protocol on the wire: a line of JSON, more JSON if it says so, and bytes if it says so."""

import asyncio
import json
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

#: Bytes of a line, of the data after it, and of the payload, at most. Clients send a tenth of a second of sound.
LINE_BYTES, _DATA_BYTES, _PAYLOAD_BYTES = 2**16, 2**18, 2**20


class BrokenEventError(ValueError):
    """These bytes are no event; where the next one begins is not known."""


@dataclass(frozen=True)
class Event:
    """What one side tells the other: its type, what is known of it, and bytes of sound."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def encoded(self) -> bytes:
        """As it is sent."""
        head: dict[str, Any] = {"type": self.type, "version": version("wav2vec2")}
        data = json.dumps(self.data, ensure_ascii=False).encode("utf-8") if self.data else b""
        if data:
            head["data_length"] = len(data)
        if self.payload:
            head["payload_length"] = len(self.payload)
        return json.dumps(head).encode() + b"\n" + data + self.payload


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event; None where the other side has ended. What is no event is a `BrokenEventError`."""
    try:
        line = await reader.readline()
    except ValueError as error:
        raise BrokenEventError(f"a line of more than {LINE_BYTES} bytes") from error
    if not line:
        return None
    head = _object(line)
    kind, data = head.get("type"), head.get("data") or {}
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise BrokenEventError("an event must have a type, which is a text, and its data must be an object")
    more = await _bytes(reader, head, "data_length", _DATA_BYTES)
    payload = await _bytes(reader, head, "payload_length", _PAYLOAD_BYTES)
    return Event(kind, data | _object(more) if more else data, payload)


def _object(encoded: bytes) -> dict[str, Any]:
    try:
        found = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise BrokenEventError(f"no JSON: {encoded[:40]!r}") from error
    if not isinstance(found, dict):
        raise BrokenEventError(f"no JSON object: {encoded[:40]!r}")
    return found


async def _bytes(reader: asyncio.StreamReader, head: dict[str, Any], name: str, most: int) -> bytes:
    size = head.get(name) or 0
    if not isinstance(size, int) or not 0 <= size <= most:
        raise BrokenEventError(f"{name}={size!r:.40}: must be from 0 to {most}")
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise BrokenEventError("the connection ends in the middle of an event") from error
