"""What the parts of `on_accelerator.py` share: what they are given, the rows that they yield, how these are shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: What a part has measured: a comparison (`beside`), a figure (`figure`) or a kernel (`kernel`), as JSON holds it.
Row = dict[str, Any]

#: Kernels of a profile that are shown; the file has all of them.
_KERNELS_SHOWN = 25


@dataclass
class Bench:
    """What every part is given."""

    #: "cuda", or "cpu" for a try.
    device: str
    #: Everything at tiny size.
    quick: bool
    #: Folder of parquet shards with the columns `audio` and `speaker`; without it the loop hears noise.
    audio: Path | None
    #: Folder for what is needed on the way.
    work: Path
    #: Seconds of the loop, its start included.
    loop_seconds: float
    #: Operations per second of the device's own product of two bf16 matrices.
    product: float = 0.0
    #: The rows so far, by part.
    rows: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How often everything is measured, after two calls that warm up."""
        return 1 if self.quick else 7

    @property
    def warm_up(self) -> int:
        """Calls before it is measured."""
        return 0 if self.quick else 2

    def share(self, operations: float, seconds: float) -> float | None:
        """What so many operations in so many seconds are of the device's product; None if that was not measured."""
        return operations / seconds / self.product if self.product else None


def beside(
    what: str,
    seconds: Mapping[str, float],
    *,
    audio: float,
    share: float | None = None,
    memory: Mapping[str, float | None] | None = None,
) -> Row:
    """Median seconds of "stock" and "ours" (and of other versions of ours) for the same work on so many seconds of
    audio. `share` is what ours reaches of the device's product, `memory` the GiB that each side needs at most."""
    return {
        "kind": "comparison",
        "what": what,
        "seconds": dict(seconds),
        "ratio": seconds["stock"] / seconds["ours"] if "stock" in seconds else None,
        "audio_seconds_per_second": audio / seconds["ours"],
        "share_of_product": share,
        "memory_gib": dict(memory or {}),
    }


def figure(what: str, value: float | str, unit: str = "") -> Row:
    """One number with its unit."""
    return {"kind": "figure", "what": what, "value": value, "unit": unit}


def kernel(name: str, calls: int, seconds: float, share: float) -> Row:
    """All calls of one kernel in one step: how long they took together, and which share of all kernels that is."""
    return {"kind": "kernel", "what": name, "calls": calls, "seconds": seconds, "share": share}


def tables(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """All rows as Markdown: comparisons, then figures, then kernels, then what was skipped and why."""
    rows = [(name, row) for name, part in parts.items() for row in part["rows"]]
    shown = [
        _table(
            "work | stock | here | ratio | audio, s/s | share of the product | memory, stock | here",
            [_comparison(row) for _, row in rows if row["kind"] == "comparison"],
        ),
        _table(
            "part | figure | value",
            [f"{name} | {row['what']} | {_value(row)}" for name, row in rows if row["kind"] == "figure"],
        ),
        _table(
            "kernel | calls | ms | share",
            [
                f"`{row['what']}` | {row['calls']} | {1000 * row['seconds']:.2f} | {row['share']:.1%}"
                for _, row in rows
                if row["kind"] == "kernel"
            ][:_KERNELS_SHOWN],
        ),
        _table(
            "part | took | not measured, because",
            [f"{name} | {part['seconds']:.1f} s | {_one_line(part['problem'])}" for name, part in parts.items()],
        ),
    ]
    return "\n\n".join(filter(None, shown))


def _table(head: str, lines: list[str]) -> str:
    rule = "|".join("---" for _ in head.split(" | "))
    return "\n".join([f"| {head} |", f"|{rule}|", *(f"| {line} |" for line in lines)]) if lines else ""


def _comparison(row: Row) -> str:
    others = [f"{name} {_time(value)}" for name, value in row["seconds"].items() if name not in ("stock", "ours")]
    here = ", ".join([_time(row["seconds"]["ours"]), *others])
    stock = _time(row["seconds"]["stock"]) if "stock" in row["seconds"] else ""
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    share = "" if row["share_of_product"] is None else f"{row['share_of_product']:.1%}"
    memory = [row["memory_gib"].get(side) for side in ("stock", "ours")]
    held = " | ".join("" if one is None else f"{one:.1f} GiB" for one in memory)
    return f"{row['what']} | {stock} | {here} | {ratio} | {row['audio_seconds_per_second']:,.0f} | {share} | {held}"


def _one_line(problem: str | None) -> str:
    return " ".join((problem or "").split()).replace("|", "/")


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _value(row: Row) -> str:
    number = row["value"] if isinstance(row["value"], str) else f"{row['value']:,.4g}"
    return f"{number} {row['unit']}".strip()
