"""Figures of sound events beside small cases counted by hand; scenes whose labels say what is in them."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "sound_events"
MODULES = ("event_figures", "log_mel_frames", "synthetic_sounds", "sound_sources", "scenes", "sound_event_results")


@pytest.fixture(scope="module")
def study() -> Any:
    """The modules of the example by name, as its scripts import each other."""
    sys.path.insert(0, str(FOLDER))
    yield {name: importlib.import_module(name) for name in MODULES}
    sys.path.remove(str(FOLDER))


def test_events_are_matched_as_sed_eval_does(study: Any) -> None:
    """A collar for the beginning; for the end the larger of it and half the length; each event once."""
    matched, there = study["event_figures"].matched, [(1.0, 2.0, "beep"), (3.0, 3.1, "beep"), (5.0, 9.0, "music")]
    cases = [
        ([(1.2, 2.5, "beep")], 0.2, (1, 1, 2)),  # to the edge of both
        ([(1.21, 2.0, "beep")], 0.2, (0, 1, 2)),
        ([(1.0, 2.51, "beep")], 0.2, (0, 1, 2)),
        ([(3.0, 3.3, "beep")], 0.2, (1, 1, 2)),  # the collar is more than half of it
        ([(0.9, 2.0, "beep"), (1.1, 2.0, "beep")], 0.2, (1, 2, 2)),
        ([(1.0, 2.0, "music")], 0.2, (0, 0, 2)),
    ]
    for found, collar, counts in cases:
        assert matched(there, found, "beep", collar) == counts, found
    # the first found event fits both, the second only the first one there: a greedy choice would find one
    close = [(1.0, 2.0, "beep"), (1.3, 2.3, "beep")]
    assert matched(close, [(1.15, 2.0, "beep"), (0.9, 2.0, "beep")], "beep", 0.2) == (2, 2, 2)
    assert study["event_figures"].Counts(1, 2, 4).f1 == pytest.approx(2 * 0.5 * 0.25 / 0.75)


def test_frames_are_counted(study: Any) -> None:
    figures = study["event_figures"].Figures(["none", "beep"])
    figures.add([(0.0, 0.5, "beep")], [(0.25, 0.75, "beep")], 1.0)
    found = figures.summary()
    assert np.sum(found["confusion"]) == 50
    assert found["confusion"] == [[13, 12], [12, 13]] or found["confusion"] == [[12, 13], [13, 12]]
    assert found["accuracy"] in (0.52, 0.48)


def test_scenes_say_what_is_in_them(study: Any) -> None:
    """Where it is labelled silence it is quiet; a sound is as loud as it was drawn, and made anew each time."""
    chance = np.random.default_rng(0)
    for name, make in study["synthetic_sounds"].SOUNDS.items():
        one, other = make(1.0, chance), make(1.0, chance)
        assert one.shape == other.shape == (16000,) and one.dtype == np.float32, name
        assert np.sqrt(np.mean(one**2)) == pytest.approx(1.0, abs=1e-3) and not np.array_equal(one, other)
    said = study["synthetic_sounds"].coloured(16000, 1.0, chance)
    said[7000:14000] = 0
    stretches = study["sound_sources"].spoken_stretches(said)
    assert stretches == [(0.0, pytest.approx(0.44)), (pytest.approx(0.86), pytest.approx(1.0))]
    sources = study["sound_sources"].Sources({}, [study["synthetic_sounds"].coloured(24000, 1.0, chance)])
    labels = set()
    for _ in range(12):
        scene = study["scenes"].draw_scene(6.0, sources, chance, 1.0)
        energy: dict[str, list[float]] = {label: [] for label in study["scenes"].LABELS}
        for begin, end, label in scene.stretches:
            cut = scene.samples[round(begin * 16000) : round(end * 16000)]
            energy[label].append(float(np.mean(cut**2)))
        labels |= {label for label, values in energy.items() if values}
        quiet, loud = energy["silence"], energy["music"] + energy["applause"]
        assert not (quiet and loud) or max(quiet) < min(loud) / 100
        assert np.abs(scene.samples).max() <= 0.9 + 1e-6
    assert labels >= {"music", "applause", "speech", "silence"}


def test_the_baseline_learns_frames(study: Any) -> None:
    """Noise and a tone, told apart by frame after a few updates."""
    import torch

    chance, scenes = np.random.default_rng(1), []
    for _ in range(8):
        samples = chance.normal(size=16000).astype(np.float32) * 0.1
        samples[8000:] += np.sin(np.arange(8000) * 0.3).astype(np.float32)
        scenes.append((torch.from_numpy(samples), [(0.5, 1.0, "tone")]))
    model = study["log_mel_frames"].train(scenes, ["none", "tone"], seed=1, updates=12)
    chosen = model(scenes[0][0][None])[0].argmax(-1)
    assert chosen[:20].float().mean() < 0.1 and chosen[-20:].float().mean() > 0.9


def test_tables_hold_every_run(study: Any, tmp_path: Path) -> None:
    figures = study["event_figures"].Figures(study["scenes"].LABELS)
    figures.add([(0.0, 0.5, "beep")], [(0.0, 0.5, "beep")], 1.0)
    run = {
        "seconds": 1,
        "parameters": 2,
        "hardware": "x",
        **dict.fromkeys(("test-made", "test-recorded"), {"": figures.summary()}),
    }
    (tmp_path / "parts").mkdir()
    import json

    for seed in (1, 2):
        (tmp_path / "parts" / f"kind-{seed}.json").write_text(json.dumps(run), encoding="utf-8")
    study["sound_event_results"].write_results(tmp_path / "parts", tmp_path)
    text = (tmp_path / "sound_events.md").read_text("utf-8")
    assert "| kind | 100.0 (100.0 to 100.0) |" in text and "kind: 2 runs" in text
