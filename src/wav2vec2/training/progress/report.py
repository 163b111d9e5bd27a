"""The one-page report of a run, made from its folder alone: `report.html` and `report.png`.

It can be made at any time, of a run that goes on, that was stopped, or that is finished. The page asks for no other
file: the charts are inside it, there is no script, and it fits a telephone, a screen and paper.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from wav2vec2.files.html_page import page, table
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.training.progress.report_charts import Panel, drawing, overview, panels_of, picture
from wav2vec2.training.progress.run_history import Line, RunHistory, is_number, read_history
from wav2vec2.training.progress.training_log import FILE_NAME

HTML_NAME, PNG_NAME = "report.html", "report.png"

#: What only this page has: key figures, charts side by side.
_STYLE = """
p { margin: .2rem 0; color: #52606d; }
.key { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1.2rem 0 0; }
.key div { flex: 1 1 7.5rem; border-top: 3px solid #2f6db5; background: #f5f7fa; padding: .6rem .8rem; }
.key dt { font-size: .8rem; color: #52606d; }
.key dd { margin: 0; font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1.2rem; }
figure { margin: 0; break-inside: avoid; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .82rem; color: #52606d; padding: 0 .3rem; }
th { white-space: nowrap; }
summary { margin-top: 1rem; color: #52606d; cursor: pointer; }
footer { margin-top: 2.5rem; font-size: .82rem; color: #52606d; }
@media print {
  .charts { grid-template-columns: repeat(3, 1fr); gap: .5rem; }
  .key div { background: none; flex-basis: 6rem; padding: .3rem 0; }
  .key dd { font-size: 1rem; }
  figcaption { font-size: .7rem; }
}
"""

#: Figures of the table of evaluations, and how they are written.
_EVALUATED = {
    "loss": "{:.4f}",
    "bits": "{:.3f}",
    "accuracy": "{:.2%}",
    "wer": "{:.2%}",
    "cer": "{:.2%}",
    "per": "{:.2%}",
    "left_out": "{:,}",
    "blank_share": "{:.1%}",
    "positive_negative_share": "{:.1%}",
}


class ReportError(ValueError):
    """There is nothing to make a report of."""


def write_report(folder: Path | str) -> list[Path]:
    """Write `report.html` (one file that asks for no other) and `report.png` into the folder of a run."""
    folder = Path(folder)
    if not (folder / FILE_NAME).is_file():
        raise ReportError(f"{folder}: holds no {FILE_NAME}; give the output folder of a run (its run.output)")
    run = read_history(folder)
    if not (run.facts or run.training or run.evaluations):
        raise ReportError(f"{folder / FILE_NAME}: holds no line of a run yet")
    panels = panels_of(run)
    with drawing():
        pictures = [(panel, picture(panel, run)) for panel in panels]
        whole = overview(panels, run, headline(run), key_figures(run))
    written = {folder / HTML_NAME: report_page(run, pictures).encode(), folder / PNG_NAME: whole}
    for path, content in written.items():
        with replaced_file(path) as stream:
            stream.write(content)
    return list(written)


def report_page(run: RunHistory, pictures: Sequence[tuple[Panel, bytes]]) -> str:
    """The whole page, with the charts as PNG files inside it."""
    key = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in key_figures(run))
    parts = [
        f"<p>{escape(_state(run))}</p>",
        f'<dl class="key">{key}</dl>',
        _charts(pictures),
        _evaluations(run.evaluations),
        _samples(run.evaluations),
        _unreadable(run.unreadable),
        _facts(run.facts),
        "<footer>Made by <code>wav2vec2 report</code> from the log of the run alone. Thin lines are single log lines, "
        "thick ones their moving mean; dots are evaluations.</footer>",
    ]
    return page(headline(run), parts, _STYLE)


def headline(run: RunHistory) -> str:
    """What was done, by which recipe."""
    what = "pretraining" if run.is_pretraining else "fine-tuning"
    recipe = run.facts.get("recipe") or run.facts.get("model")
    return f"wav2vec 2.0 {what}" + (f": {without_folder(str(recipe)).removesuffix('.yaml')}" if recipe else "")


def key_figures(run: RunHistory) -> list[tuple[str, str]]:
    """The few numbers that one looks for first."""
    candidates = (
        ("word error rate", run.last("wer", "evaluation"), "{:.1%}"),
        ("character error rate", run.last("cer", "evaluation"), "{:.1%}"),
        ("phone error rate", run.last("per", "evaluation"), "{:.1%}"),
        ("accuracy", _newest(run, "accuracy"), "{:.1%}"),
        ("contrastive loss", _newest(run, "bits"), "{:.2f} bits"),
        ("loss", None if run.is_pretraining else _newest(run, "loss"), "{:.3f}"),
        ("code perplexity", _codes(run), "{}"),
        ("log-mel error (warm start)", run.last("log_mel_error"), "{:.3f}"),
        ("audio per second", run.typical("audio_seconds_per_second"), "{:,.0f} s"),
        ("of the matmul peak", run.typical("peak_fraction"), "{:.0%}"),
        ("peak memory", run.last("peak_memory_gib"), "{:.1f} GiB"),
        ("skipped recordings", run.total("skipped") or None, "{:,.0f}"),
    )
    figures = [("updates", f"{run.updates:,}")]
    return figures + [
        (label, pattern.format(value))
        for label, value, pattern in candidates
        if is_number(value) or isinstance(value, str)
    ]


def _newest(run: RunHistory, name: str) -> Any:
    """A figure of the last evaluation; without one, of the last updates."""
    value = run.last(name, "evaluation")
    return run.last(name) if value is None else value


def _codes(run: RunHistory) -> str | None:
    values = run.last("code_perplexity")
    return " + ".join(f"{value:.0f}" for value in values if is_number(value)) if isinstance(values, list) else None


def _state(run: RunHistory) -> str:
    """A sentence on how far the run is."""
    total = run.facts.get("updates")
    if not run.updates:
        return "No update has been logged yet."
    if not is_number(total):
        return f"{run.updates:,} updates."
    return f"{run.updates:,} of {total:,} updates" + (": finished." if run.updates >= total else ": not finished.")


def _charts(pictures: Sequence[tuple[Panel, bytes]]) -> str:
    if not pictures:
        return ""
    figures = [
        f'<figure><img alt="{escape(panel.title)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{escape(panel.caption)}</figcaption></figure>"
        for panel, png in pictures
    ]
    return '<h2>Curves</h2>\n<div class="charts">\n' + "\n".join(figures) + "\n</div>"


def _evaluations(lines: Sequence[Line]) -> str:
    """The table of the last ten evaluations."""
    names = [name for name in _EVALUATED if any(is_number(line.get(name)) for line in lines)]
    if not names:
        return ""
    rows = [
        [f"{line['update']:,}"]
        + [_EVALUATED[name].format(line[name]) if is_number(line.get(name)) else "" for name in names]
        for line in lines[-10:]
    ]
    return "<h2>Evaluations</h2>\n" + table(
        rows, ["update", *(name.replace("_", " ") for name in names)], named_rows=True
    )


def _samples(lines: Sequence[Line]) -> str:
    """The texts that the last evaluation wrote for some clips, beside what was said in them."""
    samples = next((line["samples"] for line in reversed(lines) if line.get("samples")), None)
    if not isinstance(samples, list):
        return ""
    rows = []
    for sample in samples:
        values = list(sample.values()) if isinstance(sample, dict) else sample
        if isinstance(values, list) and values:
            rows.append(
                [without_folder(str(value)) if index == 0 else str(value) for index, value in enumerate(values)]
            )
    if not rows:
        return ""
    head = [str(name) for name in samples[0]] if isinstance(samples[0], dict) else []
    return "<h2>Sample texts</h2>\n" + table(rows, head, named_rows=True)


def _unreadable(recordings: Sequence[tuple[str, str]]) -> str:
    """The first twenty recordings that could not be read."""
    if not recordings:
        return ""
    rows = [(without_folder(id), reason) for id, reason in recordings[:20]]
    more = f"<p>and {len(recordings) - 20:,} more</p>" if len(recordings) > 20 else ""
    return "<h2>Recordings that could not be read</h2>\n" + table(rows, ("recording", "reason"), named_rows=True) + more


def _facts(facts: Line) -> str:
    """All that is known of the run. The configuration of the model is long, and opens on request."""
    config = facts.get("config")
    rows = list(_flat({name: value for name, value in facts.items() if name not in ("kind", "config")}, digits=4))
    told = "<h2>The run</h2>\n" + table(rows, named_rows=True) if rows else ""
    if isinstance(config, dict) and config:
        inside = table(_flat(config), named_rows=True)
        told += f"\n<details><summary>Configuration of the model</summary>\n{inside}</details>"
    return told


def _flat(facts: Line, before: str = "", digits: int = 6) -> Iterable[tuple[str, str]]:
    """Facts, and the facts inside them, as rows of a table; numbers with so many digits."""
    for name, value in facts.items():
        label = f"{before}{str(name).replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{label}: ", digits)
        elif value is not None and value != []:
            yield label, _written(value, digits)


def _written(value: object, digits: int) -> str:
    if isinstance(value, list):
        return ", ".join(_written(one, digits) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:.{digits}g}" if isinstance(value, float) else without_folder(str(value))


def without_folder(text: str) -> str:
    """A report is shown to others: of an absolute path only the last name is kept.

    >>> [without_folder(text) for text in ("/home/ann/data/talk.wav", "C:\\\\data\\\\a.wav", "NVIDIA A100, 8/16 cores")]
    ['talk.wav', 'a.wav', 'NVIDIA A100, 8/16 cores']
    """
    if PurePosixPath(text).is_absolute() or text.startswith("~"):
        return PurePosixPath(text).name
    windows = PureWindowsPath(text)
    return windows.name if windows.is_absolute() else text
