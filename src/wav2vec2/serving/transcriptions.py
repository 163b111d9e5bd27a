"""`POST /v1/audio/transcriptions`: a recording in, its transcript out, as OpenAI's clients ask for it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from wav2vec2.serving.awaited_job import AwaitedJob, busy
from wav2vec2.serving.event_stream import EventStream
from wav2vec2.serving.file_worker import FileWorker, QueueFullError
from wav2vec2.serving.refusals import RefusedError
from wav2vec2.serving.settings import ServiceSettings
from wav2vec2.serving.spoken_languages import UNKNOWN, language_of
from wav2vec2.serving.transcription_formats import MEDIA_TYPES, as_json, as_text, as_verbose_json, usage
from wav2vec2.serving.uploads import Form, Upload, read_form

#: What the form may hold. Of those that are marked, a CTC model can make nothing; the answer says that they had no
#: effect.
_WITHOUT_EFFECT = frozenset({"prompt", "temperature", "chunking_strategy"})
_FIELDS = frozenset({"model", "language", "response_format", "timestamp_granularities[]", "stream", "include[]"})

_TEXT_FOR_FILE = "the field file is a text, and no file (curl: -F file=@talk.wav)"
_NO_FILE = "the form has no file, in the field file"

GRANULARITIES = ("word", "segment")


@dataclass(frozen=True)
class Asked:
    """What the fields of a form ask for."""

    format: str
    granularities: tuple[str, ...]
    stream: bool
    #: Fields that have no effect here.
    without_effect: tuple[str, ...]

    @classmethod
    def of(cls, form: Form, settings: ServiceSettings) -> "Asked":
        """A `RefusedError` where a field asks for something that there is not."""
        if form.upload is None:
            raise RefusedError(400, _TEXT_FOR_FILE if "file" in form.values else _NO_FILE, "missing_file", "file")
        unknown = sorted(set(form.values) - _FIELDS - _WITHOUT_EFFECT)
        if unknown:
            raise RefusedError(400, f"unknown field {unknown[0]}", "unknown_parameter", unknown[0])
        check_model(_one(form, "model", settings.names[0]), settings)
        check_language(_one(form, "language", ""), settings)
        format = _one(form, "response_format", "json")
        if format not in MEDIA_TYPES:
            raise _wrong("response_format", format, f"one of {', '.join(MEDIA_TYPES)}")
        granularities = tuple(form.values["timestamp_granularities[]"])
        for one in granularities:
            if one not in GRANULARITIES:
                raise _wrong("timestamp_granularities[]", one, "word or segment")
        if granularities and format != "verbose_json":
            raise _wrong("timestamp_granularities[]", granularities[0], "left out unless response_format=verbose_json")
        stream = _one(form, "stream", "false").lower()
        if stream not in ("true", "false", "1", "0"):
            raise _wrong("stream", stream, "true or false")
        if stream in ("true", "1") and format not in ("json", "text"):
            raise _wrong("response_format", format, "json where stream=true")
        no_effect = _WITHOUT_EFFECT if settings.languages else _WITHOUT_EFFECT | {"language"}
        without_effect = tuple(name for name in sorted(no_effect) if form.values.get(name))
        return cls(format, granularities or ("segment",), stream in ("true", "1"), without_effect)

    @property
    def headers(self) -> dict[str, str]:
        """What is said beside the answer."""
        return {"wav2vec2-without-effect": ", ".join(self.without_effect)} if self.without_effect else {}


def check_model(name: str, settings: ServiceSettings) -> None:
    """A `RefusedError` if the model that is asked for is another one."""
    if name not in settings.names:
        shown = ", ".join(settings.names)
        raise RefusedError(404, f"the model {name!r} is not served here, but {shown}", "model_not_found", "model")


def check_language(language: str, settings: ServiceSettings) -> None:
    """A `RefusedError` if a language is asked for that is another than the model's, or none at all.

    OpenAI's API refuses a name that is no language; one that its model does not hear gives a wrong text, which its
    clients take for a right one, so this is refused as well. Where nobody has said what the model hears, any language
    is taken, since many clients always send one; the answer then says that it had no effect, and not that it was heard.
    """
    if not language or settings.hears(language):
        return
    if settings.languages:
        raise _wrong("language", language, f"{settings.languages[0]}, which this service hears, or left out")
    if language_of(language) is None:
        message = f"language={language[:100]!r}: must be one of ISO 639, such as en or eng"
        raise RefusedError(400, message, "invalid_language_format", "language")


def _one(form: Form, name: str, default: str) -> str:
    values = form.values.get(name) or [default]
    if len(values) > 1:
        raise RefusedError(400, f"{name} is there {len(values)} times", "invalid_value", name)
    return values[0].strip() or default


def _wrong(name: str, value: str, right: str) -> RefusedError:
    return RefusedError(400, f"{name}={value[:100]!r}: must be {right}", "invalid_value", name)


class Transcriptions:
    """Answers requests for transcripts."""

    def __init__(self, worker: FileWorker, settings: ServiceSettings) -> None:
        self._worker, self._settings = worker, settings
        self._arriving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. What it must not be is a `RefusedError`, or, once an answer has begun, an event in it."""
        with contextlib.suppress(ClientDisconnect):
            async with self._form(Request(scope, receive)) as (form, asked):
                upload = cast(Upload, form.upload)
                waiting = AwaitedJob(self._worker, upload.path, upload.name)
                events = EventStream(send, asked.headers)
                try:
                    async with waiting.within(self._settings.answer_seconds, receive):
                        if asked.stream:
                            await _tell(waiting, events)
                        else:
                            await (await self._response(waiting, asked))(scope, receive, send)
                except RefusedError as refusal:
                    if not events.begun:
                        raise
                    await events.end(refusal.content())

    @contextlib.asynccontextmanager
    async def _form(self, request: Request) -> AsyncIterator[tuple[Form, Asked]]:
        """The form inside, and what it asks for. Recordings that arrive need room as well as those that wait: there is
        some for twice as many."""
        try:
            self._worker.check_for_room()
        except QueueFullError as full:
            raise busy(full) from full
        if self._arriving > 2 * self._settings.queue:
            raise busy(QueueFullError(1))
        limits = self._settings.upload_bytes, self._settings.upload_seconds
        with contextlib.ExitStack() as arriving:
            self._arriving += 1
            arriving.callback(self._arrived)
            async with read_form(request, "file", *limits) as form:
                arriving.close()
                yield form, Asked.of(form, self._settings)

    def _arrived(self) -> None:
        self._arriving -= 1

    async def _response(self, waiting: AwaitedJob, asked: Asked) -> Response:
        found = await waiting.transcript()
        if asked.format == "verbose_json":
            language = next(iter(self._settings.languages), UNKNOWN)
            return JSONResponse(as_verbose_json(found, language, asked.granularities), headers=asked.headers)
        if asked.format == "json":
            return JSONResponse(as_json(found), headers=asked.headers)
        return Response(as_text(found, asked.format), 200, asked.headers, MEDIA_TYPES[asked.format])


async def _tell(waiting: AwaitedJob, events: EventStream) -> None:
    """The text as it is found, piece by piece, and then all of it."""
    told = ""
    async for text in waiting.texts():
        if text != told:
            await events.send({"type": "transcript.text.delta", "delta": text[len(told) :]})
            told = text
    found = await waiting.transcript()
    await events.end({"type": "transcript.text.done", "text": found.text, "usage": usage(found)})
