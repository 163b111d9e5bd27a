"""What a run does when something is wrong, what its evaluations say, and what can be done with what it leaves."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from pretraining_runs import (
    assert_same,
    log,
    optimizer,
    recipe,
    run,
    start,
    train_losing_codes,
    weights,
    write_clips,
)

from wav2vec2 import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining
from wav2vec2.training import starting
from wav2vec2.training.guards import CollapseError
from wav2vec2.training.progress.training_log import read_log
from wav2vec2.training.run_output import StartError
from wav2vec2.training.starting import has_fast_bf16
from wav2vec2.training.tasks.pretraining_task import PretrainingTask

pytestmark = pytest.mark.slow

LENGTHS = [0.6 + 0.02 * n for n in range(30)]


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("audio") / "train", LENGTHS)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("audio") / "valid", [0.5, 1.3, 0.8, 1.0, 0.7, 1.1, 0.9], first_seed=100)


def failed(values: dict[str, Any], work: str, *arguments: Any, processes: int = 1) -> list[str]:
    """What each process of a run said that had to stop."""
    ended = start(Path(values["run"]["output"]), processes, work, values, *arguments)
    assert [process.wait() for process in ended] == [1] * processes, [process.said()[-2000:] for process in ended]
    return [process.said() for process in ended]


def evaluations(folder: Path) -> list[dict[str, Any]]:
    return [line for line in log(folder) if line["kind"] == "evaluation"]


def training(folder: Path) -> list[dict[str, Any]]:
    return [line for line in log(folder) if line["kind"] == "training"]


# --- guards --------------------------------------------------------------------------------------------------------


def test_a_collapse_stops_the_run_and_can_be_let_pass(audio: Path, tmp_path: Path) -> None:
    guards: dict[str, Any] = {"guards__collapse": True, "guards__patience": 3, "guards__grace": 2, "run__updates": 8}
    said = failed(recipe(tmp_path / "stopped", audio, **guards), "train_collapsed")
    assert "CollapseError: update 5: the codebooks have collapsed: group 0 uses 1.00 codes" in said[0]
    assert "guards.collapse=false" in said[0]
    assert training(tmp_path / "stopped")[-1]["update"] == 5, "what the guard saw is in the log"
    passed = run(recipe(tmp_path / "passed", audio, **guards | {"guards__collapse": False}), 1, "train_collapsed")
    assert training(passed)[-1]["contrastive"] == 0 and training(passed)[-1]["positive_negative_share"] == 1


def test_codes_that_are_lost_behind_a_warm_start_stop_the_run_within_fifty_updates(audio: Path, tmp_path: Path) -> None:
    """From update 9 on five of 160 codes are left, in the time of grace, and the contrastive loss is as any other."""
    config = {"num_codevectors_per_group": 160}
    many: dict[str, Any] = {"model__config": config, "run__updates": 60, "run__log_every": 1}
    values = recipe(tmp_path / "run", audio, guards__collapse=True, **many)
    values |= {"warm_start": {"updates": 4}}
    with pytest.raises(
        CollapseError, match="update 28: the codebooks have collapsed: no group uses more than 8"
    ) as said:
        train_losing_codes(values, 8, 5)
    assert "since 9;" in str(said.value) and "feature_penalty_weight (1)" in str(said.value)
    codes = {line["update"]: line["code_perplexity"] for line in training(tmp_path / "run")[4:]}
    assert min(min(codes[update]) for update in range(5, 9)) > 15 and max(codes[28]) < 5.1


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("wav2vec2.encoder.layers.1.attention.out_proj.weight", "the parameter {} holds infinity (1 of 2304 values)"),
        ("wav2vec2.feature_projection.projection", "{} (UniformLinear): finite inputs, but its output holds"),
    ],
)
def test_an_infinity_is_traced_to_where_it_began(name: str, culprit: str, audio: Path, tmp_path: Path) -> None:
    said = failed(recipe(tmp_path / "run", audio), "train_with_infinity", 2, name)
    assert "NonFiniteError: update 3:" in said[0] and culprit.format(name) in said[0]


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_an_infinite_gradient_is_traced_to_its_parameter(clip_norm: float | None, audio: Path, tmp_path: Path) -> None:
    """The loss is finite. Clipping would have made all other gradients NaN or 0 before anyone looks."""
    name = "wav2vec2.encoder.layers.1.attention.k_proj.weight"
    values = recipe(tmp_path / "run", audio, optimizer__clip_norm=clip_norm)
    said = failed(values, "train_with_infinite_gradient", 2, name)
    assert f"It comes from the gradient of {name} holds infinity (2304 of 2304 values) (of 6" in said[0]
    assert "gradients 1 are not finite" in said[0]


def test_all_processes_learn_of_an_infinity_on_one(audio: Path, tmp_path: Path) -> None:
    name = "wav2vec2.feature_projection.projection"
    said = failed(recipe(tmp_path / "run", audio), "train_with_infinity", 1, name, "1", processes=2)
    assert all(f"{name} (UniformLinear): finite inputs" in one for one in said)


def test_an_infinite_update_can_be_left_out(audio: Path, tmp_path: Path) -> None:
    """It is counted, its figures are in no mean, and weights and optimizer are as if it had not been."""
    values = recipe(tmp_path / "run", audio, guards__non_finite=False, run__log_every=2)
    folder = run(values, 1, "train_with_infinity", 2, "wav2vec2.feature_projection.projection")
    lines = training(folder)
    assert [line["skipped_updates"] for line in lines] == [0, 1]
    assert all(isinstance(line["loss"], float) and line["gradient_norm"] < 100 for line in lines)
    assert all(tensor.isfinite().all() for tensor in weights(folder).values())
    steps = {float(value) for name, value in optimizer(folder)[0].items() if name.endswith("/step")}
    assert steps == {3.0}


def test_an_update_without_a_masked_frame_has_no_loss() -> None:
    """All of its clips may be silent. A loss of 0 would look like success, and as an evaluation like the best one."""
    task = PretrainingTask(Wav2Vec2Config(), Wav2Vec2FeatureExtractor(), seed=1)
    names = ("loss", "contrastive", "diversity", "penalty", "right", "same", "masked", "frames")
    nothing: dict[str, Any] = dict.fromkeys(names, 0.0) | {"code_counts": [[0.0] * 320] * 2}
    assert task.figures(nothing) == {"masked_share": 0.0, "temperature": 2.0}
    assert task.evaluation_figures(nothing) == {"masked_share": 0.0}


@pytest.mark.parametrize(("processes", "padding"), [(1, 0.25), (2, 0.0)])
def test_audio_counts_over_parts_and_processes(processes: int, padding: float, tmp_path: Path) -> None:
    """Clips of 1 s and of 0.5 s in each update: side by side they hold 2 s, on two processes each is alone."""
    audio = write_clips(tmp_path / "audio", [1.0, 0.5])
    values = recipe(tmp_path / "run", audio, data__seconds_per_update=1.5, run__log_every=2)
    lines = [line for line in read_log(run(values, processes)) if line["kind"] == "training"]
    assert len(lines) == 2
    for line in lines:
        assert line["seconds_per_update"] == pytest.approx(1.5)
        assert line["padding_share"] == pytest.approx(padding)
        assert line["audio_seconds_per_second"] * line["wall_seconds"] == pytest.approx(3.0)


def test_a_checkpoint_is_continued_with_the_input_that_it_knows(audio: Path, tmp_path: Path) -> None:
    """Its extractor decides whether waveforms are normalised, not `data.normalize`; and that is said."""
    first = run(recipe(tmp_path / "first", audio, data__normalize=False, run__updates=1))
    values = recipe(tmp_path / "second", audio, data__normalize=True, run__updates=1)
    (process,) = start(tmp_path / "second", 1, "train", values | {"model": {"checkpoint": str(first / "model")}})
    assert process.wait() == 0, process.said()
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "second" / "model").do_normalize is False
    assert "waveforms are not normalised, as the checkpoint's are, not as data.normalize says" in process.said()


# --- recordings that cannot be read --------------------------------------------------------------------------------


def spoil(folder: Path, numbers: list[int]) -> None:
    for number in numbers:
        (folder / f"clip{number:03d}.wav").write_bytes(b"no audio at all")


def test_unreadable_recordings_are_listed_and_the_rest_is_trained_on(tmp_path: Path) -> None:
    """One of a folder, found by its header; one whose length a manifest claims, found when it is decoded."""
    folder = write_clips(tmp_path / "clips", LENGTHS)
    spoil(folder, [3])
    values = recipe(tmp_path / "folder", folder, data__max_bad_share=0.5)
    listed = (run(values) / "unreadable.tsv").read_text(encoding="utf-8").splitlines()
    assert listed[0] == "id\treason" and [line.split("\t")[0] for line in listed[1:]] == ["clip003.wav"]
    names = [f"clip{n:03d}.wav\t{length}" for n, length in enumerate(LENGTHS)]
    (folder / "all.tsv").write_text("\n".join(["path\tduration", *names]) + "\n", encoding="utf-8")
    values = recipe(tmp_path / "manifest", folder / "all.tsv", data__max_bad_share=0.5, run__log_every=1)
    lines = training(run(values, 2))
    listed = (tmp_path / "manifest" / "unreadable.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in listed] == ["id", "clip003.wav"]
    assert sum(line["skipped"] for line in lines) >= 1 and lines[-1]["update"] == 4
    assert all(math.isfinite(line["loss"]) for line in lines)


@pytest.mark.parametrize("known", [True, False], ids=["found on decoding", "found in the headers"])
def test_too_many_unreadable_recordings_stop_all_processes(known: bool, tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", LENGTHS)
    spoil(folder, list(range(0, 30, 2)))
    names = [f"clip{n:03d}.wav" + f"\t{length}" * known for n, length in enumerate(LENGTHS)]
    (folder / "all.tsv").write_text("\n".join(["path" + "\tduration" * known, *names]) + "\n", encoding="utf-8")
    values = recipe(tmp_path / "run", folder / "all.tsv", data__max_bad_share=0.1)
    for said in failed(values, "train", processes=2):
        assert "could not be read, more than data.max_bad_share=0.1 allows" in said


# --- evaluations ---------------------------------------------------------------------------------------------------

#: Nothing moves in float32.
STILL: dict[str, Any] = {"optimizer__learning_rate": 1e-30, "run__evaluate_every": 1}


def test_an_evaluation_is_the_same_at_any_time_and_in_any_layout(audio: Path, valid: Path, tmp_path: Path) -> None:
    layouts = {"one": (1, 100.0), "parts": (1, 2.1), "two": (2, 2.1)}
    found = {
        name: evaluations(run(recipe(tmp_path / name, audio, valid, data__seconds_per_batch=limit, **STILL), processes))
        for name, (processes, limit) in layouts.items()
    }
    first = found["one"][0]
    assert {"loss", "bits", "accuracy", "diversity", "penalty", "code_perplexity", "masked_share"} < first.keys()
    for lines in found.values():
        assert len(lines) == 4
        for line in lines:
            assert line | {"update": 0} == lines[0] | {"update": 0}
        for name in first.keys() - {"kind", "update"}:
            assert lines[0][name] == pytest.approx(first[name], rel=1e-5, abs=1e-5), name


def test_the_loss_of_an_evaluation_is_that_of_all_clips_as_one_batch(audio: Path, valid: Path, tmp_path: Path) -> None:
    """The weighted sum of its parts, the diversity from the codes that are used."""
    folder = run(recipe(tmp_path / "run", audio, valid, data__seconds_per_batch=2.1, **STILL))
    line, config = evaluations(folder)[-1], Wav2Vec2Config.from_pretrained(folder / "model")
    codes = config.num_codevector_groups * config.num_codevectors_per_group
    assert line["diversity"] == pytest.approx(1 - sum(line["code_perplexity"]) / codes, abs=1e-6)
    whole = line["contrastive"] + config.diversity_loss_weight * line["diversity"]
    assert line["loss"] == pytest.approx(whole + config.feature_penalty_weight * line["penalty"], abs=1e-6)


def test_evaluations_do_not_disturb_training(audio: Path, valid: Path, tmp_path: Path) -> None:
    dropout: dict[str, Any] = {"model__config": {"hidden_dropout": 0.1, "layerdrop": 0.3}}
    without = run(recipe(tmp_path / "without", audio, **dropout))
    beside = run(recipe(tmp_path / "beside", audio, valid, run__evaluate_every=1, **dropout))
    assert_same(weights(without), weights(beside))
    assert training(without) == training(beside) and len(evaluations(beside)) == 4


# --- what a run leaves ---------------------------------------------------------------------------------------------


def test_the_finished_model_is_everyones_and_can_be_trained_on(audio: Path, valid: Path, tmp_path: Path) -> None:
    """With stock Transformers too; a run that goes on from it begins where it ended: loss, codebooks, temperature."""
    schedule = {"gumbel_temperature_decay": 0.9}
    first = run(recipe(tmp_path / "first", audio, valid, model__config=schedule))
    assert not (first / "model" / "training_state").exists()
    stock, info = transformers.Wav2Vec2ForPreTraining.from_pretrained(first / "model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ours = Wav2Vec2ForPreTraining.from_pretrained(first / "model")
    assert Wav2Vec2FeatureExtractor.from_pretrained(first / "model").do_normalize
    assert ours.config.pretraining_updates == 4
    values, mask = torch.randn(1, 16000), torch.zeros(1, 49, dtype=torch.bool)
    mask[0, 10:30] = True
    for model in (stock, ours):
        model.eval()
    with torch.no_grad():
        outputs = [model(values, mask_time_indices=mask).projected_quantized_states for model in (stock, ours)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)
    more = recipe(tmp_path / "more", audio, valid, run__log_every=1, **STILL)
    more["model"] = {"checkpoint": str(first / "model")}
    second = run(more)
    assert evaluations(second)[0]["loss"] == pytest.approx(evaluations(first)[-1]["loss"], abs=1e-5)
    assert log(second)[0]["model"] == f"{first.name}/model", "its name, and not where it lies"
    temperatures = [line["temperature"] for line in training(first)[-1:] + training(second)]
    assert temperatures == pytest.approx([2 * 0.9**update for update in (3, 4, 5, 6, 7)])


def test_a_finished_run_is_not_begun_again_unasked(audio: Path, tmp_path: Path) -> None:
    values = recipe(tmp_path / "run", audio)
    folder = run(values)
    before = weights(folder), log(folder)
    assert "holds the checkpoints of a run" in failed(values, "train", False)[0]
    run(values)
    assert_same(before[0], weights(folder))
    assert log(folder) == before[1]


@pytest.mark.parametrize(("launched", "seen", "on_cpu"), [(1, 1, False), (2, 2, True), (2, 1, True)])
def test_processes_that_do_not_know_of_each_other_are_refused(
    launched: int, seen: int, on_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be a run of its own, all of them in one folder."""
    asked: dict[str, Any] = {}

    def accelerator(**options: Any) -> SimpleNamespace:
        asked.update(options)
        return SimpleNamespace(num_processes=seen)

    monkeypatch.setenv("WORLD_SIZE", str(launched))
    monkeypatch.setattr(starting, "Accelerator", accelerator)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    if seen < launched:
        with pytest.raises(StartError, match="2 processes were launched .*, but Accelerate sees 1"):
            starting.make_accelerator("fp32")
    else:
        assert starting.make_accelerator("fp32").num_processes == launched
    assert asked["cpu"] is on_cpu


# --- how the machine is used ---------------------------------------------------------------------------------------


def test_recomputed_activations_give_the_same_weights(audio: Path, tmp_path: Path) -> None:
    config = {"layerdrop": 0.3, "hidden_dropout": 0.1}
    kept = run(recipe(tmp_path / "kept", audio, model__config=config))
    again = run(recipe(tmp_path / "again", audio, model__config=config, run__gradient_checkpointing=True))
    assert_same(weights(kept), weights(again), 1e-6)


def test_precision(audio: Path, tmp_path: Path) -> None:
    """ "auto" is what the machine does well; in bf16 the loss is that of fp32 to its few digits, the weights fp32."""
    auto = run(recipe(tmp_path / "auto", audio, run__precision="auto"))
    assert log(auto)[0]["precision"] == ("bf16" if has_fast_bf16() else "fp32")
    losses = [
        training(run(recipe(tmp_path / name, audio, run__precision=name, run__log_every=1)))[0]["loss"]
        for name in ("bf16", "fp32")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]
    assert {tensor.dtype for tensor in weights(tmp_path / "bf16").values()} == {torch.float32}
