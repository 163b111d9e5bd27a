"""Figures of labels and the thresholds of answers, each against counting clip by clip."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from wav2vec2.evaluation.bootstrap import Resampling
from wav2vec2.evaluation.label_scoring import LabelScores, confusion, score_labels
from wav2vec2.evaluation.threshold_choice import best_f1, choose_rule, keeping
from wav2vec2.inference.label_rule import plain_rule, several_labels

LABELS = ["a", "b", "c"]
Sets = list[list[str]]


def drawn(count: int, several: bool, seed: int) -> tuple[Sets, Sets]:
    """True labels and answers, some of them empty; "c" is never true."""
    chance = random.Random(seed)

    def one(names: list[str]) -> list[str]:
        size = chance.choice([0, 1, 1, 2] if several else [0, 1, 1, 1])
        return chance.sample(names, min(size, len(names)))

    return [one(LABELS[:2]) for _ in range(count)], [one(LABELS) for _ in range(count)]


def slow(true: Sets, given: Sets) -> dict[str, float]:
    """Every figure from counts of pairs, one clip and one label after the other."""
    counts: Counter[tuple[str, str]] = Counter()
    for own, answer in zip(true, given, strict=True):
        for label in LABELS:
            kind = {(1, 1): "hit", (1, 0): "missed", (0, 1): "wrong", (0, 0): ""}[label in own, label in answer]
            counts[label, kind] += 1
    rates: dict[str, list[float]] = {"precision": [], "recall": [], "f1": []}
    for label in LABELS:
        hit, missed, wrong = (counts[label, kind] for kind in ("hit", "missed", "wrong"))
        if hit + missed:
            precision, recall = hit / max(hit + wrong, 1), hit / (hit + missed)
            f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
            for name, value in (("precision", precision), ("recall", recall), ("f1", f1)):
                rates[name].append(value)
    hits, misses, wrongs = (sum(counts[label, kind] for label in LABELS) for kind in ("hit", "missed", "wrong"))
    none = [answer for own, answer in zip(true, given, strict=True) if not own]
    return {
        "accuracy": sum(set(own) == set(answer) for own, answer in zip(true, given, strict=True)) / len(true),
        "rejected": sum(not answer for answer in given) / len(given),
        "rejected_of_none": sum(not answer for answer in none) / max(len(none), 1),
        **{f"macro_{name}": sum(values) / max(len(values), 1) for name, values in rates.items()},
        "micro_precision": hits / max(hits + wrongs, 1),
        "micro_recall": hits / max(hits + misses, 1),
        "micro_f1": 2 * hits / max(2 * hits + misses + wrongs, 1),
    }


@pytest.mark.parametrize(("several", "seed"), list(itertools.product([False, True], [0, 1, 2])))
def test_figures_are_those_of_counting(several: bool, seed: int) -> None:
    """And so are their intervals: each resample counted by itself, of clips and of whole speakers."""
    true, given = drawn(30, several, seed)
    speakers = [str(number % 7) for number in range(30)]
    how = Resampling(resamples=40, seed=seed)
    found = score_labels(true, given, LABELS, speakers, how)
    expected = slow(true, given)
    for name, value in expected.items():
        assert getattr(found, name).value == pytest.approx(value), name
    for groups, field in (([[n] for n in range(30)], "interval"), (by_speaker(speakers), "speaker_interval")):
        generator = np.random.default_rng(seed)
        resampled = []
        for row in generator.integers(len(groups), size=(40, len(groups))):
            clips = [clip for group in row for clip in groups[group]]
            resampled.append(slow([true[clip] for clip in clips], [given[clip] for clip in clips]))
        for name in expected:
            low, high = np.quantile([one[name] for one in resampled], [0.025, 0.975])
            interval = getattr(getattr(found, name), field)
            assert (interval.low, interval.high) == pytest.approx((low, high)), (name, field)


def by_speaker(speakers: list[str]) -> list[list[int]]:
    return [[n for n, one in enumerate(speakers) if one == name] for name in dict.fromkeys(speakers)]


def test_labels_are_counted() -> None:
    true, given = [["a"], ["a"], ["b"], []], [["a"], ["b"], [], ["a"]]
    found: LabelScores = score_labels(true, given, LABELS, None, Resampling(10))
    assert [(one.clips, one.given, one.right) for one in found.labels] == [(2, 2, 1), (1, 1, 0), (0, 0, 0)]
    assert found.labels[0].precision == found.labels[0].recall == found.labels[0].f1 == 0.5
    assert found.accuracy.speaker_interval is None
    assert score_labels([["a"]], [["a"]], LABELS, None, Resampling(10)).rejected_of_none is None


def test_confusion_counts_pairs_and_none_comes_last() -> None:
    true, given = ["a", "a", "b", "none", "b"], ["a", "b", "none", "a", "b"]
    table = confusion(true, given, ["a", "b", "none"])
    names = ["a", "b", "none"]
    for row, column in itertools.product(range(3), range(3)):
        pairs = list(zip(true, given, strict=True))
        assert table[row][column] == pairs.count((names[row], names[column]))


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_of_a_label_has_the_highest_f1(seed: int) -> None:
    """Of all that there could be: every threshold tried."""
    generator = np.random.default_rng(seed)
    has = generator.random(40) < 0.3
    has[0] = True
    values = np.clip(0.3 * has + 0.7 * generator.random(40), 0, 1).round(2)

    def f1(threshold: float) -> float:
        given = values >= threshold
        return float(2 * (given & has).sum() / (given.sum() + has.sum()))

    found = best_f1(values, has)
    assert f1(found) == pytest.approx(max(map(f1, np.linspace(0, 1, 2001))))
    assert np.abs(values - found).min() > 1e-3  # in the middle between two


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("count", [1, 5, 40, 137])
def test_a_share_of_the_right_answers_is_kept(kept: float, count: int) -> None:
    """No less, and at the next higher value less."""
    values = np.random.default_rng(count).random(count)
    threshold = keeping(values, kept)
    assert (values >= threshold).mean() >= kept
    assert (values > values[values >= threshold].min()).mean() < kept


def test_clips_of_none_choose_the_threshold_where_there_are_any() -> None:
    """Right answers and rejected strangers together: by trying all; a model's own label none rejects anyhow."""
    generator = np.random.default_rng(3)
    true, probabilities = [], []
    for number in range(60):
        own = ["a"] if number % 3 == 0 else ["b"] if number % 3 == 1 else []
        top = generator.uniform(0.5, 1.0) if own else generator.uniform(0.3, 0.8)
        best = own[0] if own and generator.random() < 0.9 else "none" if number % 10 == 0 else "b"
        rest = (1 - top) / 2
        probabilities.append({label: top if label == best else rest for label in ("a", "b", "none")})
        true.append(own)

    def worth(threshold: float) -> float:
        answers = [plain_rule(False, threshold).answer(one) for one in probabilities]
        pairs = list(zip(true, answers, strict=True))
        right = np.mean([own == answer for own, answer in pairs if own])
        return float(right + np.mean([not answer for own, answer in pairs if not own]))

    rule = choose_rule(true, probabilities, several=False, kept=0.95, data="dev.tsv")
    assert worth(rule.threshold) >= max(map(worth, np.linspace(0, 1, 301))) - 1e-9
    assert "20 others rejected" in rule.chosen


def test_several_labels_each_have_their_threshold() -> None:
    true = [["a"], ["a", "b"], [], ["b"]]
    values = [{"a": 0.9, "b": 0.1, "c": 0.2}, {"a": 0.8, "b": 0.3, "c": 0.2}]
    values += [{"a": 0.6, "b": 0.1, "c": 0.2}, {"a": 0.1, "b": 0.4, "c": 0.2}]
    rule = choose_rule(true, values, several=True, kept=0.95, data="dev.tsv")
    assert rule.thresholds == pytest.approx({"a": 0.7, "b": 0.2})  # no clip has c, which stays at one half
    assert [sorted(rule.answer(one)) for one in values] == true


def test_none_stands_alone() -> None:
    assert several_labels(" rain ;wind; ") == ["rain", "wind"]
    with pytest.raises(ValueError, match="others stand beside it"):
        several_labels("rain;none")
