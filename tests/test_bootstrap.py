"""Resampling: beside a slow loop, beside the binomial distribution, and what must hold for any data."""

import math

import numpy as np
import pytest

from wav2vec2.evaluation import bootstrap
from wav2vec2.evaluation.bootstrap import Interval, Numbers, Resampling, by_group, improvement, interval


def slow_rates(errors: list[Numbers], lengths: Numbers, how: Resampling) -> list[list[float]]:
    """The rates of every system in every resample, one after the other, from the same draws."""
    generator = np.random.default_rng(how.seed)
    draws = generator.integers(len(lengths), size=(how.resamples, len(lengths)))
    return [
        [sum(int(system[i]) for i in draw) / max(sum(int(lengths[i]) for i in draw), 1) for draw in draws]
        for system in errors
    ]


def corpus(utterances: int, seed: int) -> tuple[Numbers, Numbers, Numbers]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 30, utterances)
    return generator.binomial(lengths, 0.2), generator.binomial(lengths, 0.15), lengths


def test_the_same_numbers_as_a_loop() -> None:
    first, second, lengths = corpus(25, 1)
    how = Resampling(resamples=300, seed=5)
    before, after = slow_rates([first, second], lengths, how)
    assert interval(first, lengths, how) == Interval(*np.quantile(before, [0.025, 0.975]))
    found = improvement(first, second, lengths, how)
    assert found is not None
    assert found.probability == sum((a < b) + 0.5 * (a == b) for a, b in zip(after, before, strict=True)) / 300
    assert found.difference == pytest.approx((second.sum() - first.sum()) / lengths.sum())
    differences = [a - b for a, b in zip(after, before, strict=True)]
    ends = (found.interval.low, found.interval.high)
    assert ends == pytest.approx(np.quantile(differences, [0.025, 0.975]).tolist(), abs=1e-12)


def test_drawing_in_pieces_covers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: with little of it there are as many resamples, alike in distribution."""
    first, _, lengths = corpus(50, 2)
    whole = interval(first, lengths, Resampling(4000))
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 120)
    pieces = interval(first, lengths, Resampling(4000))
    assert whole is not None
    assert pieces is not None
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), abs=0.01)


def test_one_word_utterances_are_binomial() -> None:
    """Resampling n yes-or-no utterances is drawing from the binomial distribution: its spread is known."""
    errors = np.repeat([1, 0], [60, 340])
    found = interval(errors, np.ones(400, np.int64), Resampling(20_000, seed=3))
    assert found is not None
    spread = 1.96 * math.sqrt(0.15 * 0.85 / 400)
    assert found.low == pytest.approx(0.15 - spread, abs=0.004)
    assert found.high == pytest.approx(0.15 + spread, abs=0.004)


def test_whether_a_system_is_better() -> None:
    """Certain, impossible, and half for a system beside itself; the other way round the rest to one."""
    first, second, lengths = corpus(80, 4)
    how = Resampling(500)
    never, always, same = (improvement(first, other, lengths, how) for other in (first + 1, first * 0, first))
    assert never is not None and always is not None and same is not None
    assert (never.probability, same.probability, same.difference, same.interval) == (0.0, 0.5, 0.0, Interval(0, 0))
    assert always.probability == 1.0
    there, back = improvement(first, second, lengths, how), improvement(second, first, lengths, how)
    assert there is not None and back is not None
    assert there.probability + back.probability == pytest.approx(1.0)
    assert there.difference == -back.difference
    assert 0.5 < there.probability <= 1.0


def test_the_seed_decides() -> None:
    first, _, lengths = corpus(60, 6)
    assert interval(first, lengths, Resampling(200, 1)) == interval(first, lengths, Resampling(200, 1))
    assert interval(first, lengths, Resampling(200, 1)) != interval(first, lengths, Resampling(200, 2))


def test_speakers_who_differ_make_the_interval_wider() -> None:
    """Four speakers, each with its own rate: drawing speakers is far less sure than drawing utterances."""
    speakers = [f"s{number % 4}" for number in range(200)]
    errors = [number % 4 for number in range(200)]
    lengths = [10] * 200
    grouped = by_group(errors, speakers), by_group(lengths, speakers)
    assert [column.tolist() for column in grouped] == [[0, 50, 100, 150], [500] * 4]
    alone = interval(np.array(errors), np.array(lengths), Resampling())
    together = interval(*grouped, Resampling())
    assert alone is not None and together is not None
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_where_nothing_varies_there_is_no_interval() -> None:
    one = np.array([3])
    assert interval(one, one, Resampling()) is None
    assert improvement(one, one, one, Resampling()) is None
    zeros = np.zeros(5, np.int64)
    assert interval(zeros, zeros, Resampling()) == Interval(0.0, 0.0)  # five empty references, heard as nothing


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"level": 1.0}, {"seed": -1}])
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="resamples must be positive"):
        Resampling(**wrong)  # type: ignore[arg-type]
