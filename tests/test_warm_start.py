"""The warm start of pretraining: its targets are log-mel energies, it moves the convolutions alone, and it leaves no
trace in what is saved."""

import json
import math
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from pretraining_runs import (
    RANDOM,
    assert_same,
    assert_same_run,
    killed_after,
    last_checkpoint,
    log,
    optimizer,
    recipe,
    run,
    speechlike,
    train,
    train_and_record,
    train_until,
    train_with_infinity,
    weights,
    write_clips,
    write_shards,
)
from safetensors.torch import load_file
from small_models import CALM
from torch import Tensor
from transformers.audio_utils import mel_filter_bank, spectrogram

from wav2vec2 import Wav2Vec2ForPreTraining
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.log_mel import LogMelEnergies
from wav2vec2.training.guards import NonFiniteError
from wav2vec2.training.optimization import learning_rate
from wav2vec2.training.progress.report import write_report
from wav2vec2.training.run_output import StartError
from wav2vec2.training.settings.recipes import RunConfigError, from_dict
from wav2vec2.training.settings.run_config import PretrainRun
from wav2vec2.training.update_step import Updater

#: Updates of the warm start in most of the runs below.
WARM = 6
LENGTHS = [0.5 + 0.02 * n for n in range(30)]


def energies(waveform: Tensor) -> Tensor:
    """Of one clip, (T, M)."""
    made = LogMelEnergies(400, 320)
    frames = (len(waveform) - 400) // 320 + 1
    found: Tensor = made(waveform[None], torch.tensor([len(waveform)]), torch.tensor([frames]))
    return found[0]


def slow_log_mel(waveform: np.ndarray, bands: int = 80) -> np.ndarray:
    """Frame by frame, frequency by frequency, band by band, in float64."""
    waveform = waveform.astype(np.float64)
    waveform = (waveform - waveform.mean()) / math.sqrt(waveform.var() + 1e-7)
    mel = lambda hertz: 2595 * math.log10(1 + hertz / 700)  # noqa: E731
    step = (mel(7600) - mel(60)) / (bands + 1)
    edges = [700 * (10 ** ((mel(60) + step * index) / 2595) - 1) for index in range(bands + 2)]
    time = np.arange(400)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / 400)
    rows = []
    for begin in range(0, len(waveform) - 399, 320):
        part = waveform[begin : begin + 400] * window
        power = [abs((part * np.exp(-2j * np.pi * bin * time / 1024)).sum()) ** 2 for bin in range(513)]
        row = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            energy = 0.0
            for bin in range(513):
                hertz = bin * 16000 / 1024
                if low < hertz <= middle:
                    energy += power[bin] * (hertz - low) / (middle - low)
                elif middle < hertz < high:
                    energy += power[bin] * (high - hertz) / (high - middle)
            row.append(math.log(energy + 1e-3))
        rows.append(row)
    table = np.array(rows)
    for band in range(bands):
        table[:, band] -= table[:, band].mean()
        table[:, band] /= math.sqrt((table[:, band] ** 2).mean()) + 0.1
    return table


def test_the_targets_are_log_mel_energies_as_a_loop_computes_them() -> None:
    waveform = speechlike(3, 0.3).astype(np.float32)
    np.testing.assert_allclose(energies(torch.from_numpy(waveform)).numpy(), slow_log_mel(waveform), atol=2e-4)


