"""The moving average of weights: the formula, what is evaluated and saved, and that training knows nothing of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from accelerate.utils import DistributedType, set_seed
from finetuning_runs import killed_after, labelled_recipe, run, train, write_labelled
from pretraining_runs import assert_same, assert_same_run, last_checkpoint, log, recipe, write_clips
from pretraining_runs import run as pretraining
from safetensors.torch import load_file
from torch import Tensor, nn
from update_layouts import LAYOUTS, LENGTHS

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.training.finetuning import prepare_finetuning
from wav2vec2.training.progress.training_log import read_log
from wav2vec2.training.run_output import StartError, held_output
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import FinetuneRun
from wav2vec2.training.starting import make_accelerator, prepare, started
from wav2vec2.training.weight_average import WeightAverage

DECAY = 0.3
UPDATES = 5


def decay_at(update: int) -> float:
    return min(DECAY, (1 + update) / (10 + update))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 0.9 to 1.3 seconds."""
    return write_labelled(tmp_path_factory.mktemp("labelled") / "clips", LENGTHS)


def averaged(folder: Path, labelled: Path, layout: str = "1 x 8", **overrides: Any) -> dict[str, Any]:
    """Five updates, the first two of the head alone; all are evaluated, saved and kept."""
    often = {name: 1 for name in ("run__log_every", "run__evaluate_every", "run__save_every")}
    defaults: dict[str, Any] = {"run__ema": DECAY, "run__updates": UPDATES, "run__keep_last": 20, **often}
    defaults |= {"data__seconds_per_batch": LAYOUTS[layout][1], "optimizer__epsilon": 1e-6}
    defaults |= {"tuning__freeze_updates": 2, "data__bucket_updates": 1}
    return labelled_recipe(folder, labelled, labelled, **(defaults | overrides))


def saved(folder: Path, name: str = "model.safetensors") -> list[dict[str, Tensor]]:
    """A file of each checkpoint, oldest first."""
    return [load_file(path) for path in sorted((folder / "checkpoints").glob(f"update-*/{name}"))]


def raw(folder: Path) -> list[dict[str, Tensor]]:
    return saved(folder, "training_state/raw_weights.safetensors")


