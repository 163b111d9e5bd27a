"""Guards trip on what has gone wrong for good, say what to change, and leave every healthy run alone."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wav2vec2.training.guards import (
    CollapseError,
    Guards,
    NonFiniteError,
    StalledError,
    TrainingStoppedError,
)
from wav2vec2.training.settings.run_config import GuardSection
from wav2vec2.training.tasks.ctc_task import describe_plateau

CHANCE = 1 / 101
HEALTHY: dict[str, Any] = {
    "loss": 4.6,
    "contrastive": 4.5,
    "gradient_norm": 1.0,
    "accuracy": 0.3,
    "code_perplexity": [40.0, 50.0],
    "positive_negative_share": 0.02,
    "masked_share": 0.49,
}
#: What a run shows whose groups use one code each: every distractor is the target, and none takes part in the loss.
COLLAPSED = HEALTHY | {
    "contrastive": 0.0,
    "accuracy": 0.0,
    "code_perplexity": [1.0, 1.0],
    "positive_negative_share": 1.0,
}

Trajectory = Callable[[int], dict[str, Any]]


def guards(warmup_updates: int = 0, gradient_scaler: bool = False, **section: Any) -> Guards:
    return Guards(GuardSection(**section), 2, CHANCE, warmup_updates=warmup_updates, gradient_scaler=gradient_scaler)


def stops_at(guard: Guards, trajectory: Trajectory, updates: Sequence[int]) -> tuple[int, TrainingStoppedError] | None:
    for update in updates:
        try:
            guard.check(update, trajectory(update))
        except TrainingStoppedError as error:
            return update, error
    return None


def test_a_total_collapse_stops_the_run_within_twenty_updates_even_at_its_start() -> None:
    found = stops_at(guards(), lambda update: COLLAPSED if update >= 5 else HEALTHY, range(1, 5000))
    assert found is not None
    update, error = found
    assert (update, type(error)) == (24, CollapseError)
    for words in ("contrastive loss is exactly 0", "since 5", "[1.0, 1.0]", "100%", "guards.collapse=false"):
        assert words in str(error)


def test_one_group_with_one_code_is_a_collapse_after_grace_and_patience() -> None:
    figures = HEALTHY | {"code_perplexity": [55.0, 1.5]}
    found = stops_at(guards(patience=200, grace=1000), lambda _: figures, range(1, 5000))
    assert found is not None
    assert found[0] == 1200  # the two hundredth update after the thousandth
    assert isinstance(found[1], CollapseError)
    assert "group 1 uses 1.50 codes" in str(found[1])


def many_codes(**section: Any) -> Guards:
    """Two groups of 320 codes, after a warm start of 100 updates, with default patience and grace."""
    return Guards(GuardSection(**section), 2, CHANCE, num_codes=320, warmup_updates=50, warm_updates=100)


def falling_to(codes: list[float], since: int, during: int = 30) -> Trajectory:
    """130 + 140 codes, which within so many updates become few and stay so."""

    def trajectory(update: int) -> dict[str, Any]:
        share = min(max((update - since) / during, 0.0), 1.0)
        values = [(1 - share) * start + share * end for start, end in zip((130.0, 140.0), codes, strict=True)]
        return HEALTHY | {"code_perplexity": values, "accuracy": 0.03}

    return trajectory


@pytest.mark.parametrize("codes", [[7.0, 3.0], [8.0, 15.0], [10.0, 13.0], [1.0, 1.2]])
def test_lost_codes_stop_the_run_within_fifty_updates(codes: list[float]) -> None:
    """As four real runs lost theirs: within thirty updates, to a handful, all of it inside the grace."""
    found = stops_at(many_codes(), falling_to(codes, 110), range(101, 5000))
    assert found is not None
    update, error = found
    assert update <= 110 + 50 and isinstance(error, CollapseError)
    for words in ("no group uses more than 16 codes", "diversity_loss_weight (0.5)", "feature_penalty_weight (1)"):
        assert words in str(error)
    assert "warm_start" not in str(error)  # it had one
    bare = stops_at(Guards(GuardSection(), 2, CHANCE, num_codes=320), falling_to(codes, 10), range(1, 5000))
    assert bare is not None and "warm_start.updates=300" in str(bare[1])
    assert stops_at(many_codes(collapse=False), falling_to(codes, 110), range(101, 900)) is None


def test_codes_that_are_lost_slowly_or_come_back_are_left_alone() -> None:
    """Through a warm-up of thousands of updates; or for less than the patience."""
    assert stops_at(many_codes(stalled=False), falling_to([14.0, 15.0], 110, 3000), range(101, 6000)) is None
    dip = falling_to([9.0, 9.0], 110, 1)
    back = lambda update: dip(update) if update % 40 < 15 else HEALTHY | {"code_perplexity": [60.0, 50.0]}  # noqa: E731
    assert stops_at(many_codes(), back, range(101, 3000)) is None


def test_a_run_that_collapsed_is_stopped_before_its_fiftieth_update_after_that() -> None:
    """The figures of the run in docs/pictures/data, of which every fifth update is known; the healthy one goes on."""
    path = Path(__file__).parents[1] / "docs" / "pictures" / "data" / "pretraining_curves.json"
    curves = json.loads(path.read_text(encoding="utf-8"))

    def stop_of(name: str) -> tuple[int, TrainingStoppedError] | None:
        log = curves[name]
        guard = Guards(GuardSection(), 2, CHANCE, num_codes=64, warmup_updates=400)
        known = {update: number for number, update in enumerate(log["update"])}

        def figures(update: int) -> dict[str, Any]:
            return HEALTHY | {key: log[key][known[update]] for key in ("accuracy", "code_perplexity")}

        return stops_at(guard, figures, log["update"])

    collapsed = stop_of("collapsed")
    assert collapsed is not None and collapsed[0] <= 25 + 50  # 46 + 54 at update 5, 15 + 19 at 25, 5 + 7 at 30
    assert stop_of("healthy") is None


def test_few_codes_from_the_beginning_and_an_accuracy_at_chance_are_only_said() -> None:
    """Each once: at the fiftieth update since the learning rate had risen halfway, and at the 250th."""
    guard = many_codes(stalled=False)
    said: dict[int, list[str]] = {}
    for update in range(101, 1000):
        notes = guard.check(update, HEALTHY | {"code_perplexity": [12.0, 9.0], "accuracy": CHANCE})
        said |= {update: notes} if notes else {}
    assert list(said) == [175, 350]
    assert "few codes are in use (perplexity per group [12.0, 9.0])" in said[175][0]
    assert "still at chance (0.0099; guessing gives 0.0099)" in said[350][0]


def test_a_healthy_run_hears_no_note() -> None:
    guard = many_codes()
    assert not any(guard.check(update, HEALTHY) for update in range(101, 2000))


def test_the_figures_of_a_warm_start_trip_nothing() -> None:
    guard = Guards(GuardSection(grace=0, patience=1), 2, CHANCE, num_codes=320, warm_updates=100)
    assert not any(guard.check(update, {"log_mel_error": 0.9, "gradient_norm": 1.0}) for update in range(1, 101))
    with pytest.raises(NonFiniteError, match="log_mel_error=nan"):
        guard.check(101, {"log_mel_error": math.nan})


def test_distractors_equal_to_the_target_are_a_collapse() -> None:
    found = stops_at(guards(patience=10, grace=0), lambda _: HEALTHY | {"positive_negative_share": 0.6}, range(1, 99))
    assert found is not None
    assert found[0] == 10
    assert "60% of the distractors are the target itself" in str(found[1])


@pytest.mark.parametrize("every", [1, 7, 50, 300])
def test_patience_is_counted_in_updates_however_often_is_looked(every: int) -> None:
    figures = HEALTHY | {"code_perplexity": [1.1, 1.1]}
    found = stops_at(guards(patience=200, grace=1000), lambda _: figures, range(every, 5000, every))
    assert found is not None
    first = min(update for update in range(every, 5000, every) if update > 1000)
    assert found[0] == min(update for update in range(first, 5000, every) if update - first + 1 >= 200)


def test_what_recovers_in_between_is_no_collapse() -> None:
    def flickering(update: int) -> dict[str, Any]:
        return HEALTHY if update % 150 == 0 else HEALTHY | {"code_perplexity": [1.0, 1.0]}

    assert stops_at(guards(patience=200, grace=0), flickering, range(1, 3000)) is None


def test_an_update_without_masked_frames_says_nothing() -> None:
    empty = COLLAPSED | {"masked_share": 0.0, "positive_negative_share": 0.0, "code_perplexity": [1.0, 1.0]}
    assert stops_at(guards(patience=5, grace=0), lambda _: empty, range(1, 300)) is None


@pytest.mark.parametrize(
    ("key", "figures"),
    [
        ("collapse", COLLAPSED | {"accuracy": 0.3}),
        ("stalled", HEALTHY | {"accuracy": CHANCE}),
        ("non_finite", HEALTHY | {"loss": math.nan}),
    ],
)
def test_each_guard_is_relaxed_by_the_name_that_its_message_gives(key: str, figures: dict[str, Any]) -> None:
    found = stops_at(guards(), lambda _: figures, range(1, 6000))
    assert found is not None
    assert f"guards.{key}=false" in str(found[1])
    assert stops_at(guards(**{key: False}), lambda _: figures, range(1, 6000)) is None


def noisy(values: Callable[[int], float], scale: float, seed: int) -> Callable[[int], float]:
    noise = np.random.default_rng(seed).normal(0, scale, 100_000)
    return lambda update: max(values(update) + float(noise[update]), 0.0)


def tiny_run(update: int) -> float:
    """Chance for 250 updates, then a rise to 0.09 at 900 and slowly on."""
    return float(np.interp(update, [0, 250, 900, 4000], [0.016, 0.016, 0.09, 0.2]))


def late_plateau(update: int) -> float:
    return float(np.interp(update, [0, 2000, 10000], [0.012, 0.3, 0.62]))


def slow_warmup(update: int) -> float:
    """Chance through two thousand updates of a long warm-up."""
    return float(np.interp(update, [0, 2000, 6000], [CHANCE, CHANCE, 0.2]))


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [tiny_run, late_plateau, slow_warmup])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_healthy_run_is_ever_stopped(accuracy: Callable[[int], float], seed: int) -> None:
    """Perplexity 43, 62, 55, as a tiny run shows; a plateau of any length late in the run is fine."""
    guard = guards(warmup_updates=32000 if accuracy is slow_warmup else 500)
    draw = noisy(accuracy, 0.004, seed)

    def trajectory(update: int) -> dict[str, Any]:
        codes = float(np.interp(update, [0, 500, 2000], [43, 62, 55]))
        return HEALTHY | {"accuracy": draw(update), "code_perplexity": [codes, codes - 5]}

    assert stops_at(guard, trajectory, range(1, 40_000)) is None


def test_an_accuracy_at_chance_stops_the_run_a_thousand_updates_after_the_grace() -> None:
    draw = noisy(lambda _: CHANCE, 0.003, 3)
    found = stops_at(guards(), lambda update: HEALTHY | {"accuracy": draw(update)}, range(1, 9000))
    assert found is not None
    assert (found[0], type(found[1])) == (2000, StalledError)
    assert "at chance since update 1001" in str(found[1])
    assert "guessing gives 0.0099" in str(found[1])


def test_half_of_the_warmup_belongs_to_the_grace() -> None:
    found = stops_at(guards(warmup_updates=10_000), lambda _: HEALTHY | {"accuracy": CHANCE}, range(1, 9000))
    assert found is not None
    assert found[0] == 6000


def test_standing_still_just_above_chance_stops_the_run_later() -> None:
    found = stops_at(guards(), lambda _: HEALTHY | {"accuracy": 2 * CHANCE}, range(1, 9000))
    assert found is not None
    assert found[0] == 5000  # grace, and twenty times the patience
    assert "not rising for 4000 updates" in str(found[1])


def test_a_run_that_forgets_everything_is_stopped() -> None:
    found = stops_at(guards(), lambda update: HEALTHY | {"accuracy": 0.4 if update < 5000 else CHANCE}, range(1, 9000))
    assert found is not None
    assert 6000 < found[0] < 7000
    assert isinstance(found[1], StalledError)


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_stops_the_run_at_once_and_names_its_origin(name: str, value: float) -> None:
    with pytest.raises(NonFiniteError, match=rf"update 7: {name}={value}. It comes from layers.3.feed_forward"):
        guards().check(7, HEALTHY | {name: value}, lambda: "layers.3.feed_forward")


def test_the_origin_is_searched_only_when_there_is_one() -> None:
    def never() -> Iterator[str]:
        raise AssertionError("a healthy update was run again")

    guards().check(1, HEALTHY, never)  # type: ignore[arg-type]


def test_a_gradient_scaler_may_search_but_not_forever() -> None:
    wrong = HEALTHY | {"gradient_norm": math.inf}
    searching = stops_at(guards(gradient_scaler=True), lambda u: wrong if u % 20 else HEALTHY, range(1, 500))
    assert searching is None
    found = stops_at(guards(gradient_scaler=True), lambda _: wrong, range(1, 500))
    assert found is not None
    assert found[0] == 50


@pytest.mark.parametrize("stop", [1, 1100, 1500, 1999])
@pytest.mark.parametrize("accuracy", [CHANCE, 0.3])
def test_a_resumed_guard_goes_on_as_if_nothing_had_come_between(stop: int, accuracy: float) -> None:
    draw = noisy(lambda _: accuracy, 0.002, 5)

    def trajectory(update: int) -> dict[str, Any]:
        codes = [1.5, 50.0] if update > 1900 else [40.0, 50.0]
        return HEALTHY | {"accuracy": draw(update), "code_perplexity": codes}

    whole = stops_at(guards(), trajectory, range(1, 5000))
    first, second = guards(), guards()
    assert stops_at(first, trajectory, range(1, stop + 1)) is None
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = stops_at(second, trajectory, range(stop + 1, 5000))
    assert whole is not None
    assert rest is not None
    assert (whole[0], str(whole[1])) == (rest[0], str(rest[1]))


def test_a_task_without_codebooks_is_watched_for_its_numbers_alone() -> None:
    guard = Guards(GuardSection())
    guard.check(5000, {"loss": 1.0, "blank_share": 1.0})
    with pytest.raises(NonFiniteError):
        guard.check(5001, {"loss": math.inf})


def test_the_blank_plateau_is_named_with_its_end() -> None:
    assert describe_plateau(0.6, 10) is None
    early = describe_plateau(0.991, 100, warmup_updates=300, freeze_updates=1000, total_updates=8000)
    assert early is not None
    for words in ("99.1% of the frames", "rises until update 300", "head is trained until update 1000", "update 1800"):
        assert words in early
    late = describe_plateau(0.991, 1801, warmup_updates=300, freeze_updates=1000, total_updates=8000)
    assert late is not None
    assert "should have ended by about update 1800" in late


def test_the_plateau_is_not_promised_to_end_after_the_run() -> None:
    short = describe_plateau(0.99, 50, warmup_updates=10, total_updates=100)  # the margin is 500 updates at least
    assert short is not None and "should end" not in short
    assert "may take until about update 510, and this run ends after 100: run.updates may be too few" in short
    enough = describe_plateau(0.99, 50, warmup_updates=10, total_updates=510)
    assert enough is not None and enough.endswith("it should end by about update 510.")
