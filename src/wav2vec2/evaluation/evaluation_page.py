"""An evaluation as one HTML page that needs nothing else: no network, no script, no picture.

Every kind of error has a letter and a colour, so that the page can be read without colours, and printed.
"""

from collections.abc import Iterable, Sequence
from html import escape

from wav2vec2.evaluation.bootstrap import Improvement, Interval
from wav2vec2.evaluation.confusions import confusions, worst
from wav2vec2.evaluation.evaluation import Comparison, Evaluation
from wav2vec2.evaluation.evaluation_run import Evaluated, Utterance
from wav2vec2.evaluation.figures_in_words import length, percent, setting_text, times_as_fast
from wav2vec2.evaluation.scoring import Edit

_CONFUSIONS = 20
_WORST = 30
_NOTHING = "∅"
_LETTERS = {"hit": "", "substitution": "S", "deletion": "D", "insertion": "I"}

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c;
  background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; overflow-wrap: anywhere; } h3 small { font-weight: normal; color: #555; }
table { border-collapse: collapse; margin: 0 0 .6rem; } .caption { margin: .6rem 0 0; color: #555; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e4e4e4; }
th:last-child, td:last-child { padding-right: 0; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; }
.origin td { overflow-wrap: anywhere; min-width: 5rem; }
.big { font-size: 1.25rem; font-weight: 600; } .wide { overflow-x: auto; } .side { display: flex; flex-wrap: wrap;
  gap: 0 3rem; } code { overflow-wrap: anywhere; }
.line { display: flex; flex-wrap: wrap; gap: .3rem .15rem; margin: .2rem 0 .7rem; }
.line > b { flex: 0 0 5rem; font-weight: normal; color: #555; }
.w { display: inline-flex; flex-direction: column; align-items: center; padding: 0 .25rem; border-radius: .2rem;
  border: 1px solid transparent; line-height: 1.3; }
.w i { font-style: normal; font-size: .7rem; font-weight: 700; min-height: 1rem; }
.substitution { background: #fff0d0; border-color: #b47a00; } .deletion { background: #dcebff; border-color: #1f5fae;
  border-style: dashed; } .insertion { background: #ffe1e6; border-color: #b3203c; border-style: dotted; }
.none { color: #777; }
@media (max-width: 40rem) { th, td { padding-right: .4rem; font-size: .8rem; } }
"""


def evaluation_page(evaluated: Evaluated) -> str:
    """The page: summary, intervals, confusions, the worst utterances, what could not be read, how it was measured."""
    evaluation = evaluated.evaluation
    title = f"{evaluation.model.name} on {_data_name(evaluation)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _summary(evaluation),
        "" if evaluation.comparison is None else _comparison(evaluation.comparison),
        *(_errors(decoding.name, evaluated.utterances) for decoding in evaluation.decodings),
        _worst(evaluated),
        _failures(evaluation),
        _origin(evaluation),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _summary(evaluation: Evaluation) -> str:
    speakers = "" if evaluation.speakers is None else f" of {evaluation.speakers} speakers"
    failed = (
        f" <strong>{len(evaluation.failures)} recordings could not be read.</strong>" if evaluation.failures else ""
    )
    intro = (
        f"<p>{evaluation.utterances} utterances{speakers}, {length(evaluation.hours)}. Normaliser "
        f"<code>{escape(evaluation.normalizer)}</code>: {escape(evaluation.normalizer_steps)}.{failed}</p>"
    )
    ways = evaluation.decodings
    measured = [(f"{one.name} {unit}", rate) for one in ways for unit, rate in (("WER", one.wer), ("CER", one.cer))]
    level = f"{evaluation.resampling.level:.0%}".replace("%", " %")
    rates = _table(
        ["", "Rate", f"{level}, utterances", f"{level}, speakers"],
        [[name, percent(one.rate), _interval(one.interval), _interval(one.speaker_interval)] for name, one in measured],
        f"Errors of the whole corpus; {level} intervals from {evaluation.resampling.resamples} resamples of "
        "utterances, and of whole speakers.",
        numbers_from=1,
    )
    counts = _table(
        ["", "S", "D", "I", "Of"],
        [
            [name, *map(str, (one.substitutions, one.deletions, one.insertions, one.reference))]
            for name, one in measured
        ],
        "S: substitutions, D: deletions, I: insertions.",
        numbers_from=1,
    )
    times = [
        [one.name, _share(one.wrong_utterances, evaluation.utterances), _seconds(one.audio_seconds),
         _seconds(one.seconds), times_as_fast(one.real_time_factor)]
        for one in ways
    ]  # fmt: skip
    speed = _table(
        ["", "Utterances with errors", "Audio", "Computing", "Times as fast as speech"],
        times,
        "Computing: reading, model and search, without loading.",
        numbers_from=1,
    )
    return f'{intro}{rates}<div class="side">{counts}{speed}</div>'


def _comparison(comparison: Comparison) -> str:
    found = (("utterances", comparison.by_utterance), ("speakers", comparison.by_speaker))
    sentences = [_improvement(comparison, unit, one) for unit, one in found if one is not None]
    return f"<h2>{escape(comparison.better)} beside {escape(comparison.than)}</h2>" + "".join(sentences)


def _improvement(comparison: Comparison, unit: str, found: Improvement) -> str:
    return (
        f"<p>Drawing {unit} again, {escape(comparison.better)} makes fewer word errors than {escape(comparison.than)} "
        f"with probability <strong>{found.probability:.3f}</strong>; the difference of the rates is "
        f"{percent(found.difference, signed=True)} ({_interval(found.interval, signed=True)}).</p>"
    )


def _errors(name: str, utterances: Sequence[Utterance]) -> str:
    found = confusions(one.scores[name] for one in utterances)
    tables = []
    for kind, header in (
        ("substitution", ["Said", "Heard"]),
        ("deletion", ["Left out"]),
        ("insertion", ["Put in"]),
    ):
        often = [(edit, count) for edit, count in found.most_common() if edit.kind == kind][:_CONFUSIONS]
        rows = [[*(word for word in (edit.reference, edit.hypothesis) if word is not None), str(count)]
                for edit, count in often]  # fmt: skip
        if rows:
            tables.append(_table([*header, "Times"], rows, f"{_LETTERS[kind]}: {kind}s", numbers_from=len(header)))
    if not tables:
        return f"<h2>Most frequent errors, {escape(name)}</h2><p>None.</p>"
    return f'<h2>Most frequent errors, {escape(name)}</h2><div class="side">{"".join(tables)}</div>'


def _worst(evaluated: Evaluated) -> str:
    names = [decoding.name for decoding in evaluated.evaluation.decodings]
    numbers = worst([one.scores[names[-1]] for one in evaluated.utterances], _WORST)
    if not numbers:
        return f"<h2>Worst utterances</h2><p>Every utterance is right ({escape(names[-1])}).</p>"
    legend = "".join(
        _word(edit) for edit in (Edit("right", "right"), Edit("said", "heard"), Edit("said", None), Edit(None, "heard"))
    )
    intro = (
        f"<h2>Worst utterances</h2><p>Those with most word errors ({escape(names[-1])}). Above what was said, below"
        f" what was heard; S substituted, D deleted, I inserted, {_NOTHING} nothing there.</p>"
        f'<div class="line"><b>legend</b>{legend}</div>'
    )
    return intro + "".join(_utterance(evaluated.utterances[number], names) for number in numbers)


def _utterance(one: Utterance, names: Iterable[str]) -> str:
    heading = f"<h3>{escape(one.id)} <small>{_seconds(one.seconds)}"
    lines = []
    for name in names:
        score = one.scores[name]
        heading += f" · {escape(name)}: errors {score.words.errors}, words {score.words.reference}"
        words = "".join(map(_word, score.edits))
        lines.append(f'<div class="line"><b>{escape(name)}</b>{words}</div>')
    return f"{heading}</small></h3>" + "".join(lines)


def _word(edit: Edit) -> str:
    nothing = f'<span class="none">{_NOTHING}</span>'
    above, below = (
        nothing if word is None else f"<span>{escape(word)}</span>" for word in (edit.reference, edit.hypothesis)
    )
    kind = edit.kind
    return f'<span class="w {kind}" title="{kind}">{above}{below}<i>{_LETTERS[kind]}</i></span>'


def _failures(evaluation: Evaluation) -> str:
    if not evaluation.failures:
        return ""
    rows = [[one.id, one.reason] for one in evaluation.failures]
    return "<h2>Recordings that could not be read</h2>" + _table(["Recording", "Reason"], rows, "They are in no rate.")


def _origin(evaluation: Evaluation) -> str:
    model, data = evaluation.model, evaluation.data
    language = [["Language", model.language]] if model.language else []
    rows = [
        ["Model", f"{model.name}, {model.parameters:,} parameters, {model.precision}"],
        *language,
        *([f"SHA-256 of {name}", digest] for name, digest in model.weights.items()),
        ["Data", _data_name(evaluation) + ("" if data.revision is None else f", revision {data.revision}")],
        [f"SHA-256 of {data.manifest}", data.manifest_sha256],
        *([f"Decoder {one.name}", ", ".join(f"{key} {setting_text(value)}" for key, value in one.settings.items())]
          for one in evaluation.decodings),
        ["Resampling", f"{evaluation.resampling.resamples} resamples, seed {evaluation.resampling.seed}"],
        ["Versions", ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())],
        ["Hardware", evaluation.hardware],
        ["Date", f"{evaluation.date}, {_seconds(evaluation.seconds)} in all"],
    ]  # fmt: skip
    return f'<h2>How it was measured</h2><div class="origin">{_table(["", ""], rows, "")}</div>'


def _data_name(evaluation: Evaluation) -> str:
    data = evaluation.data
    return ", ".join(part for part in (data.name, data.config, data.split) if part)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str, numbers_from: int = 99) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if number >= numbers_from else ''}>{escape(value)}</{tag}>"
            for number, value in enumerate(values)
        )

    head = f"<tr>{cells('th', header)}</tr>" if any(header) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    told = f'<p class="caption">{escape(caption)}</p>' if caption else ""  # outside of what can be scrolled: it wraps
    return f'<div>{told}<div class="wide" tabindex="0"><table>{head}{body}</table></div></div>'


def _interval(found: Interval | None, signed: bool = False) -> str:
    return "–" if found is None else f"{percent(found.low, signed)[:-2]} to {percent(found.high, signed)}"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"