@pytest.fixture(scope="module")
def kept(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that keeps an average."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    train(averaged(folder, labelled))
    return folder


# --- the average ---------------------------------------------------------------------------------------------------


def test_the_average_is_the_formula_number_by_number() -> None:
    """Over updates of which one is skipped; what is frozen is not there."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    trained = {name: one for name, one in model.named_parameters() if not name.startswith("0.")}
    average = WeightAverage(model, trained, 0.25)
    assert average.tensors.keys() == {"1.weight", "1.bias"}
    expected = {name: one.double().flatten().tolist() for name, one in trained.items()}
    for update in range(8):
        with torch.no_grad():
            for one in model.parameters():
                one.add_(torch.randn_like(one))
        average.follow(update, torch.tensor(update != 3))
        decay = min(0.25, (1 + update) / (10 + update)) if update != 3 else 1.0
        for name, one in trained.items():
            pairs = zip(expected[name], one.flatten().tolist(), strict=True)
            expected[name] = [decay * before + (1 - decay) * now for before, now in pairs]
            assert average.tensors[name].dtype == torch.float32
            assert average.tensors[name].flatten().tolist() == pytest.approx(expected[name], rel=1e-6, abs=1e-6)


def test_a_skipped_update_leaves_every_bit() -> None:
    model = nn.Linear(50, 50)
    average = WeightAverage(model, dict(model.named_parameters()), 0.9)
    before = {name: one.clone() for name, one in average.tensors.items()}
    with torch.no_grad():
        model.weight.normal_()
    average.follow(100, torch.tensor(False))
    assert_same(average.tensors, before)


def test_weights_and_average_change_places_and_back() -> None:
    """Bit by bit, also if what is done in between fails."""
    model = nn.Linear(50, 50)
    average = WeightAverage(model, dict(model.named_parameters()), 0.9)
    with torch.no_grad():
        model.weight.normal_()
    weights = {name: one.clone() for name, one in model.state_dict().items()}
    averages = {name: one.clone() for name, one in average.tensors.items()}
    with pytest.raises(KeyError), average.in_the_model():
        assert_same(model.state_dict(), averages)
        raise KeyError
    assert_same(model.state_dict(), weights)
    assert_same(average.tensors, averages)


# --- in a run ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_knows_nothing_of_the_average(kept: Path, labelled: Path, tmp_path: Path) -> None:
    """The weights are those of the run without it at every update, whatever is evaluated in between; the average in
    the model's file is that of these weights, and what is not trained is as it was."""
    train(averaged(tmp_path / "plain", labelled, run__ema=None))
    plain, now, average = saved(tmp_path / "plain"), raw(kept), saved(kept)
    assert not list((tmp_path / "plain").rglob("raw_weights.safetensors"))
    trained = {name for name in plain[0] if "feature_extractor" not in name}
    assert now[0].keys() == trained and average[0].keys() == plain[0].keys()
    set_seed(1)  # as the run does
    start = prepare_finetuning(from_dict(FinetuneRun, averaged(tmp_path / "start", labelled))).model.state_dict()
    expected = {name: one.double() for name, one in start.items()}
    for update in range(UPDATES):
        assert_same(now[update], {name: plain[update][name] for name in trained})
        assert all(torch.equal(average[update][name], start[name]) for name in start.keys() - trained)
        decay = decay_at(update)
        expected |= {name: decay * expected[name] + (1 - decay) * plain[update][name].double() for name in trained}
        assert_same(average[update], expected, 1e-6)
    assert any((average[-1][name] - plain[-1][name]).abs().max() > 1e-4 for name in trained)
    without = [line for line in log(tmp_path / "plain") if line["kind"] == "training"]
    assert [line for line in log(kept) if line["kind"] == "training"] == without


@pytest.mark.slow
def test_what_is_evaluated_is_the_model_that_is_saved(kept: Path, labelled: Path, tmp_path: Path) -> None:
    """Its figures are those of the model that anybody loads; and that is what stock loads."""
    told = [line for line in log(kept) if line["kind"] == "evaluation"]
    for checkpoint, line in zip(sorted((kept / "checkpoints").iterdir()), told, strict=True):
        values = averaged(tmp_path / checkpoint.name, labelled, run__ema=None)
        values["model"] = {"checkpoint": str(checkpoint), "config": {}}
        plain = from_dict(FinetuneRun, values)
        accelerator = make_accelerator("fp32")
        with held_output(plain, accelerator, resume=True) as output:
            ready = prepare_finetuning(plain, output)
            with started(plain, accelerator, output, ready.model, ready.task, ready.data, [ready.processor]) as loop:
                loop.evaluate()
        for name in ("loss", "wer", "cer", "blank_share"):
            assert loop.state.metrics[name] == pytest.approx(line[name], rel=1e-6), name
    best = min(told, key=lambda line: (line["wer"], -line["update"]))
    assert_same(load_file(kept / "model" / "model.safetensors"), saved(kept)[best["update"] - 1])
    ours = Wav2Vec2ForCTC.from_pretrained(kept / "model").eval()
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(kept / "model").eval()
    clip = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(clip).logits, stock(clip).logits, atol=1e-5, rtol=1e-5)
    assert log(kept)[0]["weights"] == "moving average with decay 0.3"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_it_is_the_same_average(labelled: Path, tmp_path: Path, processes: int) -> None:
    """Killed in update 8, after the checkpoint of update 6 and an evaluation."""

    def long(name: str) -> dict[str, Any]:
        seldom = {"run__updates": 12, "run__save_every": 3, "run__evaluate_every": 7, "run__keep_best": 0}
        return averaged(tmp_path / name, labelled, "1 x 2 x 4", **seldom)

    whole = run(long("whole"), processes)
    resumed = killed_after(long("resumed"), 8, processes)
    assert last_checkpoint(resumed).name == "update-00000006" and read_log(resumed)[-1]["update"] >= 7
    run(long("resumed"), processes)
    assert_same_run(whole, resumed)
    assert_same(raw(whole)[-1], raw(resumed)[-1])


@pytest.mark.slow
def test_the_average_is_the_same_on_any_number_of_processes(kept: Path, labelled: Path, tmp_path: Path) -> None:
    """In parts, over two processes, and in pieces, with FSDP2 told to keep what it has put together for a forward pass:
    with the weights of an evaluation nothing must be trained. Evaluated after every update, saved at the end."""
    late = {"run__save_every": 1000, "run__keep_best": 0}
    folders = [
        run(averaged(tmp_path / "parts", labelled, "1 x 2 x 4", **late)),
        run(averaged(tmp_path / "ddp", labelled, "2 x 2 x 2", **late), 2),
        run(
            averaged(tmp_path / "sharded", labelled, "2 x 2 x 2", **late),
            2,
            "train_sharded",
            FSDP_RESHARD_AFTER_FORWARD="false",
        ),
    ]
    assert log(folders[2])[0]["distributed"] == "fsdp"
    losses = [line["loss"] for line in log(kept) if line["kind"] == "evaluation"]
    for folder in folders:
        assert len(saved(folder)) == len(raw(folder)) == 1
        assert_same(saved(kept)[-1], saved(folder)[0], 1e-5)
        assert_same(raw(kept)[-1], raw(folder)[0], 1e-5)
        assert [line["loss"] for line in log(folder) if line["kind"] == "evaluation"] == pytest.approx(losses, rel=1e-4)


