"""An assessment as a page for the one who spoke: the sentence, what to change, and how far that can be believed.

One file that needs nothing else. What is right, wrong or missing is told by a word and a mark and a line, and by colour
only besides. The recording is in it if it is given; each word can then be played.

Shapes: S samples.
"""

import base64
import io
from collections.abc import Iterator
from html import escape

import numpy as np
import soundfile
from numpy.typing import NDArray

from wav2vec2.files.html_page import page, table
from wav2vec2.pronunciation.advice import advice, on_pauses
from wav2vec2.pronunciation.assessment import AssessedPhone, AssessedWord, Assessment, Fault
from wav2vec2.pronunciation.azure_json import NO_CLAIM, NOT_CALIBRATED, calibration_in_words

#: The longest recording that is put into a page, in seconds: 4 MB of text.
LONGEST_EMBEDDED = 90.0

#: Seconds before and after a word that are played with it: CTC puts a sound into few of its frames.
_BEFORE, _AFTER = 0.08, 0.14

_STYLE = """
body { max-width: 46rem; }
.lead { font-size: 1.1rem; margin: .4rem 0 1.2rem; }
.sentence { display: flex; flex-wrap: wrap; gap: .8rem; margin: 0; padding: 0; list-style: none; }
.word { border: 1px solid #cbd2d9; border-radius: .5rem; padding: .5rem .7rem .6rem; background: #fff; }
.word .head { display: flex; align-items: center; gap: .5rem; font-size: 1.35rem; font-weight: 600; }
.word .state { display: block; font-size: .8rem; color: #52606d; margin-bottom: .35rem; }
.good { border-bottom: 4px solid #2f855a; }
.change { border-bottom: 4px double #c05621; background: #fffaf5; }
.change .text { text-decoration: underline wavy #c05621 .09em; text-underline-offset: .2em; }
.missing { border: 2px dashed #6b46c1; background: #faf8ff; }
.missing .text { text-decoration: line-through; }
.phones { display: flex; flex-wrap: wrap; gap: .3rem; align-items: flex-start; }
.phone { min-width: 1.8rem; padding: .1rem .4rem; border-radius: .3rem; text-align: center; border: 1px solid #9ae6b4;
  background: #f0fff4; font-size: 1.05rem; }
.phone small { display: block; font-size: .75rem; color: #1f2933; }
.phone.wrong { border: 2px solid #c05621; background: #feebc8; }
.phone.left { border: 2px dashed #6b46c1; background: #f3eefe; }
.phone.extra { border: 2px dotted #2b6cb0; background: #ebf4ff; }
button { font: inherit; font-size: .9rem; padding: .25rem .6rem; min-width: 2.4rem; min-height: 2.2rem; cursor: pointer;
  border: 1px solid #52606d; border-radius: .4rem; background: #fff; color: #1f2933; }
button:hover, button:focus-visible { background: #1f2933; color: #fff; }
.changes { padding-left: 1.2rem; }
.changes li { margin: .5rem 0; }
.changes strong { margin-right: .3rem; }
audio { width: 100%; margin: 1rem 0 0; }
.note { color: #323f4b; }
details summary { cursor: pointer; padding: .3rem 0; }
@media print { button, audio { display: none; } }
"""

_SCRIPT = """
const recording = document.querySelector("audio");
let end = Infinity;
const watch = () => {
  if (recording.currentTime >= end) { recording.pause(); end = Infinity; }
  else if (!recording.paused) requestAnimationFrame(watch);
};
recording.addEventListener("pause", () => { end = Infinity; });
for (const button of document.querySelectorAll("button[data-start]"))
  button.addEventListener("click", async () => {
    recording.pause();
    recording.currentTime = Number(button.dataset.start);
    await recording.play();
    end = Number(button.dataset.end);
    requestAnimationFrame(watch);
  });
"""

_EXPLAINED = {
    "Accuracy": "how probable it is, on average, that a sound of the words that were said is as asked",
    "Completeness": "how many of the words were said at all",
    "Fluency": "how much of the time from the first word to the last is no pause (a quarter of a second or more)",
    "All three": "the lowest counts 0.6, the others 0.2 each",
}


def learner_page(assessment: Assessment, recording: tuple[NDArray[np.float32], int] | None = None) -> str:
    """The page; with the samples (S,) of the recording and their rate, also what is needed to hear it.

    A recording longer than LONGEST_EMBEDDED is a ValueError.
    """
    playable = recording is not None
    faults = list(advice(assessment))
    parts = [
        f'<p class="lead">{_in_short(assessment)}</p>',
        f'<ul class="sentence">{"".join(_word(word, playable) for word in assessment.words)}</ul>',
        "" if recording is None else _embedded(*recording),
        "<h2>What to change</h2>",
        _changes(faults, playable),
        "<h2>How it ran on</h2>",
        f"<p>{escape(on_pauses(assessment))}</p>",
        "<h2>Scores out of 100</h2>",
        table(_scores(assessment), named_rows=True),
        f"<details><summary>Every sound</summary>{_every_sound(assessment)}</details>",
        "<h2>How far to believe this</h2>",
        *(f'<p class="note">{escape(sentence)}</p>' for sentence in _believed(assessment)),
        f"<script>{_SCRIPT}</script>" if playable else "",
    ]
    return page("How it was said", parts, _STYLE)


