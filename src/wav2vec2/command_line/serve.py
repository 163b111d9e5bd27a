"""`wav2vec2 serve`: a model that others' programs ask for transcripts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.stopping import told

if TYPE_CHECKING:
    from wav2vec2.serving.application import Service
    from wav2vec2.serving.settings import ServiceSettings

Host = Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port for HTTP and websockets; 0 is any.")]
Wyoming = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port for the Wyoming protocol (Home Assistant); by default none.")
]
Name = Annotated[
    list[str] | None,
    typer.Option(help="What clients call the model, once for each name; by default its folder or Hub name."),
]
Spoken = Annotated[str | None, typer.Option(help="What clients are told that the model hears, such as en.")]
ApiKeys = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Keys, one a line; a client must show one of them.")
]
Origins = Annotated[
    list[str] | None,
    typer.Option(help="A web page from elsewhere that may use it (https://captions.example.org), once for each."),
]
Queue = Annotated[int, typer.Option(min=1, help="Recordings that may wait; then clients are told to come again.")]
Streams = Annotated[int, typer.Option(min=1, help="Websockets that may send live sound at a time.")]
Latency = Annotated[
    float | None, typer.Option(min=0.1, help="Seconds after which the text of live sound is final; 1.92 unless said.")
]
UploadLimit = Annotated[float, typer.Option(min=0.001, help="MiB of a recording at most.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that a client waits for a transcript at most.")]


def serve(
    model: Annotated[str, typer.Argument(help="Folder or Hub name of a CTC checkpoint.")],
    host: Host = "127.0.0.1",
    port: Port = 8000,
    wyoming: Wyoming = None,
    name: Name = None,
    spoken: Spoken = None,
    api_key_file: ApiKeys = None,
    allow_origin: Origins = None,
    queue: Queue = 32,
    streams: Streams = 256,
    latency: Latency = None,
    upload_limit: UploadLimit = 100.0,
    timeout: Timeout = 600.0,
    lm: options.Lm = None,
    beam: options.Beam = None,
    hotwords: options.Hotwords = None,
    lexicon: options.Lexicon = None,
    language: options.Language = None,
    device: options.Device = None,
    dtype: options.DtypeOption = None,
    window: options.Window = None,
    batch_seconds: options.BatchSeconds = None,
) -> None:
    """Serve a model: OpenAI's transcriptions and realtime protocol, Vosk's websocket, Wyoming, a page of captions.

    It ends on SIGTERM and Ctrl-C, once what is in flight is answered.
    """
    with told("serve"):
        _check_installed()
        from wav2vec2.serving.settings import ServiceSettings

        names = tuple(name or (Path(model).resolve().name if Path(model).is_dir() else model,))
        upload, final_after = round(upload_limit * 2**20), latency or 1.92
        keys, origins = _keys(api_key_file), tuple(origin.rstrip("/") for origin in allow_origin or ())
        settings = ServiceSettings(
            names, language, spoken, host, port, wyoming, keys, origins, queue, streams, final_after, upload, timeout
        )
        recogniser = Recogniser(model, device, language, lm, beam, hotwords, lexicon, window, dtype, batch_seconds)
        recogniser.check()
        _run(recogniser, settings, latency is not None)


def _check_installed() -> None:
    """An ImportError that says what to do if the extra is not there."""
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "websockets", "python_multipart") if find_spec(name) is None]
    if missing:
        raise ImportError(f"{', '.join(missing)} not installed: pip install 'wav2vec2[serve]'")


def _keys(file: Path | None) -> tuple[str, ...]:
    from wav2vec2.serving.access import read_api_keys

    return () if file is None else read_api_keys(file)


def _run(recogniser: Recogniser, settings: "ServiceSettings", must_be_live: bool) -> None:
    """Load the model, and serve it until a signal; one that cannot hear live for its recordings, unless it must."""
    from wav2vec2.serving.application import Service
    from wav2vec2.serving.running import run

    service = Service(recogniser.load(), settings)
    if must_be_live and service.no_live_sound:
        raise ValueError(f"--latency: {service.no_live_sound}")
    run(service, lambda address: _tell(service, address))


def _tell(service: "Service", address: str) -> None:
    from wav2vec2.serving.settings import is_loopback

    settings = service.settings
    captions = "" if service.no_live_sound else f", captions at {address}/captions"
    typer.echo(f"serve: {settings.names[0]} at {address}, described at {address}/docs{captions}")
    if service.no_live_sound:
        typer.echo(f"serve: recordings alone, no live sound: {service.no_live_sound}", err=True)
    if service.wyoming is not None and service.wyoming.socket is not None:
        typer.echo(f"serve: Wyoming at port {service.wyoming.socket.getsockname()[1]}")
        if not settings.languages:
            typer.echo("serve: Wyoming's clients are told no language: --spoken en would say one", err=True)
    if not (is_loopback(settings.host) or settings.api_keys):
        typer.echo("serve: without --api-key-file, everybody who reaches this machine may use it", err=True)
