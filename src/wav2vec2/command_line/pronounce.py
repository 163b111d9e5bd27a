"""`wav2vec2 pronounce`: how well was it said?"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2.command_line import recogniser as options
from wav2vec2.command_line.recogniser import Recogniser
from wav2vec2.command_line.stopping import stoppable, told
from wav2vec2.command_line.transcript_files import (
    STANDARD_INPUT,
    audio_input,
    missing_files,
    try_writing,
    write_transcript,
)

if TYPE_CHECKING:
    from wav2vec2.inference.audio_inputs import AudioInput
    from wav2vec2.pronunciation.assessment import Assessment
    from wav2vec2.pronunciation.calibration import Calibration

#: Samples a second of the recording in a page.
_PAGE_RATE = 16_000

Text = Annotated[str | None, typer.Option("--text", "-t", help="What was to be said.")]
Phones = Annotated[
    str | None, typer.Option(help="The phones that were to be said (IPA), words between blanks: 'həˈloʊ wɜːld'.")
]
TextLanguage = Annotated[
    str | None, typer.Option(help="espeak's name of the language of --text, for a model of phones.")
]
Json = Annotated[Path | None, typer.Option(help="File for all scores, in Azure's names; - prints them.")]
Html = Annotated[Path | None, typer.Option(help="File for a page for the one who spoke.")]
EmbedAudio = Annotated[bool, typer.Option("--embed-audio", help="Put the recording into the page, to play each word.")]
Threshold = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="A sound with a lower score is a fault; by default as calibrated, or 0.0001."),
]
Curve = Annotated[
    Path | None, typer.Option(help="Its calibration; by default the one in the model's folder, if there is one.")
]
Calibrate = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Make the calibration, from a manifest of held-out recordings."),
]


def pronounce(
    audio: Annotated[Path | None, typer.Argument(help="Audio file; - is standard input.")] = None,
    *,
    model: options.Model,
    text: Text = None,
    phones: Phones = None,
    text_language: TextLanguage = None,
    json: Json = None,
    html: Html = None,
    embed_audio: EmbedAudio = False,
    threshold: Threshold = None,
    calibration: Curve = None,
    calibrate: Calibrate = None,
    language: options.Language = None,
    device: options.Device = None,
    dtype: options.DtypeOption = None,
) -> None:
    """Assess how well a text was said: each sound and word with its score, what was said instead, left out or put in.

    A model of phones assesses phones, one of letters letters. Scores are calibrated on held-out recordings (by
    `finetune` with text.phonemes, or --calibrate), or the answer says that they are not, and then only what the model
    is nearly certain of is told as a fault. Nothing is claimed about human learners.
    """
    if (audio is None) == (calibrate is None):
        raise typer.BadParameter("give a recording, or --calibrate with a manifest of them", param_hint="AUDIO")
    recogniser = Recogniser(model, device, language, dtype=dtype)
    with told("pronounce"):
        if calibrate is not None:
            if (text, phones, json, html) != (None,) * 4:
                raise ValueError("--calibrate takes what is asked from its manifest, and writes a calibration alone")
            _calibrate(recogniser, calibrate, calibration, text_language)
            return
        if text is None and phones is None:
            raise ValueError("say with --text or --phones what was to be said")
        if embed_audio and html is None:
            raise ValueError("--embed-audio is for the page: say with --html where it goes")
        for target in (json, html):
            if target is not None and target != STANDARD_INPUT:
                try_writing(target.parent)
        assert audio is not None
        found, recording = _assessed(recogniser, audio, text, phones, text_language, threshold, calibration)
        _write(found, recording, json, html, embed_audio)


def _assessed(
    recogniser: Recogniser,
    audio: Path,
    text: str | None,
    phones: str | None,
    text_language: str | None,
    threshold: float | None,
    calibration: Path | None,
) -> tuple["Assessment", "AudioInput"]:
    """The assessment, and the recording that it is of."""
    from wav2vec2.pronunciation.assessing import assess

    if missing_files([audio]):
        raise FileNotFoundError(f"{audio}: no such file")
    recogniser.check()
    curve = _calibration(recogniser, calibration)
    transcriber = recogniser.load()
    with stoppable("pronounce: stopping; Ctrl-C again stops at once") as stop:
        recording = audio_input(audio, stop)
        found = assess(
            transcriber,
            recording,
            text,
            phones,
            calibration=curve,
            text_language=text_language,
            threshold=threshold,
        )
    return found, recording


def _calibration(recogniser: Recogniser, path: Path | None) -> "Calibration | None":
    """The one that is given, or the one beside the model."""
    from wav2vec2.files.hub_files import local_path
    from wav2vec2.inference.checkpoint_check import reach
    from wav2vec2.pronunciation.calibration import CALIBRATION_FILE, read_calibration

    there = path or local_path(recogniser.model, CALIBRATION_FILE, reach(recogniser.model))
    return None if there is None else read_calibration(there)


def _calibrate(recogniser: Recogniser, manifest: Path, target: Path | None, text_language: str | None) -> None:
    """Make the calibration and say what it is worth."""
    from wav2vec2.pronunciation.calibrating import calibrate
    from wav2vec2.pronunciation.calibration import CALIBRATION_FILE

    if target is None:
        if not Path(recogniser.model).is_dir():
            raise ValueError(f"{recogniser.model} is not a folder here: say with --calibration where the file goes")
        target = Path(recogniser.model) / CALIBRATION_FILE
    recogniser.check()
    try_writing(target.parent)
    found = calibrate(recogniser.load(), manifest, text_language)
    found.save(target)
    typer.echo(found.in_words())
    typer.echo(f"mean squared error of the scores {found.brier_before:.4f} -> {found.brier:.4f}")
    typer.echo(f"saved in {target}")


def _write(
    found: "Assessment", recording: "AudioInput", json: Path | None, html: Path | None, embed_audio: bool
) -> None:
    """What was asked for, and on standard output the words in short."""
    from wav2vec2.pronunciation.assessing import samples_of
    from wav2vec2.pronunciation.azure_json import azure_json
    from wav2vec2.pronunciation.learner_page import learner_page

    if html is not None:
        sound = (samples_of(recording, _PAGE_RATE), _PAGE_RATE) if embed_audio else None
        write_transcript(html, learner_page(found, sound))
    if json == STANDARD_INPUT:
        typer.echo(azure_json(found), nl=False)
        return
    if json is not None:
        write_transcript(json, azure_json(found))
    for line in _in_short(found):
        typer.echo(line)


def _in_short(found: "Assessment") -> Iterator[str]:
    from wav2vec2.pronunciation.advice import advice, on_pauses
    from wav2vec2.pronunciation.azure_json import NO_CLAIM, calibration_in_words

    width = max(len(word.text) for word in found.words)
    told = {id(word): sentence for word, sentence in advice(found)}
    for word in found.words:
        sounds = " ".join(phone.text for phone in word.phones if phone.text)
        yield f"{word.text:<{width}}  {100 * word.score:3.0f}  {sounds}  {told.get(id(word), '')}".rstrip()
    shares = ("accuracy", found.accuracy), ("completeness", found.completeness), ("fluency", found.fluency.score)
    yield ", ".join(f"{name} {100 * share:.0f}" for name, share in shares) + f" (scores {calibration_in_words(found)})"
    yield on_pauses(found)
    yield NO_CLAIM
