"""How all pictures of the documentation look: the report's lines and letters, colours that everyone can tell apart."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wav2vec2.training.progress.report_charts import GRID, INK, MUTED, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "GREY", "GRID", "INK", "MUTED", "ORANGE", "PURPLE", "SHADES", "figure", "plain", "write"]

# Okabe and Ito's palette, which people with any kind of colour vision tell apart.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a949e"
#: For amounts: from light to dark in every kind of vision, and in print.
SHADES = "Blues"


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple["Figure", Any]:
    """A drawing in inches, and its axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcdefaults()
    plt.rcParams.update(STYLE | {"font.size": 10, "axes.titlesize": 10.5, "axes.titlelocation": "left"})
    plt.rcParams.update({"font.family": "DejaVu Sans", "axes.titlecolor": INK})  # the font that comes with matplotlib
    drawing, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options)
    return drawing, axes


def plain(axes: "Axes") -> None:
    """No grid, for pictures of amounts."""
    axes.grid(visible=False)


def write(drawing: "Figure", path: Path) -> Path:
    """One PNG, the same bytes for the same drawing."""
    import matplotlib.pyplot as plt

    drawing.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(drawing)
    return path
