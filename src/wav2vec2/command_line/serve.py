"""`wav2vec2 serve`: a model that others' programs ask for transcripts."""

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.stopping import told


def serve(
    model: Annotated[str, typer.Argument(help="Folder or Hub name of a CTC checkpoint.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for HTTP and websockets; 0 is any.")] = 8000,
    wyoming: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for the Wyoming protocol (Home Assistant).")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="What clients call the model, once for each name; by default its folder or Hub name."),
    ] = None,
    spoken: Annotated[str | None, typer.Option(help="What clients are told that the model hears, such as en.")] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Keys, one a line, of which a client must show one."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="A web page from elsewhere that may use it (https://captions.example.org), once for each."),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Recordings that may wait; then clients are told to wait.")] = 32,
    upload_limit: Annotated[float, typer.Option(min=0.001, help="MiB of a recording at most.")] = 100.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a client waits for an answer at most.")] = 600.0,
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
    """Serve a model: OpenAI's transcriptions over HTTP, and Wyoming.

    It ends on SIGTERM and Ctrl-C, once what is in flight is answered.
    """
    recogniser = Recogniser(model, device, language, lm, beam, hotwords, lexicon, window, dtype, batch_seconds)
    with told("serve"):
        try:
            from wav2vec2.serving.access import read_api_keys
            from wav2vec2.serving.application import Service
            from wav2vec2.serving.running import run
            from wav2vec2.serving.settings import ServiceSettings, is_loopback
        except ModuleNotFoundError as error:
            raise ImportError(f"{error.name} is not installed: pip install 'wav2vec2[serve]'") from error

        settings = ServiceSettings(
            names=tuple(name or (str(Path(model).resolve().name if Path(model).is_dir() else model),)),
            language=language,
            spoken=spoken,
            host=host,
            port=port,
            wyoming_port=wyoming,
            api_keys=() if api_key_file is None else read_api_keys(api_key_file),
            origins=tuple(allow_origin or ()),
            queue=queue,
            upload_bytes=round(upload_limit * 2**20),
            answer_seconds=timeout,
        )
        recogniser.check()
        service = Service(recogniser.load(), settings)

        def ready(address: str) -> None:
            typer.echo(f"serve: {settings.names[0]} at {address}, described at {address}/docs")
            if service.wyoming is not None and service.wyoming.socket is not None:
                typer.echo(f"serve: Wyoming at port {service.wyoming.socket.getsockname()[1]}")
            if not (is_loopback(host) or settings.api_keys):
                typer.echo("serve: without --api-key-file, everybody who reaches this machine may use it", err=True)

        run(service, ready)
