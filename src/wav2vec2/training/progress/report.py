"""The one-page report of a run, made from its folder alone: `report.html` and `report.png`.

It can be made at any time, of a run that goes on, that was stopped, or that is finished.
"""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wav2vec2.training.progress.report_charts import INK, MUTED, STYLE, Panel, draw_panel, panels_of
from wav2vec2.training.progress.report_page import headline, key_figures, page
from wav2vec2.training.progress.run_history import RunHistory, read_history
from wav2vec2.training.progress.training_log import FILE_NAME

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HTML_NAME, PNG_NAME = "report.html", "report.png"


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
    matplotlib = _matplotlib()
    panels = panels_of(run)
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **STYLE}):
        pictures = [(panel, _picture(panel, run)) for panel in panels]
        overview = _png(_overview(panels, run), resolution=110)
    written = {folder / HTML_NAME: page(run, pictures).encode(), folder / PNG_NAME: overview}
    for path, content in written.items():
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(content)
        partial.replace(path)
    return list(written)


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            f'the report needs matplotlib, which is not installed ({error}): pip install "wav2vec2[train]"'
        ) from error
    return matplotlib


def _figure(width: float, height: float) -> "Figure":
    """A figure of its own, known to no global list and to no window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: "Figure", resolution: int) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=resolution, metadata={"Software": None})
    return stream.getvalue()


def _picture(panel: Panel, run: RunHistory) -> bytes:
    figure = _figure(3.7, 2.5)  # the page shows it about that large, also on a telephone: letters keep their size
    draw_panel(figure.subplots(), panel, run)
    return _png(figure, resolution=220)


def _overview(panels: list[Panel], run: RunHistory) -> "Figure":
    """All charts on one page under the key figures."""
    columns = 3 if len(panels) > 2 else max(len(panels), 1)
    rows = max(math.ceil(len(panels) / columns), 1)
    figure = _figure(4.6 * columns, 2.9 * rows + 1.2)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.2, 2.9 * rows])
    head, body = parts
    head.text(0.012, 0.83, headline(run), fontsize=15, fontweight="bold", color=INK, va="center")
    figures = key_figures(run)
    places = 2 * columns  # of them in a row
    for index, (label, value) in enumerate(figures[: 2 * places]):
        x, y = 0.012 + (index % places) * 0.988 / places, 0.5 - (index // places) * 0.3
        head.text(x, y, label, fontsize=9, color=MUTED, va="center")
        head.text(x, y - 0.13, value, fontsize=10, color=INK, va="center")
    axes = list(body.subplots(rows, columns, squeeze=False).flat)
    for place, panel in zip(axes, panels, strict=False):
        draw_panel(place, panel, run)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    return figure
