"""The figures of `planted_errors.py`: how well planted errors are found, with intervals over utterances."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from math import log
from pathlib import Path
from typing import Any

from wav2vec2.pronunciation.assessing import UNCALIBRATED_THRESHOLD
from wav2vec2.pronunciation.calibration import Calibration, area_under_curve

#: Utterances are drawn again so often.
_RESAMPLES = 500

#: Thresholds of the model's own odds, to see what a stricter or a laxer one would find.
LAXEST = 0.5
_THRESHOLDS = (LAXEST, 0.2, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)

Line = dict[str, Any]


def figures(found: Path, calibration: Calibration) -> dict[str, Any]:
    """All figures of a model, each with its 95 % interval."""
    lines = [json.loads(line) for line in found.read_text(encoding="utf-8").splitlines()]
    untouched = [line for line in lines if line["kind"] == "untouched"]
    replaced, left_out, put_in = (
        [line for line in lines if line["kind"] == kind] for kind in ("substitution", "omission", "insertion")
    )

    def by_default(phone: Line) -> bool:
        return bool(phone["score"] < UNCALIBRATED_THRESHOLD)

    def calibrated(phone: Line) -> bool:
        if not phone["text"]:
            return bool(phone["score"] < calibration.insertion_threshold)
        return _probability(phone, calibration) < calibration.threshold

    def auc(score: Callable[[Line], float]) -> Callable[[Sequence[Line]], float]:
        return lambda some: _auc(some, score)

    def own(phone: Line) -> float:
        return float(phone["score"])

    def curve(phone: Line) -> float:
        return _probability(phone, calibration)

    values: dict[str, Any] = {"utterances": len(lines), "phones": sum(len(_asked(line)) for line in lines)}
    values |= {
        "phone AUC": _interval(lines, auc(own)),
        "phone AUC, calibrated": _interval(lines, auc(curve)),
        "phone AUC, calibrated, substitutions": _interval([*untouched, *replaced], auc(curve)),
        "phone AUC, calibrated, omissions": _interval([*untouched, *left_out], auc(curve)),
    }
    for name, is_fault in (("not calibrated", by_default), ("calibrated", calibrated)):
        values |= {
            f"substitutions flagged, {name}": _interval(replaced, _share(partial(_flagged, is_fault))),
            f"substitutions flagged and named, {name}": _interval(replaced, _share(partial(_named, is_fault))),
            f"omissions flagged, {name}": _interval(left_out, _share(partial(_flagged, is_fault))),
            f"omissions told as such, {name}": _interval(left_out, _share(partial(_named, is_fault))),
            f"insertions told, {name}": _interval(put_in, _share(partial(_told_insertion, is_fault))),
            f"right words flagged, {name}": _interval(untouched, _words_flagged(is_fault)),
        }
    return values | {
        "calibration": calibration.in_words(),
        "by threshold": {str(limit): _at(limit, replaced, left_out, untouched) for limit in _THRESHOLDS},
        "substitutions by pair": _by_pair(replaced, calibrated),
    }


def _probability(phone: Line, calibration: Calibration) -> float:
    """What the calibration makes of the model's own score."""
    odds = log(max(phone["score"], 1e-12) / max(1 - phone["score"], 1e-12))
    return calibration.probability(odds, phone["text"])


def _asked(line: Line) -> list[dict[str, Any]]:
    return [phone for word in line["words"] for phone in word if phone["text"]]


def _place(line: Line) -> dict[str, Any]:
    """The phone in whose place something else was said."""
    return _asked(line)[int(line["place"])]


def _auc(lines: Sequence[Line], score: Callable[[Line], float]) -> float:
    """The chance that a phone that was said has a higher score than one that was replaced or left out."""
    scores: list[float] = []
    right: list[bool] = []
    for line in lines:
        wrong = int(line["place"]) if line["kind"] in ("substitution", "omission") else -1
        scores += map(score, _asked(line))
        right += [number != wrong for number in range(len(_asked(line)))]
    return area_under_curve(scores, right)


def _flagged(is_fault: Callable[[Line], bool], line: Line) -> bool:
    """Whether the phone that was not said as asked is told as a fault."""
    return is_fault(_place(line))


