"""The figures of `planted_errors.py`: how well planted errors are found, with intervals over utterances."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import log
from pathlib import Path
from typing import Any

from wav2vec2.pronunciation.calibration import Calibration, area_under_curve

#: Utterances are drawn again so often.
_RESAMPLES = 500

#: Below which a sound is a fault: the model's own odds, and calibrated ones (`pronunciation/assessing.py`).
_DEFAULT, _CALIBRATED = 0.1, 0.5

#: Others, to see what a stricter or a laxer one would find.
_THRESHOLDS = (0.5, 0.2, 0.1, 0.03, 0.01, 0.003, 0.001)

Line = dict[str, Any]


def figures(found: Path, calibration: Calibration) -> dict[str, Any]:
    """All figures of a model, each with its 95 % interval."""
    lines = [json.loads(line) for line in found.read_text(encoding="utf-8").splitlines()]
    untouched = [line for line in lines if line["kind"] == "untouched"]
    replaced, left_out, put_in = (
        [line for line in lines if line["kind"] == kind] for kind in ("substitution", "omission", "insertion")
    )

    def surely(score: float) -> bool:
        odds = log(max(score, 1e-9) / max(1 - score, 1e-9))
        return calibration.probability(odds) < _CALIBRATED

    def by_default(score: float) -> bool:
        return score < _DEFAULT

    return {
        "utterances": len(lines),
        "phones": sum(len(_asked(line)) for line in lines),
        "phone AUC": _interval(lines, _auc),
        "phone AUC, substitutions": _interval([*untouched, *replaced], _auc),
        "phone AUC, omissions": _interval([*untouched, *left_out], _auc),
        "substitutions flagged": _interval(replaced, _share(lambda line: by_default(_place(line)["score"]))),
        "substitutions flagged and named": _interval(replaced, _share(lambda line: _named(line, by_default))),
        "substitutions flagged and named, calibrated": _interval(replaced, _share(lambda line: _named(line, surely))),
        "omissions flagged": _interval(left_out, _share(lambda line: by_default(_place(line)["score"]))),
        "omissions told as such": _interval(left_out, _share(lambda line: _named(line, by_default))),
        "insertions told": _interval(put_in, _share(_told_insertion)),
        "right words flagged": _interval(untouched, _words_flagged(by_default)),
        "right words flagged, calibrated": _interval(untouched, _words_flagged(surely)),
        "calibration": calibration.in_words(),
        "by threshold": {str(limit): _at(limit, replaced, left_out, untouched) for limit in _THRESHOLDS},
        "substitutions by pair": _by_pair(replaced, by_default),
    }


def _asked(line: Line) -> list[dict[str, Any]]:
    return [phone for word in line["words"] for phone in word if phone["text"]]


def _place(line: Line) -> dict[str, Any]:
    """The phone in whose place something else was said."""
    return _asked(line)[int(line["place"])]


def _auc(lines: Sequence[Line]) -> float:
    """The chance that a phone that was said has a higher score than one that was replaced or left out."""
    scores: list[float] = []
    right: list[bool] = []
    for line in lines:
        wrong = int(line["place"]) if line["kind"] in ("substitution", "omission") else -1
        scores += [phone["score"] for phone in _asked(line)]
        right += [number != wrong for number in range(len(_asked(line)))]
    return area_under_curve(scores, right)


def _named(line: Line, is_fault: Callable[[float], bool]) -> bool:
    """Whether the fault is told with what was really said ("" for nothing)."""
    phone = _place(line)
    told = phone["said"] if phone["fault"] else next(iter(phone["other"]), None)
    return is_fault(phone["score"]) and told == line["instead"]


def _told_insertion(line: Line) -> bool:
    """Whether the phone that was put in is told in its place."""
    before = 0
    for phone in (phone for word in line["words"] for phone in word):
        if phone["text"]:
            before += 1
        elif before == int(line["place"]) and phone["said"] == line["instead"]:
            return True
    return False


def _share(holds: Callable[[Line], bool]) -> Callable[[Sequence[Line]], float]:
    return lambda lines: sum(map(holds, lines)) / max(len(lines), 1)


def _at(limit: float, replaced: list[Line], left_out: list[Line], untouched: list[Line]) -> list[float]:
    """With another threshold: the shares of what was planted that are told rightly, and of right words that are not."""

    def below(score: float) -> bool:
        return score < limit

    named = _share(lambda line: _named(line, below))
    return [named(replaced), named(left_out), _words_flagged(below, below)(untouched)]


def _words_flagged(
    is_fault: Callable[[float], bool], put_in: Callable[[float], bool] | None = None
) -> Callable[[Sequence[Line]], float]:
    """The share of words with a fault. A phone that was put in is one where `assess` tells it, or by `put_in`."""

    def wrong(phone: dict[str, Any]) -> bool:
        if phone["text"]:
            return is_fault(phone["score"])
        return put_in is None or put_in(phone["score"])

    def share(lines: Sequence[Line]) -> float:
        words = [word for line in lines for word in line["words"]]
        return sum(any(map(wrong, word)) for word in words) / max(len(words), 1)

    return share


def _interval(lines: Sequence[Line], measure: Callable[[Sequence[Line]], float]) -> list[float]:
    """The figure, and where it lies in 95 % of the cases if utterances are drawn again."""
    chance = random.Random(0)
    drawn = sorted(measure(chance.choices(lines, k=len(lines))) for _ in range(_RESAMPLES))
    low, high = drawn[int(0.025 * _RESAMPLES)], drawn[int(0.975 * _RESAMPLES)]
    return [round(value, 4) for value in (measure(lines), low, high)]


def _by_pair(lines: Sequence[Line], is_fault: Callable[[float], bool]) -> dict[str, list[int]]:
    """Of each pair how many were planted, flagged, and named."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for line in lines:
        row = found[" ".join(sorted((_place(line)["text"], line["instead"])))]
        row[0] += 1
        row[1] += is_fault(_place(line)["score"])
        row[2] += _named(line, is_fault)
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def write_results(results: dict[str, Any], path: Path) -> None:
    """The figures as JSON, with those of other runs that are there, and as tables beside it."""
    results = (json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}) | results
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    rows = ["# Planted errors", "", "Made by `python examples/studies/planted_errors.py DATA WORK`."]
    for name, of_run in results.items():
        rows += ["", f"## {name}", "", "| figure | value | 95 % interval, other utterances |", "|---|---|---|"]
        for figure, value in of_run.items():
            if isinstance(value, list) and figure != "seconds":
                rows.append(f"| {figure} | {value[0]:.4f} | {value[1]:.4f} to {value[2]:.4f} |")
        if seconds := sorted(of_run.get("seconds", [])):
            median = seconds[len(seconds) // 2]
            rows.append(f"| seconds of `assess`, utterances of about 3 s | {median:.3f} (median) | |")
        rows += ["", f"{of_run['utterances']} utterances, {of_run['phones']} phones; {of_run['calibration']}."]
        rows += ["", "| threshold | substitutions named | omissions named | right words flagged |", "|---|---|---|---|"]
        for limit, values in of_run["by threshold"].items():
            rows.append(f"| {limit} | {' | '.join(f'{value:.3f}' for value in values)} |")
        rows += ["", "| pair | planted | flagged | named |", "|---|---|---|---|"]
        rows += [f"| {pair} | {' | '.join(map(str, row))} |" for pair, row in of_run["substitutions by pair"].items()]
    path.with_suffix(".md").write_text("\n".join(rows) + "\n", encoding="utf-8")
