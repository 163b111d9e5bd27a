"""Fine-tuning for streams: what is drawn for an update, the same however the run is cut, and off by default."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuning_runs import killed_after, labelled_recipe, run, train, write_labelled
from pretraining_runs import assert_same, log, weights
from small_models import small_config
from update_layouts import LAYOUTS, LENGTHS

from wav2vec2.configuration import OWN_FIELDS
from wav2vec2.modeling.attention_in_chunks import Chunks
from wav2vec2.training.run_output import StartError
from wav2vec2.training.settings.recipes import RunConfigError, read_run
from wav2vec2.training.settings.run_config import FinetuneRun, StreamingSection
from wav2vec2.training.tasks.drawn_chunks import DrawnChunks

ENOUGH = ["model.preset=tiny", "data.train=[{path: audio/}]", "run.output=out"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some clips of about a second, 50 frames."""
    return write_labelled(tmp_path_factory.mktemp("labelled") / "clips", LENGTHS[::3])


def recipe(folder: Path, labelled: Path, streaming: dict[str, Any] | None, **overrides: Any) -> dict[str, Any]:
    """A few updates."""
    defaults: dict[str, Any] = {"run__updates": 6, "run__log_every": 1}
    return labelled_recipe(folder, labelled, **(defaults | overrides)) | {"streaming": streaming}


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in log(folder) if line["kind"] == "training"]


def test_what_is_drawn() -> None:
    """As often whole clips as asked for; sizes by their logarithm, right contexts evenly up to twice the size."""
    section = StreamingSection(share=0.7, chunk_seconds=(0.16, 1.28), right_chunks=2.0, left_seconds=3.0, sinks=5)
    draw = DrawnChunks(section, small_config("base"), seed=3)
    drawn = [draw(update) for update in range(4000)]
    chunked = [(one.size, one) for one in drawn if one.size is not None]
    assert {one for one in drawn if one.size is None} == {Chunks()}
    assert len(chunked) / 4000 == pytest.approx(0.7, abs=0.03)
    sizes = [size for size, _ in chunked]
    assert (min(sizes), max(sizes)) == (8, 64)
    for low, high in ((8, 16), (16, 32), (32, 64)):  # an octave each; by quarters, which no rounding to frames moves
        assert sum(low <= size < high for size in sizes) / len(sizes) == pytest.approx(1 / 3, abs=0.04)
    relative = torch.tensor([one.right / size for size, one in chunked])
    assert relative.min() == 0 and relative.max() <= 2 and relative.mean() == pytest.approx(1, abs=0.05)
    assert relative.histc(4, 0, 2).div(len(chunked)).sub(0.25).abs().max() < 0.05
    assert {(one.left, one.sinks) for _, one in chunked} == {(150, 5)}


def test_a_draw_follows_from_seed_and_update() -> None:
    """And from nothing that was drawn before."""
    section, config = StreamingSection(left_seconds=None), small_config("base")
    one, other = DrawnChunks(section, config, 1), DrawnChunks(section, config, 2)
    torch.manual_seed(5)
    expected = [one(update) for update in range(50)]
    assert [DrawnChunks(section, config, 1)(update) for update in reversed(range(50))][::-1] == expected
    assert [other(update) for update in range(50)] != expected
    assert {chunks.left for chunks in expected} == {None} and len(set(expected)) > 20


def test_the_section_is_off_until_it_is_named() -> None:
    assert read_run(FinetuneRun, None, ENOUGH).streaming is None
    run = read_run(FinetuneRun, None, [*ENOUGH, "streaming.sinks=4"])
    assert run.streaming is not None and asdict(run.streaming) == {
        "share": 0.5,
        "chunk_seconds": (0.16, 1.28),
        "right_chunks": 2.0,
        "left_seconds": 8.0,
        "sinks": 4,
    }


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("streaming.chunk_seconds=[0.5, 0.2]", "must be the shortest chunk and then the longest"),
        ("streaming.chunk_seconds=[0, 0.2]", "must be above 0"),
        ("streaming.share=1.5", "must be at least 0 and at most 1"),
        ("run.attention=flash_attention_2", "must be sdpa or eager where there is a streaming section"),
    ],
)
def test_what_cannot_be_is_refused(override: str, told: str) -> None:
    with pytest.raises(RunConfigError, match=told):
        read_run(FinetuneRun, None, [*ENOUGH, "streaming.sinks=0", override])


def test_a_head_that_hears_the_whole_clip_is_refused(labelled: Path, tmp_path: Path) -> None:
    values = recipe(tmp_path / "run", labelled, {}, model__config={"ctc_head": "recurrent", "ctc_head_size": 20})
    with pytest.raises(StartError, match=r"ctc_head=recurrent, .* a stream needs model\.config\.ctc_head=linear"):
        train(values)


@pytest.mark.slow
def test_updates_without_chunks_are_those_of_a_run_without_the_section(labelled: Path, tmp_path: Path) -> None:
    """To the last bit; with chunks they are others, and what is saved is a model that says so to streams alone."""
    folders = {}
    for name, section in (("none", None), ("whole", {"share": 0.0}), ("chunks", {"share": 1.0})):
        folders[name] = tmp_path / name
        train(recipe(folders[name], labelled, section))
    assert_same(weights(folders["none"]), weights(folders["whole"]))
    assert losses(folders["none"]) == losses(folders["whole"])
    assert losses(folders["chunks"])[0] != losses(folders["none"])[0]
    assert all(map(math.isfinite, losses(folders["chunks"])))
    own = {}
    for name, folder in folders.items():
        config = json.loads((folder / "model" / "config.json").read_text())
        own[name] = {key: value for key, value in config.items() if key in OWN_FIELDS}
    assert own["none"] == own["whole"]
    assert own["chunks"] == own["none"] | {"tuned_in_chunks": True, "attention_left": 400}


@pytest.mark.slow
def test_every_division_gives_the_same_weights(labelled: Path, tmp_path: Path) -> None:
    """All processes and all parts of an update hear through the same chunks."""
    folders = []
    for layout in ("1 x 8", "2 x 2 x 2"):
        processes, seconds, _ = LAYOUTS[layout]
        calm: dict[str, Any] = {"optimizer__epsilon": 1e-6, "optimizer__learning_rate": 3e-4}
        sizes = {"data__seconds_per_batch": seconds, "data__bucket_updates": 1}
        values = recipe(tmp_path / layout.replace(" ", ""), labelled, {"share": 0.8}, **(calm | sizes))
        folders.append(run(values, processes))
    assert_same(weights(folders[0]), weights(folders[1]), 1e-5)
    assert losses(folders[1]) == pytest.approx(losses(folders[0]), rel=1e-5)


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_run(labelled: Path, tmp_path: Path) -> None:
    """Bit by bit."""

    def long(name: str) -> dict[str, Any]:
        return recipe(tmp_path / name, labelled, {"share": 0.8}, run__updates=8, run__save_every=4)

    whole = run(long("whole"))
    resumed = killed_after(long("resumed"), 6)
    run(long("resumed"))
    assert_same(weights(whole), weights(resumed))
    assert losses(whole) == losses(resumed)