def _named(is_fault: Callable[[Line], bool], line: Line) -> bool:
    """Whether that is told with what was really said ("" for nothing)."""
    phone = _place(line)
    told = phone["said"] if phone["fault"] else next(iter(phone["other"]), None)
    return is_fault(phone) and told == line["instead"]


def _told_insertion(is_fault: Callable[[Line], bool], line: Line) -> bool:
    """Whether the phone that was put in is told in its place."""
    before = 0
    for phone in (phone for word in line["words"] for phone in word):
        if phone["text"]:
            before += 1
        elif before == int(line["place"]) and phone["said"] == line["instead"]:
            return is_fault(phone)
    return False


def _share(holds: Callable[[Line], bool]) -> Callable[[Sequence[Line]], float]:
    return lambda lines: sum(map(holds, lines)) / max(len(lines), 1)


def _at(limit: float, replaced: list[Line], left_out: list[Line], untouched: list[Line]) -> list[float]:
    """With another threshold: the shares of what was planted that are told rightly, and of right words that are not."""

    def below(phone: Line) -> bool:
        return bool(phone["score"] < limit)

    named = _share(partial(_named, below))
    return [named(replaced), named(left_out), _words_flagged(below)(untouched)]


def _words_flagged(is_fault: Callable[[Line], bool]) -> Callable[[Sequence[Line]], float]:
    """The share of words with a fault, which may be a phone that was put in."""

    def share(lines: Sequence[Line]) -> float:
        words = [word for line in lines for word in line["words"]]
        return sum(any(map(is_fault, word)) for word in words) / max(len(words), 1)

    return share


def _interval(lines: Sequence[Line], measure: Callable[[Sequence[Line]], float]) -> list[float]:
    """The figure, and where it lies in 95 % of the cases if utterances are drawn again."""
    chance = random.Random(0)
    drawn = sorted(measure(chance.choices(lines, k=len(lines))) for _ in range(_RESAMPLES))
    low, high = drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]
    return [round(value, 4) for value in (measure(lines), low, high)]


def _by_pair(lines: Sequence[Line], is_fault: Callable[[Line], bool]) -> dict[str, list[int]]:
    """Of each pair how many were planted, flagged, and named."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for line in lines:
        row = found[" ".join(sorted((_place(line)["text"], line["instead"])))]
        row[0] += 1
        row[1] += _flagged(is_fault, line)
        row[2] += _named(is_fault, line)
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


_HEAD = """# Planted errors

Made by `python examples/studies/planted_errors.py DATA WORK`, seed 1, one run each, on an Intel Xeon (Sapphire Rapids
class, amx_bf16); trained on one thread, the seconds of `assess` on two."""


def write_results(results: dict[str, Any], path: Path) -> None:
    """The figures as JSON, with those of other runs that are there, and as tables beside it."""
    results = (json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}) | results
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    rows = [_HEAD]
    for name, of_run in results.items():
        rows += ["", f"## {name}", "", "| figure | value | 95 % interval, other utterances |", "|---|---|---|"]
        for figure, value in of_run.items():
            if isinstance(value, list) and not figure.endswith("seconds"):
                rows.append(f"| {figure} | {value[0]:.4f} | {value[1]:.4f} to {value[2]:.4f} |")
        for name in ("seconds", "processor seconds"):
            if seconds := sorted(of_run.get(name, [])):
                median = seconds[len(seconds) // 2]
                rows.append(f"| {name} of `assess`, utterances of about 3 s (two threads) | {median:.3f} (median) | |")
        rows += ["", f"{of_run['utterances']} utterances, {of_run['phones']} phones; {of_run['calibration']}."]
        head = "threshold of the model's own scores | substitutions named | omissions named | right words flagged"
        rows += ["", f"| {head} |", "|---|---|---|---|"]
        for limit, values in of_run["by threshold"].items():
            rows.append(f"| {limit} | {' | '.join(f'{value:.3f}' for value in values)} |")
        rows += ["", "| pair | planted | flagged, calibrated | named |", "|---|---|---|---|"]
        rows += [f"| {pair} | {' | '.join(map(str, row))} |" for pair, row in of_run["substitutions by pair"].items()]
    path.with_suffix(".md").write_text("\n".join(rows) + "\n", encoding="utf-8")
