"""Runs with `data.speeds` are the runs over the same copies as files, to the last bit; divided, killed, kept."""

from pathlib import Path
from typing import Any

import pytest
from classification_runs import of_run, tones
from finetuning_runs import killed_after, labelled_recipe, run, train, write_labelled
from pretraining_runs import assert_same, log, weights
from update_layouts import LAYOUTS, LENGTHS
from written_speeds import written_out

from wav2vec2.training.classification import classify
from wav2vec2.training.progress.training_log import read_log

pytestmark = pytest.mark.slow

SPEEDS = [0.9, 1.2]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of 0.9 to 1.3 seconds: 39 s with their copies."""
    return write_labelled(tmp_path_factory.mktemp("labelled") / "clips", LENGTHS[::4] + LENGTHS[:2])


def recipe(folder: Path, labelled: Path, speeds: list[float] | None = None, **overrides: Any) -> dict[str, Any]:
    """Twelve updates, two epochs and more, without an evaluation."""
    defaults: dict[str, Any] = {"run__updates": 12, "run__log_every": 1}
    values = labelled_recipe(folder, labelled, **(defaults | overrides))
    values["data"]["speeds"] = SPEEDS if speeds is None else speeds
    return values


def figures(folder: Path) -> list[dict[str, Any]]:
    """What the log says of every update."""
    return [line for line in log(folder) if line["kind"] == "training"]


@pytest.mark.parametrize("keep", [None, "memory"])
def test_it_is_the_run_over_files_to_the_last_bit(labelled: Path, tmp_path: Path, keep: str | None) -> None:
    """Weights, figures and evaluations; also where a copy is convolved once and kept, as a clip of its own."""
    written = written_out(labelled, SPEEDS)
    for name, manifest, speeds in (("copies", labelled, SPEEDS), ("files", written, [])):
        values = recipe(tmp_path / name, manifest, speeds, tuning__keep_features=keep, run__evaluate_every=6)
        values["data"]["valid"] = [{"path": str(labelled)}]
        train(values)
    assert_same(weights(tmp_path / "copies"), weights(tmp_path / "files"))
    one, other = figures(tmp_path / "copies"), figures(tmp_path / "files")
    assert len(one) == 12 and one == other
    lines = read_log(tmp_path / "copies")
    shares = [line["kept_share"] for line in lines if "kept_share" in line]
    assert shares[0] == 0 and shares[5:] == [1.0] * 7 if keep else not shares
    facts = [log(tmp_path / name)[0] for name in ("copies", "files")]
    assert facts[0]["speeds"] == SPEEDS and "speeds" not in facts[1]
    for name in ("hours", "clips", "epochs", "left_out"):
        assert facts[0][name] == facts[1][name]
    kinds = [[line for line in log(tmp_path / name) if line["kind"] == "evaluation"] for name in ("copies", "files")]
    assert len(kinds[0]) == 2 and [line["cer"] for line in kinds[0]] == [line["cer"] for line in kinds[1]]


def test_kept_features_are_exact_within_rounding(labelled: Path, tmp_path: Path) -> None:
    for name, keep in (("plain", None), ("kept", "memory")):
        train(recipe(tmp_path / name, labelled, tuning__keep_features=keep))
    assert_same(weights(tmp_path / "plain"), weights(tmp_path / "kept"), 1e-4)


def test_every_division_gives_the_same_weights(labelled: Path, tmp_path: Path) -> None:
    folders = []
    for layout in ("1 x 8", "2 x 2 x 2"):
        processes, seconds, _ = LAYOUTS[layout]
        calm: dict[str, Any] = {"optimizer__epsilon": 1e-6, "optimizer__learning_rate": 3e-4, "run__updates": 5}
        sizes = {"data__seconds_per_batch": seconds, "data__bucket_updates": 1}
        folders.append(run(recipe(tmp_path / layout.replace(" ", ""), labelled, **(calm | sizes)), processes))
    assert_same(weights(folders[0]), weights(folders[1]), 1e-5)
    for one, other in zip(*map(figures, folders), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)


def test_killed_and_resumed_is_the_same_run(labelled: Path, tmp_path: Path) -> None:
    """Bit by bit, with worker processes."""

    def long(name: str) -> dict[str, Any]:
        many: dict[str, Any] = {"run__updates": 12, "run__save_every": 6, "run__log_every": 4, "data__workers": 2}
        return recipe(tmp_path / name, labelled, **many)

    whole = run(long("whole"))
    resumed = killed_after(long("resumed"), 9)
    run(long("resumed"))
    assert_same(weights(whole), weights(resumed))
    assert [line["loss"] for line in figures(whole)] == [line["loss"] for line in figures(resumed)]


def test_a_run_says_its_speeds_and_that_they_changed(
    labelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(recipe(tmp_path / "run", labelled, run__updates=2))
    assert "copies at speed 0.9 and 1.2 are among the clips" in capfd.readouterr().err
    train(recipe(tmp_path / "run", labelled, [0.9, 1.1], run__updates=4))
    assert "changed since the run began: data.speeds.1 was 1.2, is 1.1" in capfd.readouterr().err
    assert [line["update"] for line in read_log(tmp_path / "run") if line["kind"] == "training"] == [1, 2, 3, 4]


@pytest.mark.parametrize("task", ["clips", "frames"])
def test_classification_too(tmp_path: Path, task: str) -> None:
    """Over files to the last bit; stretches of frames are scaled in the table of these, also where clips are kept."""
    manifest = tones(tmp_path / "train", 4, 0)
    if task == "frames":
        lines = manifest.read_text(encoding="utf-8").splitlines()
        rows = [line.rpartition("\t") for line in lines[1:]]
        manifest.write_text("\n".join([lines[0], *(f"{row}\t0.1-0.3 {label}" for row, _, label in rows), ""]))
    written = written_out(manifest, SPEEDS)
    if task == "frames":
        head, *lines = written.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            speed = (1.0, *SPEEDS)[number // 12]
            lines[number] = line.replace("0.1-0.3", f"{0.1 / speed:.9f}-{0.3 / speed:.9f}")
        written.write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    for name, source, more in (("copies", manifest, [f"data.speeds={SPEEDS}"]), ("files", written, [])):
        asked = of_run(task, source, manifest, tmp_path / name, 6, "run.log_every=1", *more)
        if task == "frames":
            asked.model.config["feature_grad_mult"], asked.tuning.keep_features = 0.0, "memory"
        classify(asked)
    assert figures(tmp_path / "copies") == figures(tmp_path / "files")
    assert_same(weights(tmp_path / "copies"), weights(tmp_path / "files"))
