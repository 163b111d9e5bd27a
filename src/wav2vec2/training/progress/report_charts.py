"""The report's charts, drawn with matplotlib: one small panel for each question about a run, and all on one page."""

import io
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wav2vec2.training.progress.run_history import RunHistory, Series, perplexities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e6e9ed"
COLOURS = ("#2f6db5", "#d1702a", "#3a8f5c", "#8a5fb0", "#b23a48", "#5f7d8c")

STYLE: dict[str, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

#: Accuracy on held-out data of BASE with an hourglass encoder, pretrained on 960 h in bf16: the mean of 8 seeds that
#: NVIDIA's DeepLearningExamples publish (PyTorch/SpeechRecognition/wav2vec2); standard deviation 0.007 to 0.011.
PUBLISHED_ACCURACY = {
    50_000: 0.491,
    100_000: 0.537,
    150_000: 0.564,
    200_000: 0.580,
    250_000: 0.599,
    300_000: 0.610,
    350_000: 0.619,
    400_000: 0.629,
}


@dataclass(frozen=True)
class Panel:
    """A chart of the report."""

    #: What the chart is called.
    title: str
    #: What the chart shows, in a sentence below it.
    caption: str
    #: Whether a run has figures for the chart.
    is_there: Callable[[RunHistory], bool]
    #: Draws the figures of a run.
    draw: Callable[["Axes", RunHistory], None]


def has(*names: str) -> Callable[[RunHistory], bool]:
    """Whether any of these figures is in the log."""
    return lambda run: any(run.series(name) or run.series(name, "evaluation") for name in names)


def smoothed(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean over a window of up to `width` neighbours, shorter at both ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    positions = np.arange(len(values))
    first = np.maximum(positions - width // 2, 0)
    after = np.minimum(positions + width // 2 + 1, len(values))
    means: NDArray[np.float64] = (sums[after] - sums[first]) / (after - first)
    return means


def line(axes: "Axes", series: Series, label: str, colour: str) -> None:
    """A curve; with many points a smoothed one over a faint one, with a single point a dot."""
    if not series:
        return
    points = len(series.updates)
    if points == 1:
        axes.plot(series.updates, series.values, "o", color=colour, label=label)
    elif points <= 100:
        axes.plot(series.updates, series.values, color=colour, linewidth=1.4, label=label)
    else:
        axes.plot(series.updates, series.values, color=colour, linewidth=0.6, alpha=0.3)
        axes.plot(
            series.updates, smoothed(series.values, max(points // 40, 3)), color=colour, linewidth=1.6, label=label
        )


def curves(
    *names: str, labels: tuple[str, ...] = (), log: bool = False, percent: bool = False, zero: bool = False
) -> Any:
    """A function that draws figures of training as curves and those of evaluations as dots."""

    def draw(axes: "Axes", run: RunHistory) -> None:
        for index, name in enumerate(names):
            training, evaluation = run.series(name), run.series(name, "evaluation")
            label, both = labels[index] if labels else "", bool(training) and bool(evaluation)
            colour = COLOURS[index]
            line(axes, training, f"{label} training".strip() if both or not label else label, colour)
            if evaluation:
                axes.plot(
                    evaluation.updates,
                    evaluation.values,
                    "o-",
                    color=INK if both and len(names) == 1 else colour,
                    markersize=3.5,
                    linewidth=0.8,
                    label=f"{label} evaluation".strip() if both or not label else label,
                )
        if log and all((run.series(name).values > 0).all() for name in names):
            as_logarithm(axes)
        if percent:
            as_percent(axes)
        if zero:
            axes.set_ylim(bottom=0)
        explain(axes)

    return draw


def as_logarithm(axes: "Axes") -> None:
    """A logarithmic scale whose ticks are numbers as one writes them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def as_percent(axes: "Axes") -> None:
    """Shares from zero up, in percent."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=None))
    axes.set_ylim(bottom=0)


def explain(axes: "Axes") -> None:
    """A legend where there is more than one curve to tell apart."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        axes.legend(handles, labels, loc="best")


def draw_accuracy(axes: "Axes", run: RunHistory) -> None:
    """Accuracy, chance and, for a model of the size of BASE, the published curve."""
    curves("accuracy")(axes, run)
    negatives = (run.facts.get("config") or {}).get("num_negatives", 100)
    axes.axhline(1 / (negatives + 1), color=MUTED, linewidth=0.8, linestyle=":", label=f"chance 1/{negatives + 1}")
    if run.is_base:
        axes.plot(
            list(PUBLISHED_ACCURACY),
            list(PUBLISHED_ACCURACY.values()),
            color=MUTED,
            linestyle="--",
            marker="s",
            markersize=3,
            linewidth=1,
            label="published, BASE on 960 h",
        )
        axes.set_xlim(0, max(run.updates, 50_000) * 1.04)  # a run that has just begun sees the first point
    as_percent(axes)
    explain(axes)


def draw_perplexity(axes: "Axes", run: RunHistory) -> None:
    """Codes in use per group, the number there is, and the line below which a group has collapsed."""
    groups = run.num_groups("code_perplexity")
    for group in range(groups):
        line(axes, run.series("code_perplexity", group=group), f"group {group}", COLOURS[group % len(COLOURS)])
    axes.axhline(2, color=COLOURS[4], linewidth=0.8, linestyle=":", label="collapsed below 2")
    axes.set_ylim(bottom=0)
    explain(axes)


def draw_codes(axes: "Axes", run: RunHistory) -> None:
    """Every cell is a code, groups one above the other; dark cells are chosen often, white ones never."""
    counts = run.code_counts
    if counts is None:
        return
    groups, entries = counts.shape
    columns = max(math.ceil(math.sqrt(entries * groups * 2.2)), 1)
    rows = math.ceil(entries / columns)
    gap = np.full((max(rows // 3, 1), columns), np.nan)  # where the group's label stands
    blocks: list[NDArray[np.float64]] = []
    for group in range(groups):
        cells = np.full(rows * columns, np.nan)
        cells[:entries] = counts[group] / max(counts[group].sum(), 1) * entries  # 1: as often as if all were alike
        blocks += [gap, cells.reshape(rows, columns)]
    image = axes.imshow(
        np.log10(np.concatenate(blocks) + 0.03), cmap="Blues", vmin=-1.5, vmax=1.2, interpolation="nearest"
    )
    for group, value in enumerate(perplexities(counts)):
        text = f"group {group}: {int((counts[group] > 0).sum())} of {entries} used, perplexity {value:.0f}"
        axes.text(-0.5, group * (rows + len(gap)) + len(gap) - 0.6, text, fontsize=8, color=MUTED, va="bottom")
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("auto")
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, ticks=[-1, 0, 1], fraction=0.04, pad=0.02)
    bar.ax.set_yticklabels(["a tenth", "even", "tenfold"])
    bar.outline.set_visible(False)


PANELS = (
    Panel(
        "Log-mel error (warm start)",
        "Mean of the squared errors per band and frame, in deviations; saying nothing costs about 1.",
        has("log_mel_error"),
        curves("log_mel_error", zero=True),
    ),
    Panel(
        "Contrastive loss (bits)",
        "What it costs to find the target among its distractors; guessing costs log2(K + 1).",
        has("bits"),
        curves("bits"),
    ),
    Panel(
        "Prediction loss (bits)",
        "What it costs to say of a frame to come and of its distractors which is which.",
        has("prediction"),
        curves("prediction"),
    ),
    Panel(
        "Contrastive accuracy",
        "Share of frames to predict whose target beats every distractor.",
        lambda run: run.is_pretraining and has("accuracy")(run),
        draw_accuracy,
    ),
    Panel(
        "Accuracy",
        "Share of clips with the right answer.",
        lambda run: not run.is_pretraining and has("accuracy")(run),
        curves("accuracy", percent=True),
    ),
    Panel(
        "Loss", "The loss that is minimised.", lambda run: not run.is_pretraining and has("loss")(run), curves("loss")
    ),
    Panel(
        "Errors",
        "Word and character error rates of the evaluations.",
        has("wer", "cer"),
        curves("wer", "cer", labels=("WER", "CER"), percent=True),
    ),
    Panel("Errors", "Phone error rate of the evaluations.", has("per"), curves("per", percent=True)),
    Panel(
        "Blank share",
        "Share of frames whose likeliest label is the blank; near 100 % at first, then falling.",
        has("blank_share"),
        curves("blank_share", percent=True),
    ),
    Panel(
        "Code perplexity",
        "How many equally likely codes each codebook's use is worth.",
        lambda run: run.num_groups("code_perplexity") > 0,
        draw_perplexity,
    ),
    Panel(
        "Codebook usage",
        "One cell per code, by how often the last evaluation chose it, beside even use.",
        lambda run: run.code_counts is not None,
        draw_codes,
    ),
    Panel(
        "Distractors equal to the target",
        "They take no part in the loss; above 50 % the codebooks have collapsed.",
        has("positive_negative_share"),
        curves("positive_negative_share", percent=True),
    ),
    Panel("Diversity loss", "0 when all codes are used alike.", has("diversity"), curves("diversity")),
    Panel("Feature penalty", "Mean square of the convolutions' output.", has("penalty"), curves("penalty", log=True)),
    Panel("Gradient norm", "Before clipping.", has("gradient_norm"), curves("gradient_norm", log=True)),
    Panel("Learning rate", "Of the schedule.", has("learning_rate"), curves("learning_rate", zero=True)),
    Panel("Gumbel temperature", "Of the choice of codes.", has("temperature"), curves("temperature", zero=True)),
    Panel(
        "Throughput",
        "Seconds of audio per second, over all processes.",
        has("audio_seconds_per_second"),
        curves("audio_seconds_per_second", zero=True),
    ),
    Panel(
        "Where the time goes",
        "Share of the machine's measured matrix-product peak that is reached; share of time without data; padding.",
        has("peak_fraction", "data_wait_share", "padding_share"),
        curves(
            "peak_fraction",
            "data_wait_share",
            "padding_share",
            labels=("peak reached", "waiting for data", "padding"),
            percent=True,
        ),
    ),
)


def drawing() -> AbstractContextManager[Any]:
    """Within this context all charts have the style of the report, whatever the user has set for their own."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            f'the report needs matplotlib, which is not installed ({error}): pip install "wav2vec2[train]"'
        ) from error
    style = matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg", **STYLE})
    return style


def panels_of(run: RunHistory) -> list[Panel]:
    """The charts for which this run has figures."""
    return [panel for panel in PANELS if panel.is_there(run)]


def draw_panel(axes: "Axes", panel: Panel, run: RunHistory) -> None:
    """One chart with its title and, below, the updates."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    panel.draw(axes, run)
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=INK, pad=8)
    if panel.draw is not draw_codes:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("update")
        axes.set_xlim(left=0)


def picture(panel: Panel, run: RunHistory) -> bytes:
    """One chart as a PNG file. The page shows it about as large as it is drawn, also on a telephone: letters keep
    their size."""
    figure = _figure(3.7, 2.5)
    draw_panel(figure.subplots(), panel, run)
    return _png(figure, resolution=220)


def overview(panels: Sequence[Panel], run: RunHistory, headline: str, figures: Sequence[tuple[str, str]]) -> bytes:
    """All charts on one page under the headline and the key figures (name, value), as a PNG file."""
    columns = 3 if len(panels) > 2 else max(len(panels), 1)
    rows = max(math.ceil(len(panels) / columns), 1)
    figure = _figure(4.6 * columns, 2.9 * rows + 1.2)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.2, 2.9 * rows])
    head, body = parts
    head.text(0.012, 0.83, headline, fontsize=15, fontweight="bold", color=INK, va="center")
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
    return _png(figure, resolution=110)


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
