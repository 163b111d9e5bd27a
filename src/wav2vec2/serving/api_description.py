"""What can be asked of the service: as OpenAPI, for programs, and as a page, for people."""

from html import escape
from importlib.metadata import version
from typing import Any

from wav2vec2.files.html_page import page, table
from wav2vec2.serving.settings import ServiceSettings
from wav2vec2.serving.transcription_formats import MEDIA_TYPES

#: The fields of a request for a transcript: type, and what it says.
_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "file": ({"type": "string", "format": "binary"}, "The recording: wav, flac, mp3, ogg, opus, m4a, webm ..."),
    "model": ({"type": "string"}, "A name that /v1/models lists; by default the first."),
    "language": (
        {"type": "string"},
        "What is spoken, such as en or eng. Another language than the model's is refused, where that is known.",
    ),
    "response_format": ({"type": "string", "enum": [*MEDIA_TYPES], "default": "json"}, "What the answer is."),
    "timestamp_granularities[]": (
        {"type": "array", "items": {"type": "string", "enum": ["word", "segment"]}},
        "Which times verbose_json has: of words, of segments (by default), or, given twice, of both.",
    ),
    "stream": ({"type": "boolean", "default": False}, "Whether text is sent as it is found, as server-sent events."),
    "prompt": ({"type": "string"}, "Without effect: a CTC model knows no prompts."),
    "temperature": ({"type": "number"}, "Without effect: nothing is drawn."),
}

#: The other addresses, and what they answer.
_PLACES = {
    "/v1/models": ("The names of the model", "application/json"),
    "/health": ("Whether the service works: 200, or 503", "application/json"),
    "/metrics": ("Figures for Prometheus", "text/plain"),
    "/openapi.json": ("This description for programs", "application/json"),
}

#: Where live sound is heard.
_LIVE_PLACES = [
    ["/captions", "A page that writes down what the microphone hears"],
    ["/v1/realtime?intent=transcription", "A websocket: OpenAI's realtime protocol"],
    ["/ or /vosk", "A websocket: Vosk's protocol"],
]
_LIVE_SOUND = ("<h2>Live sound</h2>", table(_LIVE_PLACES, ["address", "what"]))

_ERRORS = {
    "400": "A field is wrong, the form is not whole, or the file is no recording that can be read.",
    "401": "No key, or a wrong one.",
    "403": "A web page from elsewhere.",
    "404": "Another model.",
    "408": "The recording took too long to arrive.",
    "413": "The recording is too large.",
    "415": "The request is no multipart/form-data.",
    "429": "The queue is full; Retry-After says when to try again.",
    "504": "The transcript took too long.",
}


def description(settings: ServiceSettings) -> dict[str, Any]:
    """The description as OpenAPI 3.1."""
    properties = {name: schema | {"description": told} for name, (schema, told) in _FIELDS.items()}
    form = {"type": "object", "required": ["file"], "properties": properties}
    schemas: dict[str, Any] = {
        name: {"type": "string"} if kind.startswith("text/") else {"type": "object", "required": ["text"]}
        for name, kind in MEDIA_TYPES.items()
    }
    answers: dict[str, Any] = {"application/json": {"schema": schemas["json"]}}
    answers |= {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "text/vtt", "text/event-stream")}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    post: dict[str, Any] = {
        "operationId": "createTranscription",
        "summary": "A transcript of a recording",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": {"200": {"description": "The transcript", "content": answers}}
        | {status: {"description": told, "content": error} for status, told in _ERRORS.items()},
    }
    paths: dict[str, Any] = {"/v1/audio/transcriptions": {"post": post}}
    for place, (told, kind) in _PLACES.items():
        found = {"200": {"description": told, "content": {kind: {"schema": {}}}}}
        paths[place] = {"get": {"summary": told, "responses": found}}
    texts = {name: {"type": ["string", "null"]} for name in ("message", "type", "param", "code")}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"wav2vec2 serve: {settings.names[0]}", "version": version("wav2vec2")},
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {"type": "object", "properties": {"error": {"type": "object", "properties": texts}}},
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}] if settings.api_keys else [],
    }


def described_page(settings: ServiceSettings, live: bool) -> str:
    """The same to read, and where live sound is heard."""
    key = ' -H "Authorization: Bearer $KEY"' if settings.api_keys else ""
    command = f"curl{key} http://{settings.host}:{settings.port}/v1/audio/transcriptions -F file=@talk.wav"
    return page(
        f"wav2vec2 serve: {settings.names[0]}",
        [
            "<h2>POST /v1/audio/transcriptions</h2>",
            f'<div class="wide" tabindex="0"><pre>{escape(command)} -F response_format=srt</pre></div>',
            table([[name, told] for name, (_, told) in _FIELDS.items()], ["field", "meaning"]),
            "<h2>Errors</h2>",
            '<p>{"error": {"message", "type", "param", "code"}}</p>',
            table([list(row) for row in _ERRORS.items()], ["status", "reason"]),
            *(_LIVE_SOUND if live else ()),
            "<h2>GET</h2>",
            table([[place, told] for place, (told, _) in _PLACES.items()], ["address", "answer"]),
        ],
        "pre { background: #f2f4f7; padding: .6rem; }",
    )
