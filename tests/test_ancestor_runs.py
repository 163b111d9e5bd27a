"""wav2vec and vq-wav2vec on the one training loop: they learn, resume bit by bit, and no cut of an update matters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from pretraining_runs import (
    assert_same,
    assert_same_run,
    killed_after,
    last_checkpoint,
    log,
    recipe,
    recorded,
    run,
    train,
    weights,
    write_clips,
)
from training_audio import RATE
from update_layouts import LAYOUTS, LENGTHS, UPDATES

from wav2vec2 import Wav2Vec2FeatureExtractor
from wav2vec2.baselines import VQWav2VecForPreTraining, VQWav2VecModel, Wav2VecForPreTraining, presets
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.training.guards import CollapseError
from wav2vec2.training.run_output import StartError
from wav2vec2.training.settings.recipes import RunConfigError, from_dict
from wav2vec2.training.settings.run_config import FinetuneRun, PretrainRun
from wav2vec2.training.tasks.future_prediction_task import FuturePredictionTask

pytestmark = pytest.mark.slow

_SMALL: dict[str, Any] = {
    "conv_dim": [24] * 7,
    "context_dim": [24, 24],
    "context_kernel": [2, 3],
    "num_prediction_steps": 4,
}
_VQ = _SMALL | {"conv_dim": [24] * 8, "num_codevectors_per_group": 16}
MODELS: dict[str, dict[str, Any]] = {
    "wav2vec": {"preset": "wav2vec_tiny", "config": _SMALL},
    "kmeans": {"preset": "vq_wav2vec_tiny", "config": _VQ | {"quantizer": "kmeans"}},
    "gumbel": {"preset": "vq_wav2vec_tiny", "config": _VQ | {"quantizer_depth": 1, "gumbel_temperature_decay": 0.99}},
}


def ancestor_recipe(
    folder: Path, audio: Path, kind: str, valid: Path | None = None, **overrides: Any
) -> dict[str, Any]:
    values = recipe(folder, audio, valid, **{"run__log_every": 1, "data__normalize": False} | overrides)
    return values | {"model": MODELS[kind]}


def melody(seed: int, seconds: float) -> Any:
    """Tones of 60 to 150 ms, one after the other: what comes next is what is there, more often than elsewhere."""
    random = np.random.default_rng(seed)
    parts: list[Any] = []
    while sum(len(part) for part in parts) < seconds * RATE:
        time = np.arange(random.integers(1000, 2400)) / RATE
        parts.append(random.uniform(0.05, 0.3) * np.sin(2 * np.pi * 100 * 2 ** random.uniform(0, 5) * time))
    samples = np.concatenate(parts)[: round(seconds * RATE)]
    return samples + random.normal(0, 0.01, len(samples))


@pytest.fixture(scope="module")
def melodies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Sixty clips to learn from, and ten others."""
    root = tmp_path_factory.mktemp("melodies")
    for name, seeds in (("train", range(60)), ("valid", range(100, 110))):
        (root / name).mkdir()
        for seed in seeds:
            soundfile.write(root / name / f"{seed}.wav", melody(seed, 0.6), RATE)
    return root / "train", root / "valid"


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("audio") / "clips", LENGTHS)


@pytest.mark.parametrize(
    ("kind", "accuracy", "loss"), [("wav2vec", 0.2, 1.2), ("kmeans", 0.1, 1.25), ("gumbel", 0, 1.3)]
)
def test_they_learn(kind: str, accuracy: float, loss: float, melodies: tuple[Path, Path], tmp_path: Path) -> None:
    """Of clips that they have not heard they tell frames to come from distractors; guessing is right once in eleven
    times, and saying nothing costs 2 log 2 = 1.386. Codes are few after so few updates, so that many distractors have
    the target's, which counts as not told from it: of a Gumbel softmax the loss alone says what was learnt."""
    values = ancestor_recipe(
        tmp_path / "run", melodies[0], kind, melodies[1], run__updates=200, run__log_every=20,
        run__evaluate_every=200, data__seconds_per_update=4.8, schedule__kind="cosine", schedule__warmup=0.1,
        optimizer__learning_rate=1e-2 if kind != "wav2vec" else 5e-3, optimizer__weight_decay=0.0,
    )  # fmt: skip
    train(values)
    (evaluation,) = [line for line in log(tmp_path / "run") if line["kind"] == "evaluation"]
    assert evaluation["prediction"] * np.log(2) < loss
    assert evaluation["accuracy"] > accuracy
    if kind != "wav2vec":
        assert min(evaluation["code_perplexity"]) > 2


