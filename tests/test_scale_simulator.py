"""`benchmarks/scale.py`: what it predicts follows from its assumptions, and repeats what was measured."""

import json
import math
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("scale")


def test_one_card_is_as_fast_as_was_measured(scale: Any) -> None:
    """3,417 s of audio a second in the loop on one H200; xls_r_300m has large's operations, whose step was measured."""
    rows = json.loads((BENCHMARKS / "on_accelerator.nvidia-h200.loop.json").read_text())["parts"]["loop"]["rows"]
    measured = next(row["value"] for row in rows if row["what"] == "after update 20")
    found = scale.predict(scale.model_named("base"), 960, 1, scale.Assumptions())
    assert 5760 / found.update == pytest.approx(measured, rel=0.01)
    assert found.bottleneck == "computing"
    assert scale.model_named("xls_r_300m").operations == scale.model_named("large_lv60k").operations


def test_hours_of_base_by_hand(scale: Any) -> None:
    """400,000 updates of 1.6 h at that speed, and what they cost; no crash on one card in less than its share."""
    found = scale.predict(scale.model_named("base"), 960, 1, scale.Assumptions())
    hours = 400_000 * 5760 / 3417.3 / 3600
    assert found.heard == 640_000 and found.passes == pytest.approx(666.7, abs=0.1)
    assert found.hours == pytest.approx(hours * (1 + 420 / 3600 / 50_700), rel=2e-3)
    assert found.euros == pytest.approx(3 * found.card_hours) and found.card_hours == found.hours
    once = scale.predict(scale.model_named("base"), 4.3e6, 1, scale.Assumptions())
    assert once.passes == pytest.approx(1) and once.hours == pytest.approx(found.hours * 4.3e6 / 640_000)


@pytest.mark.parametrize("name", ["xls_r_300m", "xls_r_1b"])
def test_more_cards_are_never_slower_and_never_cheaper(scale: Any, name: str) -> None:
    """From two machines on: a network in between costs something once. (What the host can start bounds small ones.)"""
    model, assumed = scale.model_named(name), scale.Assumptions()
    found = [scale.predict(model, 436_000, cards, assumed) for cards in (16, 32, 64, 128, 256, 512)]
    for fewer, more in zip(found, found[1:], strict=False):
        assert more.hours <= fewer.hours * 1.001
        assert more.card_hours >= fewer.card_hours * 0.999
    assert found[-1].hours > found[0].hours / 32  # 32 times the cards are never 32 times as fast
    base = scale.predict(scale.model_named("base"), 436_000, 512, assumed)
    assert base.update > 1686 * 11e-6


def test_each_part_can_be_the_bottleneck(scale: Any) -> None:
    """A slow network, few readers, slow storage, a slow host: each is named, and its time is its formula's."""
    model, usual = scale.model_named("xls_r_300m"), scale.Assumptions()
    for setting, name, seconds in (
        ("storage_bytes_per_second=1e8", "storage", 15480 * 19_900 / 1e8),
        ("readers_audio_seconds=100", "readers", 15480 / 64 / 100),
        ("seconds_per_kernel=0.01", "starting kernels", 1686 * 2 * 0.01),
    ):
        found = scale.predict(model, 960, 64, scale.changed(usual, [setting]))
        assert found.bottleneck == name
        assert found.parts[name] == pytest.approx(seconds)
        assert found.update == pytest.approx(seconds, rel=0.01)
    slow = scale.predict(model, 960, 64, scale.changed(usual, ["bytes_per_second_between=1e9"]))
    ring = 2 * 63 / 64 * model.parameters * 4 / (1e9 * 0.7) + (14 + 12) * 20e-6
    assert slow.bottleneck == "summing gradients"
    assert slow.parts["summing gradients"] == pytest.approx(ring - 0.5 * slow.parts["computing"])


def test_every_assumption_has_a_source(scale: Any) -> None:
    for one in fields(scale.Assumptions):
        assert len(one.metadata["source"]) > 10, one.name


def test_wrong_settings_are_one_line(scale: Any) -> None:
    for wrong in (
        "price=3",
        "euros_per_card_hour",
        "euros_per_card_hour=x",
        "euros_per_card_hour=-1",
        "loop_share=inf",
    ):
        with pytest.raises(SystemExit, match="--set"):
            scale.changed(scale.Assumptions(), [wrong])


def test_the_table_has_a_row_for_each_case(scale: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    arguments = ["--models", "base", "--hours", "960,4300000", "--cards", "8,512", "--set", "euros_per_card_hour=1"]
    monkeypatch.setattr(sys, "argv", ["scale.py", *arguments])
    scale.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(row[1], row[3]) for row in rows] == [(h, c) for h in ("960", "4,300,000") for c in ("8", "512")]
    for row in rows:
        assert row[6] == row[7]  # at one euro


def test_costs_of_processes_add_up(scale: Any) -> None:
    """Costs that are planted are found again, and processes beyond the cores share them. What a process needs more
    beside others is of its computing, not of the sums."""
    check = import_module("scale_check")
    update, clip, total = 0.07, 0.03, 0.02
    costs = check.costs_of(update + 16 * clip, update + 2 * clip, total, {8: 1.2})
    assert math.isclose(costs.update, update) and math.isclose(costs.clip, clip)
    assert costs.of_process(1) == pytest.approx(update + 16 * clip)
    assert costs.of_process(4) == pytest.approx(update + 4 * clip + 2 * 3 / 4 * total)
    assert costs.of_process(8) == pytest.approx(1.2 * (update + 2 * clip) + 2 * 7 / 8 * total)
    assert costs.by_the_clock(2, cores=2) == pytest.approx(costs.of_process(2))
    assert costs.by_the_clock(8, cores=2) == pytest.approx(4 * costs.of_process(8))
