"""`wav2vec2 align`: when was each word of a known transcript said?"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wav2vec2.decoding.aligned_words import AlignedWord


class Format(StrEnum):
    """What can be written."""

    json = "json"
    textgrid = "textgrid"
    ctm = "ctm"
    srt = "srt"
    vtt = "vtt"


def align(
    audio: Annotated[Path, typer.Argument(help="Audio file.")],
    text: Annotated[str, typer.Argument(help="Its transcript: a UTF-8 text file, or the words themselves.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Folder or Hub name of a CTC checkpoint.")],
    format: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = Format.json,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; by default standard output.")] = None,
    language: Annotated[str | None, typer.Option(help="Language of a checkpoint with several, such as eng.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda, mps; by default the best.")] = None,
) -> None:
    """Find the time of every word of a transcript, and write it with its confidence."""
    from wav2vec2.command_line.transcript_files import write_transcript
    from wav2vec2.decoding.subtitle_formats import render

    try:
        words, duration = _aligned(audio, read_transcript(text), model, language, device)
        content = render(words, format, audio.stem, duration)
        if output is not None:
            write_transcript(output, content)
    except (ValueError, OSError, RuntimeError, AssertionError) as error:  # torch raises the last two for devices
        typer.echo(f"align: {error}", err=True)
        raise typer.Exit(1) from error
    if output is None:
        typer.echo(content, nl=False)
    doubtful = [word.text for word in words if not word.aligned]
    if doubtful:
        shown = " ".join(doubtful[:10]) + (" ..." if len(doubtful) > 10 else "")
        typer.echo(f"align: the times of {len(doubtful)} of {len(words)} words are guesses: {shown}", err=True)


def read_transcript(text: str) -> str:
    """The content of a text file, or the words themselves. What looks like a file and is none is an error."""
    is_name = "\n" not in text and len(text) < 1000
    if is_name and Path(text).is_file():
        content = Path(text).read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{text}: not UTF-8 text ({error})") from error
    elif is_name and len(text.split()) == 1 and Path(text).suffix:
        raise FileNotFoundError(f"{text}: no such transcript")
    if not text.split():
        raise ValueError("the transcript is empty: there is nothing to align")
    return text


def _aligned(
    audio: Path, text: str, name: str, language: str | None, device: str | None
) -> tuple[list["AlignedWord"], float]:
    """The words of the text, and the duration of the audio."""
    from transformers.utils import logging

    from wav2vec2.decoding.aligned_words import align_words
    from wav2vec2.decoding.frame_times import FrameTimes
    from wav2vec2.inference.transcriber import Transcriber
    from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer

    logging.disable_progress_bar()
    transcriber = Transcriber.from_pretrained(name, device=device, language=language)
    tokenizer, config = transcriber.processor.tokenizer, transcriber.model.config
    if isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer):
        raise ValueError(f"{name}: spells phonemes; a transcript can only be aligned with letters")
    rate = transcriber.processor.feature_extractor.sampling_rate
    log_probs, duration = transcriber.log_probs(audio)
    words = align_words(
        log_probs,
        text,
        tokenizer.get_vocab(),
        word_delimiter=tokenizer.word_delimiter_token,
        blank=config.pad_token_id,
        times=FrameTimes(tuple(config.conv_kernel), tuple(config.conv_stride), rate),
        duration=duration,
    )
    return words, duration