def test_the_targets_are_those_of_the_spectrogram_of_transformers() -> None:
    waveform = speechlike(4, 2.0)
    waveform = (waveform - waveform.mean()) / waveform.std()
    filters = mel_filter_bank(513, 80, 60, 7600, 16000, norm=None, mel_scale="htk")
    padded = np.pad(waveform, (0, 1024))  # its frames are as long as its transform, with the window at their beginning
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400), (0, 624))
    theirs = np.log(
        spectrogram(padded, window, 1024, 320, power=2, center=False, mel_filters=filters, mel_floor=0) + 1e-3
    )
    theirs = theirs[:, : (len(waveform) - 400) // 320 + 1]
    theirs = (theirs - theirs.mean(1, keepdims=True)) / (theirs.std(1, keepdims=True) + 0.1)
    np.testing.assert_allclose(energies(torch.from_numpy(waveform).float()).T.numpy(), theirs, atol=2e-3)


def test_neither_padding_nor_loudness_nor_a_neighbour_changes_the_targets() -> None:
    made = LogMelEnergies(400, 320)
    clips = [torch.from_numpy(speechlike(n, 0.4 + 0.3 * n)).float() for n in range(3)]
    samples = torch.tensor([len(clip) for clip in clips] + [0])
    batch = torch.full((4, 20_000), 9.0)  # what stands in padding does not matter
    for row, clip in zip(batch, clips, strict=False):
        row[: len(clip)] = clip
    frames = ((samples - 400) // 320 + 1).clamp(min=0)
    together = made(batch, samples, frames)
    assert together.shape[1] == (20_000 - 400) // 320 + 1
    for row, clip, count in zip(together, clips, frames.tolist(), strict=False):
        torch.testing.assert_close(row[:count], energies(clip), atol=1e-4, rtol=0)
        torch.testing.assert_close(energies(7 * clip + 1), energies(clip), atol=1e-3, rtol=0)
        assert not row[count:].any()
        assert abs(float(row[:count].mean())) < 1e-5 and 0.5 < float(row[:count].std()) < 1.0
    assert not together[3].any() and bool(made(torch.zeros(1, 4000), *torch.tensor([[4000], [12]])).isfinite().all())


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("audio") / "clips", LENGTHS)


def warm(folder: Path, audio: Path, updates: int = WARM, **overrides: Any) -> dict[str, Any]:
    """A run of twelve updates, the first of them a warm start, over clips of unequal lengths."""
    defaults = {
        "run__updates": 12,
        "run__log_every": 1,
        "data__seconds_per_batch": 2.4,
        "data__seconds_per_update": 6.0,
    }
    values = recipe(folder, audio, **(defaults | overrides))
    return values | {"warm_start": {"updates": updates, "learning_rate": 1e-2}}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [line for line in log(folder) if line["kind"] == "training"]


def moves_in_a_warm_start(name: str) -> bool:
    return name.startswith(("wav2vec2.feature_extractor.", "wav2vec2.feature_projection.layer_norm."))


@pytest.mark.slow
def test_the_convolutions_learn_and_nothing_else_moves(audio: Path, tmp_path: Path) -> None:
    """Weight decay, LayerDrop and dropout are on; the start is that of a run of the same seed without a warm start."""
    config = {"model__config": {"layerdrop": 0.3, "hidden_dropout": 0.1}}
    values = warm(tmp_path / "run", audio, 30, run__updates=31, run__save_every=30, **config)
    train_and_record(values)
    folder = tmp_path / "run"
    errors = [line["log_mel_error"] for line in lines(folder)[:30]]
    assert errors[0] > 1.0 and errors[-1] < 0.75 * errors[0]
    before = torch.load(folder / "recorded-0.pt")[0]["start"]
    after = load_file(folder / "checkpoints" / "update-00000030" / "model.safetensors")
    assert after.keys() == {name for name in before if "log_mel_head" not in name}
    for name, weight in after.items():
        assert torch.equal(weight, before[name]) != moves_in_a_warm_start(name), name
    torch.manual_seed(1)
    plain = Wav2Vec2ForPreTraining(Wav2Vec2Config.from_pretrained(folder / "model")).state_dict()
    assert_same({name: tensor for name, tensor in before.items() if name in plain}, plain)


@pytest.mark.slow
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_figure_is_the_mean_over_real_frames_and_bands(
    audio: Path, tmp_path: Path, clip_norm: float | None
) -> None:
    """Whatever an update is cut into, down to single clips; nor does the length of its gradient depend on that."""
    cuts = (100.0, 2.4, 1.1)
    for seconds in cuts:
        cut: dict[str, Any] = {
            "data__max_seconds": 1.1,
            "data__seconds_per_batch": seconds,
            "optimizer__clip_norm": clip_norm,
        }
        train_and_record(warm(tmp_path / str(seconds), audio, **cut))
    parts = [[len(one["counted"]) for one in torch.load(tmp_path / str(cut) / "recorded-0.pt")] for cut in cuts]
    assert set(parts[0]) == {1} and min(parts[1]) > 1 and min(parts[2]) > max(parts[1])
    whole, *others = (lines(tmp_path / str(seconds)) for seconds in cuts)
    for one, other in ((one, other) for lines_of in others for one, other in zip(whole, lines_of, strict=True)):
        for figure in one.keys() & {"log_mel_error", "gradient_norm", "contrastive", "penalty", "accuracy"}:
            assert other[figure] == pytest.approx(one[figure], rel=2e-4), figure


@pytest.mark.slow
def test_the_objective_begins_with_its_own_first_update(audio: Path, tmp_path: Path) -> None:
    """Temperature, schedule and count of updates; its figures appear with it, and evaluations too."""
    valid = write_clips(tmp_path / "valid", [0.7, 0.9], 100)
    config = {"gumbel_temperature_decay": 0.5}
    values = warm(tmp_path / "run", audio, run__evaluate_every=3, model__config=config)
    values["data"]["valid"] = [{"path": str(valid)}]
    train(values)
    folder = tmp_path / "run"
    figures = lines(folder)
    assert [set(line) & {"log_mel_error", "loss", "accuracy"} for line in figures] == (
        [{"log_mel_error"}] * WARM + [{"loss", "accuracy"}] * 6
    )
    assert [line["temperature"] for line in figures[WARM:]] == [2.0, 1.0, *[0.5] * 4]
    assert [line["learning_rate"] for line in figures[WARM:]] == pytest.approx(
        [1e-3 * factor for factor in (0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3)]
    )
    assert [line["learning_rate"] for line in figures[:WARM]] == pytest.approx([1e-2 * (1 - n / 6) for n in range(6)])
    assert [line["update"] for line in log(folder) if line["kind"] == "evaluation"] == [9, 12]
    config = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
    assert (config["pretraining_updates"], config["architectures"]) == (6, ["Wav2Vec2ForPreTraining"])
    assert not [name for name in weights(folder) if "log_mel" in name]
    write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Log-mel error (warm start)" in page and "wav2vec 2.0 pretraining" in page


@pytest.mark.slow
def test_a_line_never_mixes_the_two(audio: Path, tmp_path: Path) -> None:
    """One is written where the objective takes over, whatever `run.log_every`."""
    train(warm(tmp_path / "run", audio, run__log_every=4))
    assert [(line["update"], "log_mel_error" in line) for line in lines(tmp_path / "run")] == [
        (4, True),
        (6, True),
        (8, False),
        (12, False),
    ]


@pytest.mark.slow
def test_what_the_objective_has_learnt_with_its_optimizer_alone(audio: Path, tmp_path: Path) -> None:
    """After its first update, Adam has taken one step of every parameter: nothing is left of the warm start."""
    train(warm(tmp_path / "run", audio, run__updates=WARM + 1))
    tensors, numbers = optimizer(tmp_path / "run")
    steps = {name: float(tensor) for name, tensor in tensors.items() if name.endswith("/step")}
    assert set(steps.values()) == {1.0} and "quantizer.codevectors/step" in steps
    assert not [name for name in (*tensors, *json.loads(numbers["numbers"])) if "log_mel" in name]


def test_a_warm_start_is_refused_where_it_makes_no_sense(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(RunConfigError, match=r"warm_start\.updates=12: must be below run\.updates=12"):
        from_dict(PretrainRun, warm(tmp_path / "run", audio, 12))
    continued = warm(tmp_path / "run", audio) | {"model": {"checkpoint": "facebook/wav2vec2-base"}}
    with pytest.raises(RunConfigError, match=r"warm_start\.updates=6: goes with a fresh model"):
        from_dict(PretrainRun, continued)
    with pytest.raises(RunConfigError, match=r"centred_codebooks=true: goes with a fresh model"):
        from_dict(PretrainRun, continued | {"centred_codebooks": True})
    with pytest.raises(StartError, match="trains the convolutions, which model.config.feature_grad_mult=0 freezes"):
        train(warm(tmp_path / "run", audio, model__config={"feature_grad_mult": 0.0}))


@pytest.mark.slow
def test_in_bfloat16_it_learns_too(audio: Path, tmp_path: Path) -> None:
    train(warm(tmp_path / "run", audio, 20, run__precision="bf16", run__updates=21))
    errors = [line["log_mel_error"] for line in lines(tmp_path / "run")[:20]]
    assert errors[-1] < 0.85 * errors[0]


def test_a_number_that_is_not_finite_stops_it_and_is_traced(audio: Path, tmp_path: Path) -> None:
    spoilt = "wav2vec2.feature_extractor.conv_layers.1.conv.weight"
    with pytest.raises(NonFiniteError, match=r"update 4: log_mel_error=.* It comes from .*conv_layers\.1"):
        train_with_infinity(warm(tmp_path / "run", audio), 3, spoilt)


@pytest.mark.slow
def test_its_length_cannot_change_under_way(audio: Path, tmp_path: Path) -> None:
    train(warm(tmp_path / "run", audio, run__updates=7, run__save_every=3, run__keep_last=9))
    with pytest.raises(StartError, match="warm_start.updates=9: .* has its warm start behind it"):
        train(warm(tmp_path / "run", audio, 9))


def test_without_a_warm_start_the_learning_rate_is_the_schedules(audio: Path, tmp_path: Path) -> None:
    run_of = from_dict(PretrainRun, recipe(tmp_path / "run", audio))
    assert [learning_rate(run_of, update) for update in range(4)] == [0.0, 5e-4, 1e-3, 5e-4]


@pytest.mark.slow
def test_centred_codebooks_start_around_zero(audio: Path, tmp_path: Path) -> None:
    starts = []
    for centred in (False, True):
        values = recipe(tmp_path / str(centred), audio, run__updates=1) | {"centred_codebooks": centred}
        train_and_record(values)
        starts.append(torch.load(tmp_path / str(centred) / "recorded-0.pt")[0]["start"])
    for name, tensor in starts[0].items():
        assert torch.equal(starts[1][name], tensor - 0.5 * (name == "quantizer.codevectors")), name
    assert -0.5 <= float(starts[1]["quantizer.codevectors"].min()) < -0.4


def interrupted(root: Path, folder: Path, **overrides: Any) -> dict[str, Any]:
    """Checkpoints inside the warm start (update 4), at its end (6) and after it (8)."""
    defaults: dict[str, Any] = {"run__save_every": 2, "run__keep_last": 1, "run__log_every": 3, "data__workers": 1}
    return warm(folder, root / "files", **(defaults | {"model__config": RANDOM} | overrides))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips as files, and as rows of parquet shards."""
    folder = tmp_path_factory.mktemp("interrupted")
    write_clips(folder / "files", LENGTHS)
    write_shards(folder / "shards", LENGTHS)
    return folder


@pytest.fixture(scope="module")
def straight(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(interrupted(root, tmp_path_factory.mktemp("straight") / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("update", [5, 6, 9], ids=["inside", "at its end", "after it"])
def test_killed_and_resumed_it_is_bit_equal(update: int, root: Path, straight: Path, tmp_path: Path) -> None:
    values = interrupted(root, tmp_path / "broken")
    broken = killed_after(values, update)
    saved = last_checkpoint(broken)
    assert saved.name == f"update-{update // 2 * 2:08d}"
    assert (saved / "training_state" / "weights.safetensors").is_file() == (update < WARM)
    assert not [name for name in weights(broken) if "log_mel" in name]
    run(values)
    assert_same_run(straight, broken)


@pytest.mark.slow
def test_with_a_moving_average_it_is_bit_equal_too(root: Path, tmp_path: Path) -> None:
    """Both are kept in checkpoints: what training goes on from, and the average, which never knows the head."""
    straight = run(interrupted(root, tmp_path / "straight", run__ema=0.9))
    values = interrupted(root, tmp_path / "broken", run__ema=0.9)
    broken = killed_after(values, 5)
    assert not [name for name in weights(broken) if "log_mel" in name]
    run(values)
    assert_same_run(straight, broken)


def test_an_evaluation_that_is_made_up_for_after_it_leaves_a_checkpoint_to_go_on_from(
    audio: Path, tmp_path: Path
) -> None:
    """Told to stop in update 8, when one is due; resumed, it is evaluated and saved before any update is begun."""
    write_clips(tmp_path / "valid", [0.7, 0.9], 100)
    values = warm(tmp_path / "run", audio, run__evaluate_every=8)
    values["data"]["valid"] = [{"path": str(tmp_path / "valid")}]
    train_until(values, 7, signal.SIGTERM)
    assert not [line for line in log(tmp_path / "run") if line["kind"] == "evaluation"]
    with pytest.raises(ZeroDivisionError), patch.object(Updater, "__call__", lambda *_: 1 / 0):
        train(values)
    saved = last_checkpoint(tmp_path / "run")
    assert saved.name == "update-00000008" and not (saved / "training_state" / "weights.safetensors").is_file()
    train(values)
    assert [line["update"] for line in log(tmp_path / "run") if line["kind"] == "evaluation"] == [8, 12]


@pytest.mark.slow
def test_a_stream_killed_on_two_processes_inside_the_warm_start_is_bit_equal(root: Path, tmp_path: Path) -> None:
    shards = [{"path": str(root / "shards" / "*.parquet"), "streaming": True}]
    folders = []
    for name in ("straight", "broken"):
        values = interrupted(root, tmp_path / name, data__train=shards, data__stream_pool=8)
        if name == "broken":
            killed_after(values, 5, processes=2)
        folders.append(run(values, 2))
    assert_same_run(*folders)


@pytest.mark.slow
def test_a_process_more_changes_nothing(audio: Path, tmp_path: Path) -> None:
    """DDP waits for no gradient that never comes; weights in pieces (FSDP2) give the same."""
    calm: dict[str, Any] = {"model__config": CALM | {"layerdrop": 0.3}, "optimizer__clip_norm": 0.5}
    alone = run(warm(tmp_path / "alone", audio, **calm), 1, "train_and_record")
    for name, work in (("two", "train_and_record"), ("sharded", "train_sharded")):
        two = run(warm(tmp_path / name, audio, **calm), 2, work)
        assert_same(weights(alone), weights(two), 1e-5)
        for one, other in zip(lines(alone), lines(two), strict=True):
            assert one.keys() == other.keys()
            for figure in one.keys() - {"padding_share", "kind"}:
                assert other[figure] == pytest.approx(one[figure], rel=1e-5, abs=1e-5), figure