@pytest.mark.parametrize("kind", ["kmeans", "gumbel"])
def test_killed_and_resumed_is_bit_equal(kind: str, audio: Path, tmp_path: Path) -> None:
    """Killed in update 6, two updates after the checkpoint; the temperature goes on where it stood."""
    valid = write_clips(tmp_path / "valid", [0.7, 1.1], first_seed=100)
    often: dict[str, Any] = {"run__updates": 7, "run__save_every": 3, "run__evaluate_every": 2, "run__keep_best": 0}
    often["data__seconds_per_update"] = 4.0
    straight = run(ancestor_recipe(tmp_path / "straight", audio, kind, valid, **often))
    values = ancestor_recipe(tmp_path / "broken", audio, kind, valid, **often)
    broken = killed_after(values, 5)
    assert last_checkpoint(broken).name == "update-00000003"
    run(values)
    assert_same_run(straight, broken)
    config = json.loads((broken / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["pretraining_updates"] == 7
    if kind == "gumbel":
        lines = [line for line in log(broken) if line["kind"] == "training"]
        assert [line["temperature"] for line in lines] == pytest.approx([2 * 0.99**n for n in range(7)])


@pytest.mark.parametrize("kind", list(MODELS))
def test_an_update_is_the_same_whatever_it_is_cut_into(kind: str, audio: Path, tmp_path: Path) -> None:
    """Over time, and with k-means, whose cost is a mean over the whole update, over processes."""
    layouts = ["1 x 8", "2 x 2 x 2" if kind == "kmeans" else "1 x 2 x 4"]
    folders = {}
    for layout in layouts:
        processes, seconds, _ = LAYOUTS[layout]
        cut: dict[str, Any] = {"data__seconds_per_batch": seconds, "data__bucket_updates": 1, "run__updates": UPDATES}
        values = ancestor_recipe(tmp_path / layout.replace(" ", ""), audio, kind, **cut)
        folders[layout] = run(values, processes, "train_and_record", "num_predictions")
    for layout in layouts[1:]:
        assert {len(update["counted"]) for update in recorded(folders[layout], 0)} <= LAYOUTS[layout][2]
        assert_same(weights(folders["1 x 8"]), weights(folders[layout]), 1e-5)
        for one, other in zip(log(folders["1 x 8"]), log(folders[layout]), strict=True):
            names = one.keys() & {"loss", "prediction", "quantizer", "accuracy", "code_perplexity", "gradient_norm"}
            assert one["kind"] != "training" or len(names) > 3
            for name in names:
                assert other[name] == pytest.approx(one[name], rel=1e-5, abs=1e-5), name


def test_a_process_without_a_clip_takes_part(audio: Path, tmp_path: Path) -> None:
    one_clip: dict[str, Any] = {"data__seconds_per_update": 1.3, "data__max_seconds": 1.3, "run__updates": 3}
    folders = [
        run(ancestor_recipe(tmp_path / str(n), audio, "kmeans", **one_clip), n, "train_and_record", "num_predictions")
        for n in (1, 2)
    ]
    assert 0 in [update["counted"][0] for update in recorded(folders[1], 1)]
    assert_same(weights(folders[0]), weights(folders[1]), 1e-5)


def test_what_a_run_leaves_is_a_model_that_another_run_goes_on_from(audio: Path, tmp_path: Path) -> None:
    """With its own feature extractor; what its weights were trained for stays, whatever the recipe says."""
    train(ancestor_recipe(tmp_path / "first", audio, "gumbel", run__updates=2, run__report=True))
    assert (tmp_path / "first" / "report.html").is_file()
    model = VQWav2VecForPreTraining.from_pretrained(tmp_path / "first" / "model")
    assert not Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "first" / "model").do_normalize
    assert VQWav2VecModel.from_pretrained(tmp_path / "first" / "model")(torch.randn(1, 4000)).codes.shape == (1, 23, 2)
    values = ancestor_recipe(tmp_path / "second", audio, "gumbel", run__updates=2)
    checkpoint = str(tmp_path / "first" / "model")
    values["model"] = {"checkpoint": checkpoint, "config": {"activation": "relu", "num_negatives": 5}}
    train(values)
    again = VQWav2VecForPreTraining.from_pretrained(tmp_path / "second" / "model").config
    assert (again.pretraining_updates, again.activation, again.num_negatives) == (4, model.config.activation, 5)
    values["run"]["output"] = str(tmp_path / "third")
    values["model"] = {"checkpoint": checkpoint, "config": {"hidden_dropout": 0.1}}
    with pytest.raises(CheckpointError, match="VQWav2VecConfig has no field hidden_dropout"):
        train(values)
    values["model"] = {"checkpoint": checkpoint}
    values["centred_codebooks"] = False
    values["run"]["compile"] = True
    with pytest.raises(StartError, match=r"run\.compile: is for wav2vec 2\.0 alone"):
        train(values)


def test_a_collapse_of_the_codebooks_stops_the_run_with_advice_for_this_model(audio: Path, tmp_path: Path) -> None:
    """At a learning rate far too high, all frames get one code."""
    guards: dict[str, Any] = {"guards__collapse": True, "guards__patience": 3, "guards__grace": 2, "run__updates": 60}
    values = ancestor_recipe(tmp_path / "run", audio, "gumbel", **guards, optimizer__learning_rate=1.0)
    with pytest.raises(CollapseError, match="the codebooks have collapsed") as error:
        train(values)
    assert "model.config.quantizer_depth=1" in str(error.value) and "diversity" not in str(error.value)


def test_what_ancestors_do_not_have_is_refused_before_anything_starts(tmp_path: Path) -> None:
    values = ancestor_recipe(tmp_path / "run", tmp_path, "wav2vec", run__compile=True, run__attention="sdpa")
    values |= {"warm_start": {"updates": 2}, "centred_codebooks": True}
    with pytest.raises(RunConfigError) as error:
        from_dict(PretrainRun, values)
    told = "is for wav2vec 2.0 alone: its ancestors have no Transformer, and an objective of their own"
    assert error.value.problems == [
        f"warm_start.updates=2: {told}",
        f"centred_codebooks=true: {told}",
        f"run.attention='sdpa': {told}",
        f"run.compile=true: {told}",
    ]
    values = ancestor_recipe(tmp_path / "run", tmp_path, "wav2vec")
    values["model"] = {"preset": "wav2vec_tiny", "config": {"hidden_size": 96, "num_negative": 5, "residual_scale": -1}}
    with pytest.raises(
        RunConfigError, match="num_negative=5: is no field of Wav2VecConfig: did you mean num_negatives"
    ):
        from_dict(PretrainRun, values)
    del values["model"]["config"]["hidden_size"], values["model"]["config"]["num_negative"]
    with pytest.raises(RunConfigError, match=r"model\.config\.residual_scale=-1: must be a number above 0"):
        from_dict(PretrainRun, values)


def test_fine_tuning_has_no_head_for_them(tmp_path: Path) -> None:
    data = {"train": [{"path": str(tmp_path)}]}
    values = {
        "model": {"preset": "wav2vec_large", "config": {}},
        "data": data,
        "run": {"output": str(tmp_path / "run")},
    }
    with pytest.raises(RunConfigError, match=r"model\.preset='wav2vec_large': is a model without heads"):
        from_dict(FinetuneRun, values)
    from wav2vec2.training.model_making import require_checkpoint
    from wav2vec2.training.settings.run_config import ModelSection

    Wav2VecForPreTraining(presets.wav2vec_tiny()).save_pretrained(tmp_path / "model")
    require_checkpoint(ModelSection(checkpoint=str(tmp_path / "model")), with_head=False)
    with pytest.raises(CheckpointError, match="is a wav2vec model, which has no heads and can be pretrained alone"):
        require_checkpoint(ModelSection(checkpoint=str(tmp_path / "model")))


def test_an_update_in_which_nothing_can_be_predicted_has_no_loss() -> None:
    """All clips may be shorter than the first step. A loss of 0 would look like success."""
    task = FuturePredictionTask(presets.vq_wav2vec_tiny(), Wav2Vec2FeatureExtractor(), seed=1)
    names = ("loss", "prediction", "quantizer", "right", "predictions", "frames")
    nothing: dict[str, Any] = dict.fromkeys(names, 0.0) | {"code_counts": [[0.0] * 32] * 2}
    assert task.figures(nothing) == {"temperature": 2.0}
    assert task.evaluation_figures(nothing) == {}
