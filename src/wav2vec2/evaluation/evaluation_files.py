"""The files of an evaluation: `evaluation.json`, `utterances.tsv`, and `evaluation.html`, a page for people.

Every kind of error has a letter and a colour there, so that the page can be read without colours, and printed.
"""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from wav2vec2.evaluation.bootstrap import Interval
from wav2vec2.evaluation.evaluation import DecodingComparison, Evaluation
from wav2vec2.evaluation.evaluation_run import Evaluated, EvaluatedUtterance
from wav2vec2.evaluation.figures_in_words import length, percent, setting_text, times_as_fast
from wav2vec2.evaluation.scoring import Edit, confusions, count_columns, count_values, worst
from wav2vec2.files.html_page import page, table
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.tab_separated import table as tab_separated

_CONFUSIONS = 20
_WORST = 30
_NOTHING = "∅"
_LETTERS = {"hit": "", "substitution": "S", "deletion": "D", "insertion": "I"}

#: What only this page has: the words of alignments one above the other, tables side by side.
_STYLE = """
h2 { border-bottom: 1px solid #ccc; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; overflow-wrap: anywhere; } h3 small { font-weight: normal; color: #555; }
table { margin: 0 0 .6rem; } th:last-child, td:last-child { padding-right: 0; } code { overflow-wrap: anywhere; }
.origin td { overflow-wrap: anywhere; min-width: 5rem; }
.side { display: flex; flex-wrap: wrap; gap: 0 3rem; }
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


def save_evaluation(evaluated: Evaluated, folder: Path) -> None:
    """Write all three files into the folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "evaluation.json": evaluated.evaluation.to_json(),
        "utterances.tsv": utterance_table(evaluated.utterances),
        "evaluation.html": evaluation_page(evaluated),
    }
    for name, content in contents.items():
        with replaced_file(folder / name) as stream:
            stream.write(content.encode("utf-8"))


def utterance_table(utterances: Sequence[EvaluatedUtterance]) -> str:
    """One line for each utterance: texts as they were before normalisation, errors as they were counted after it."""
    ways = list(utterances[0].hypotheses) if utterances else []
    header = ["id", "speaker", "seconds", "reference", *ways]
    header += [f"{way}_{column}" for way in ways for column in (*count_columns("words"), *count_columns("characters"))]
    lines = [header]
    for one in utterances:
        texts = [one.id, one.speaker or "", f"{one.seconds:.2f}", one.reference, *one.hypotheses.values()]
        scores = [counts for way in ways for counts in (one.scores[way].words, one.scores[way].characters)]
        lines.append([*texts, *(value for counts in scores for value in count_values(counts))])
    return tab_separated(lines)


def evaluation_page(evaluated: Evaluated) -> str:
    """The page: summary, intervals, confusions, the worst utterances, what could not be read, how it was measured."""
    evaluation = evaluated.evaluation
    parts = [
        _summary(evaluation),
        "" if evaluation.comparison is None else _comparison(evaluation.comparison),
        *(_errors(decoding.name, evaluated.utterances) for decoding in evaluation.decodings),
        _worst(evaluated),
        _failures(evaluation),
        _origin(evaluation),
    ]
    return page(f"{evaluation.model.name} on {_data_name(evaluation)}", parts, _STYLE)


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
    named = evaluation.rates
    measured = [(f"{one.name} {unit}", getattr(one, field)) for one in ways for field, unit, _ in named]
    level = f"{evaluation.resampling.level:.0%}".replace("%", " %")
    rates = table(
        [[name, percent(one.rate), _interval(one.interval), _interval(one.speaker_interval)] for name, one in measured],
        ["", "Rate", f"{level}, utterances", f"{level}, speakers"],
        f"Errors of the whole corpus; {level} intervals from {evaluation.resampling.resamples} resamples of "
        "utterances, and of whole speakers.",
        numbers_from=1,
    )
    counts = table(
        [
            [name, *map(str, (one.substitutions, one.deletions, one.insertions, one.reference))]
            for name, one in measured
        ],
        ["", "S", "D", "I", "Of"],
        "S: substitutions, D: deletions, I: insertions.",
        numbers_from=1,
    )
    times = [
        [one.name, f"{one.wrong_utterances} of {evaluation.utterances}", _seconds(one.audio_seconds),
         _seconds(one.seconds), times_as_fast(one.real_time_factor)]
        for one in ways
    ]  # fmt: skip
    speed = table(
        times,
        ["", "Utterances with errors", "Audio", "Computing", "Times as fast as speech"],
        "Computing: reading, model and search, without loading.",
        numbers_from=1,
    )
    return f'{intro}{rates}<div class="side">{counts}{speed}</div>'


def _comparison(comparison: DecodingComparison) -> str:
    found = (("utterances", comparison.by_utterance), ("speakers", comparison.by_speaker))
    better, than = escape(comparison.better), escape(comparison.than)
    sentences = [
        f"<p>Drawing {unit} again, {better} makes fewer word errors than {than} with probability "
        f"<strong>{one.probability:.3f}</strong>; the difference of the rates is "
        f"{percent(one.difference, signed=True)} ({_interval(one.interval, signed=True)}).</p>"
        for unit, one in found
        if one is not None
    ]
    return f"<h2>{better} beside {than}</h2>" + "".join(sentences)


def _errors(name: str, utterances: Sequence[EvaluatedUtterance]) -> str:
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
            tables.append(table(rows, [*header, "Times"], f"{_LETTERS[kind]}: {kind}s", numbers_from=len(header)))
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


def _utterance(one: EvaluatedUtterance, names: Iterable[str]) -> str:
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
    return "<h2>Recordings that could not be read</h2>" + table(rows, ["Recording", "Reason"], "They are in no rate.")


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
    return f'<h2>How it was measured</h2><div class="origin">{table(rows)}</div>'


def _data_name(evaluation: Evaluation) -> str:
    data = evaluation.data
    return ", ".join(part for part in (data.name, data.config, data.split) if part)


def _interval(found: Interval | None, signed: bool = False) -> str:
    return "–" if found is None else f"{percent(found.low, signed)[:-2]} to {percent(found.high, signed)}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"
