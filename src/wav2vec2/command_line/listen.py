"""`wav2vec2 listen`: what is being said, while it is said?"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.stopping import STOPPED, told

if TYPE_CHECKING:
    from wav2vec2.command_line.live_text import LiveText


class LiveFormat(StrEnum):
    """What can be written."""

    txt = "txt"
    jsonl = "jsonl"


def listen(
    model: options.Model,
    source: Annotated[
        Path | None, typer.Argument(help="- is raw 16-bit samples of one channel on standard input; else a microphone.")
    ] = None,
    latency: Annotated[float, typer.Option(min=0.03, help="Seconds after which text is final at the latest.")] = 1.92,
    left_context: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds that the model looks back on; by default as far as suits it."),
    ] = None,
    rate: Annotated[int, typer.Option(min=1000, help="Samples a second on standard input.")] = 16000,
    silence: Annotated[float, typer.Option(min=0.1, help="Seconds of silence that end an utterance.")] = 0.8,
    format: Annotated[LiveFormat, typer.Option("--format", "-f", help="Text, or JSON lines with times.")] = (
        LiveFormat.txt
    ),
    lm: options.Lm = None,
    beam: options.Beam = None,
    hotwords: options.Hotwords = None,
    lexicon: options.Lexicon = None,
    language: options.Language = None,
    device: options.Device = None,
    dtype: options.DtypeOption = None,
) -> None:
    """Write down what is said while it is said.

    A line is an utterance, which ends by silence. On a terminal the text that is not final yet stands dimly behind the
    rest. Ctrl-C ends it, after the last words.
    """
    if source not in (None, Path("-")):
        raise typer.BadParameter("- for standard input, or nothing for the microphone", param_hint="SOURCE")
    wanted = Recogniser(model, device, language, lm, beam, hotwords, lexicon, dtype=dtype)
    with told("listen"):
        wanted.check()
        _listen(wanted, source is not None, (latency, left_context, silence), rate, format)


def _listen(
    wanted: Recogniser, from_pipe: bool, seconds: tuple[float, float | None, float], rate: int, format: LiveFormat
) -> None:
    from wav2vec2.command_line.live_text import JsonLines, OnTerminal, Utterances
    from wav2vec2.inference.streaming.endpoints import EndpointRules
    from wav2vec2.inference.streaming.live_sources import microphone, piped
    from wav2vec2.inference.streaming.streaming_recogniser import StreamingRecogniser

    latency, left_context, silence = seconds
    loaded = wanted.load()
    live = StreamingRecogniser(
        loaded.model,
        loaded.processor,
        loaded.decoder,
        latency,
        "auto" if left_context is None else left_context,
        endpoint=EndpointRules(silence),
    )
    shown: LiveText
    if format is LiveFormat.jsonl:
        shown = JsonLines(sys.stdout)
    else:
        shown = (OnTerminal if sys.stdout.isatty() else Utterances)(sys.stdout, live.separator)
    pipe: Any = sys.stdin.buffer
    heard = piped(pipe, rate, live.sampling_rate) if from_pipe else microphone(live.sampling_rate)
    stream = live.open()
    try:
        for packet in heard:
            shown.show(stream.feed(packet))
    except KeyboardInterrupt as stop:
        raise typer.Exit(STOPPED) from stop
    finally:
        shown.show(stream.finish())
        shown.close()