@pytest.mark.slow
def test_a_skipped_update_does_not_count(tmp_path: Path) -> None:
    """In pretraining, gradients are infinite from update 2 (from 0) on: weights and average stay as they are."""
    audio = write_clips(tmp_path / "clips", [0.9, 1.0, 1.1])
    values = recipe(tmp_path / "run", audio, run__ema=0.5, run__save_every=1, run__keep_last=9, run__log_every=1)
    values["guards"]["non_finite"] = False
    folder = pretraining(values, 1, "train_with_infinite_gradient", 2, "quantizer.codevectors")
    assert [line["skipped_updates"] for line in log(folder) if line["kind"] == "training"] == [0, 0, 1, 1]
    for found in (saved(folder), raw(folder)):
        assert_same(found[1], found[2])
        assert_same(found[1], found[3])
        assert any(not torch.equal(one, found[1][name]) for name, one in found[0].items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_is_averaged_as_it_is_trained(labelled: Path, tmp_path: Path) -> None:
    """The additions and the head, which come back when the run goes on; the folder has the average merged."""

    def lora(name: str) -> dict[str, Any]:
        tuning: dict[str, Any] = {"tuning__method": "lora", "tuning__lora_rank": 2, "tuning__freeze_updates": 0}
        return averaged(tmp_path / name, labelled, run__evaluate_every=1000, **tuning)

    whole = run(lora("whole"))
    killed_after(lora("resumed"), 3)
    resumed = run(lora("resumed"))
    assert_same_run(whole, resumed)
    assert_same(raw(whole)[-1], raw(resumed)[-1])
    apart = saved(whole, "training_state/weights.safetensors")
    names = raw(whole)[0].keys()
    assert names and all(".lora_" in name or name.startswith("lm_head") for name in names)
    for update in range(1, UPDATES):
        decay = decay_at(update)
        for name in names:
            expected = decay * apart[update - 1][name] + (1 - decay) * raw(whole)[update][name]
            torch.testing.assert_close(apart[update][name], expected, atol=1e-6, rtol=1e-6)
    assert not any(".lora_" in name for name in saved(whole)[-1])


@pytest.mark.slow
def test_it_can_be_switched_on_and_off_between_two_starts(labelled: Path, tmp_path: Path) -> None:
    """Off: on from the weights, not from their average. On: from then on, and what changed is said."""
    plain = run(averaged(tmp_path / "plain", labelled, run__ema=None))
    killed_after(averaged(tmp_path / "off", labelled), 3)
    run(averaged(tmp_path / "off", labelled, run__ema=None))
    assert_same(saved(tmp_path / "off")[-1], saved(plain)[-1])
    killed_after(averaged(tmp_path / "on", labelled, run__ema=None), 3)
    run(averaged(tmp_path / "on", labelled))
    assert_same(raw(tmp_path / "on")[-1], {name: saved(plain)[-1][name] for name in raw(tmp_path / "on")[-1]})
    decay = decay_at(3)
    for name, now in raw(tmp_path / "on")[-2].items():
        torch.testing.assert_close(saved(tmp_path / "on")[3][name], decay * saved(plain)[2][name] + (1 - decay) * now)
    said = (tmp_path / "on.stderr").read_text(encoding="utf-8")
    assert "changed since the run began: run.ema was None, is 0.3" in said
    assert "evaluated and saved: the moving average with decay 0.3" in said


def test_deepspeed_is_refused(labelled: Path, tmp_path: Path) -> None:
    values = from_dict(FinetuneRun, averaged(tmp_path / "run", labelled))
    accelerator: Any = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED)
    with pytest.raises(StartError, match=r"run\.ema: DeepSpeed .* use DDP or FSDP2"):
        prepare(accelerator, Wav2Vec2ForCTC.__new__(Wav2Vec2ForCTC), values)
