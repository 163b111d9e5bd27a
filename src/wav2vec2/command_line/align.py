"""`wav2vec2 align`: when was each word of a known transcript said?"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from wav2vec2.decoding.aligned_words import AlignedWord

#: Seconds of audio that the model sees at once, and how many of them on either side are only context.
_WINDOW, _CONTEXT = 30, 4


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
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps ...")] = "cpu",
) -> None:
    """Find the time of every word of a transcript, and write it with its confidence."""
    from wav2vec2.decoding.subtitle_formats import render

    try:
        words, duration = _aligned(audio, read_transcript(text), model, language, device)
        content = render(words, format, audio.stem, duration)
        if output is not None:
            output.write_text(content, encoding="utf-8")
    except (ValueError, OSError) as error:
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


def _aligned(audio: Path, text: str, name: str, language: str | None, device: str) -> tuple[list["AlignedWord"], float]:
    """The words of the text, and the duration of the audio."""
    from wav2vec2.decoding.aligned_words import align_words
    from wav2vec2.decoding.frame_times import FrameTimes
    from wav2vec2.modeling import Wav2Vec2ForCTC
    from wav2vec2.processing.audio_files import load_audio
    from wav2vec2.processing.processor import Wav2Vec2Processor

    chosen = {} if language is None else {"target_lang": language}
    processor = Wav2Vec2Processor.from_pretrained(name, **chosen)
    model = Wav2Vec2ForCTC.from_pretrained(name, **chosen).eval().to(device)
    _check(model.config, processor.tokenizer, name)
    rate = processor.feature_extractor.sampling_rate
    samples = load_audio(audio, rate)
    times = FrameTimes(tuple(model.config.conv_kernel), tuple(model.config.conv_stride), rate)
    values = processor.feature_extractor(samples, sampling_rate=rate)["input_values"][0]
    words = align_words(
        window_log_probs(model, values, times.stride, times.frames(len(values)), rate),
        text,
        processor.tokenizer.get_vocab(),
        word_delimiter=processor.tokenizer.word_delimiter_token,
        blank=model.config.pad_token_id,
        times=times,
        duration=len(samples) / rate,
    )
    return words, len(samples) / rate


def _check(config: Any, tokenizer: Any, name: str) -> None:
    """Refuse checkpoints whose tokens are not letters, or whose frames are not those of the convolutions."""
    from wav2vec2.processing.phoneme_tokenizer import Wav2Vec2PhonemeCTCTokenizer

    if isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer):
        raise ValueError(f"{name}: spells phonemes; a transcript can only be aligned with letters")
    if config.add_adapter:
        raise ValueError(f"{name}: add_adapter=True drops frames after the convolutions; its times are not known")


def window_log_probs(model: Any, values: "NDArray[np.float32]", stride: int, frames: int, rate: int) -> "Tensor":
    """Log-probabilities (T, V) of a recording of any length: windows with context on both sides, cut at frames."""
    import torch

    core, context = ((_WINDOW - 2 * _CONTEXT) * rate // stride, _CONTEXT * rate // stride)
    pieces: list[Tensor] = [torch.zeros(0, model.config.vocab_size)]
    for begin in range(0, frames, core):
        end = begin + core if begin + core + context < frames else frames
        first = max(0, begin - context)
        last = len(values) if end == frames else (end + context) * stride
        with torch.inference_mode():
            window = torch.from_numpy(values[first * stride : last])[None].to(model.device)
            logits = model(window, attention_mask=torch.ones_like(window, dtype=torch.long)).logits[0]
        pieces.append(logits[begin - first : end - first].float().log_softmax(-1).cpu())
        if end == frames:
            break
    return torch.cat(pieces)
