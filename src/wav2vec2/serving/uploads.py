"""A form with one file, read as it arrives: the file goes to disk, and nothing is taken beyond the limits.

Starlette's own reader has no limit for the size of a file, and leaves a half form open.
"""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from wav2vec2.serving.refusals import NOT_AGAIN, RefusedError

#: Fields of a form, and bytes in all of them, at most; and bytes of the headers of a part.
_FIELDS, _FIELD_BYTES, _HEADER_BYTES = 64, 2**18, 2**14


@dataclass
class Upload:
    """The file of a form: what the client calls it, which is only shown, and where it lies."""

    name: str
    path: str


class Form:
    """A form that is being read: the values of each field, and the one file, whose content goes into `file`."""

    def __init__(self, boundary: bytes, file_field: str, file: IO[bytes], most_bytes: int) -> None:
        self.values: defaultdict[str, list[str]] = defaultdict(list)
        self.upload: Upload | None = None
        self.complete = False
        self._file_field, self._file, self._most_bytes = file_field, file, most_bytes
        self._headers: dict[bytes, bytes] = {}
        self._header_name, self._header_value = b"", b""
        self._field, self._data = "", bytearray()
        self._in_file = False
        self._fields = self._field_bytes = self._header_bytes = self._file_bytes = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_to_header_name,
                "on_header_value": self._add_to_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def feed(self, data: bytes) -> None:
        """The next bytes. What they must not be is a `RefusedError`."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise RefusedError(400, f"the form is no multipart/form-data: {error}", "invalid_form") from error

    def _begin(self) -> None:
        self._headers, self._data, self._in_file = {}, bytearray(), False
        self._fields += 1
        if self._fields > _FIELDS:
            raise RefusedError(400, f"the form has more than {_FIELDS} fields", "invalid_form")

    def _add_to_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def _add_to_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _HEADER_BYTES:
            raise RefusedError(400, f"the headers in the form have more than {_HEADER_BYTES} bytes", "invalid_form")

    def _end_header(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise RefusedError(400, "a part of the form has no name", "invalid_form")
        self._field = options[b"name"].decode("utf-8", "replace")
        if b"filename" not in options:
            return
        if self._field != self._file_field or self.upload is not None:
            raise RefusedError(400, f"the form must have one file, in the field {self._file_field}", "invalid_form")
        name = options[b"filename"].decode("utf-8", "replace")[-100:]
        shown = "".join(letter if letter.isprintable() else "?" for letter in name) or "the file"
        self.upload, self._in_file = Upload(shown, self._file.name), True

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._file_bytes += end - start
            if self._file_bytes > self._most_bytes:
                raise too_large(self._most_bytes)
            self._file.write(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > _FIELD_BYTES:
            raise RefusedError(413, f"the fields of the form have more than {_FIELD_BYTES} bytes", "too_large")
        self._data += data[start:end]

    def _end(self) -> None:
        if not self._in_file:
            self.values[self._field].append(self._data.decode("utf-8", "replace"))

    def _finish(self) -> None:
        self.complete = True


def too_large(most_bytes: int) -> RefusedError:
    """A recording has more bytes than are allowed."""
    message = f"a recording may have {most_bytes / 2**20:g} MiB"
    return RefusedError(413, message, "file_too_large", "file", NOT_AGAIN)


@asynccontextmanager
async def read_form(request: Request, file_field: str, most_bytes: int, most_seconds: float) -> AsyncIterator[Form]:
    """The form of a request; its file is there inside. Not whole, too large or too slow, it is a `RefusedError`."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 256:
        raise RefusedError(415, "the request must be multipart/form-data with a boundary", "invalid_form")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most_bytes + _FIELD_BYTES + _FIELDS * _HEADER_BYTES:
        raise too_large(most_bytes)
    with tempfile.TemporaryDirectory(prefix="wav2vec2-", ignore_cleanup_errors=True) as folder:
        with open(Path(folder) / "recording", "wb") as file:
            form = Form(boundary, file_field, file, most_bytes)
            try:
                async with asyncio.timeout(most_seconds):
                    async for data in request.stream():
                        form.feed(data)
            except TimeoutError as error:
                raise RefusedError(408, f"the recording did not arrive within {most_seconds:g} s", "timeout") from error
        if not form.complete:
            raise RefusedError(400, "the form ends in the middle", "invalid_form")
        yield form