def _in_short(assessment: Assessment) -> str:
    right = sum(not word.omitted and not word.mispronounced for word in assessment.words)
    count = len(assessment.words)
    if right == count:
        return "Every word was heard as asked."
    return f"{right} of {count} words {'was' if right == 1 else 'were'} heard as asked. The others are marked."


def _word(word: AssessedWord, playable: bool) -> str:
    kind, state, phones = "good", "✓ as asked", [_phone(phone) for phone in word.phones]
    if word.omitted:
        kind, state = "missing", "✕ not heard"
        phones = [f'<span class="phone left">{escape(phone.text)}</span>' for phone in word.phones]
    elif word.mispronounced:
        kind, state = "change", "✎ to change"
    button = _button(word) if playable and not word.omitted else ""
    return (
        f'<li class="word {kind}"><span class="head"><span class="text">{escape(word.text)}</span>{button}</span>'
        f'<span class="state">{state}</span><span class="phones">{"".join(phones)}</span></li>'
    )


def _phone(phone: AssessedPhone) -> str:
    text, said = escape(phone.text), escape(phone.said)
    match phone.fault:
        case Fault.substitution:
            return f'<span class="phone wrong">{text}<small>heard {said}</small></span>'
        case Fault.omission:
            return f'<span class="phone left">{text}<small>not heard</small></span>'
        case Fault.insertion:
            return f'<span class="phone extra">+{said}<small>too much</small></span>'
        case _:
            return f'<span class="phone">{text}</span>'


def _button(word: AssessedWord) -> str:
    times = f'data-start="{max(word.start - _BEFORE, 0):.3f}" data-end="{word.end + _AFTER:.3f}"'
    return f'<button type="button" {times} aria-label="Play {escape(word.text)}">▶</button>'


def _embedded(samples: NDArray[np.float32], sampling_rate: int) -> str:
    """The recording as 16-bit WAV."""
    seconds = len(samples) / sampling_rate
    if seconds > LONGEST_EMBEDDED:
        raise ValueError(f"{seconds:.0f} s of sound are too much for a page: {LONGEST_EMBEDDED:.0f} s at most")
    stream = io.BytesIO()
    soundfile.write(stream, samples, sampling_rate, format="WAV", subtype="PCM_16")
    content = base64.b64encode(stream.getvalue()).decode()
    return f'<audio controls aria-label="The whole recording" src="data:audio/wav;base64,{content}"></audio>'


def _changes(faults: list[tuple[AssessedWord, str]], playable: bool) -> str:
    if not faults:
        return "<p>Nothing: every sound was heard as asked.</p>"
    rows = []
    for word, sentence in faults:
        button = _button(word) if playable and not word.omitted else ""
        rows.append(f"<li><strong>{escape(word.text)}</strong>{button} {escape(sentence)}</li>")
    return f'<ul class="changes">{"".join(rows)}</ul>'


def _scores(assessment: Assessment) -> Iterator[tuple[str, str, str]]:
    values = assessment.accuracy, assessment.completeness, assessment.fluency.score, assessment.score
    for (name, explained), value in zip(_EXPLAINED.items(), values, strict=True):
        yield name, f"{100 * value:.0f}", explained


def _every_sound(assessment: Assessment) -> str:
    rows = []
    for word in assessment.words:
        for phone in word.phones:
            heard = "as asked" if phone.fault is None else phone.said or "not heard"
            time = f"{phone.start:.2f} s" if phone.said else ""
            rows.append((word.text, phone.text or "(too much)", heard, f"{100 * phone.score:.0f}", time))
    return table(rows, head=("word", "asked", "heard", "score", "at"))


def _believed(assessment: Assessment) -> Iterator[str]:
    yield NO_CLAIM
    if assessment.calibration is None:
        yield (
            f"The scores are {NOT_CALIBRATED}: they are what the model believes of itself, which is more than it "
            "knows. They order the sounds of one recording; they are no grades."
        )
    else:
        yield f"The scores of sounds are {calibration_in_words(assessment)}. They hold for speech like that."
    if assessment.unit == "letters":
        yield "This model hears letters, not sounds: it tells what would be spelled otherwise, and no more."
    yield "A marked sound is one that the model heard otherwise. Models mishear: listen to it yourself first."
