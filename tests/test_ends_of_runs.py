"""How commands end that do not come to their end: stopped, out of memory, or unable to start on several processes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import warm_processes
from finetuning_runs import labelled_recipe, write_labelled
from pretraining_runs import recipe, write_clips
from transformers.utils import is_flash_attn_2_available
from yaml import safe_dump

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.training import memory_errors
from wav2vec2.training.memory_errors import MemoryTooSmallError, advice, explained_memory, is_memory_error
from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import PretrainRun


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips."""
    return write_clips(tmp_path_factory.mktemp("audio"), [0.6, 0.7, 0.8])


def server() -> warm_processes.Server:
    return warm_processes.server("launched_commands")


def written(folder: Path, audio: Path, **overrides: Any) -> str:
    """A recipe of four updates as a file, a checkpoint every two."""
    values = recipe(folder / "run", audio, run__save_every=2, data__seconds_per_update=2.0, **overrides)
    path = folder / "recipe.yaml"
    path.write_text(safe_dump(values), encoding="utf-8")
    return str(path)


# --- stopped -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_command_says_by_which_signal(number: signal.Signals, audio: Path, tmp_path: Path) -> None:
    """So that a scheduler does not take it for done; the same command then ends well, with 0."""
    file, log = written(tmp_path, audio), tmp_path / "said"
    stopped = server().start(log, "launched_commands:stopped_command", 1, int(number), "pretrain", file)
    assert stopped.wait() == 128 + number, stopped.said()
    assert f"stopped as asked ({number.name})" in stopped.said() and not (tmp_path / "run" / "model").exists()
    resumed = server().start(log, "launched_commands:command", "pretrain", file)
    assert resumed.wait() == 0, resumed.said()
    assert (tmp_path / "run" / "model" / "config.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_of_a_run_saves_it(number: signal.Signals, audio: Path, tmp_path: Path) -> None:
    """As a terminal and a batch system send it: to workers and their fork server as well. It is answered at once."""
    command = [str(Path(sys.executable).with_name("wav2vec2")), "pretrain", written(tmp_path, audio)]
    often = ["run.updates=100000", "run.save_every=100000", "run.log_every=1", "data.workers=2"]
    process = subprocess.Popen([*command, *often], stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    with process.stderr as said:
        while not said.readline().startswith("update 3/"):
            assert process.poll() is None
        os.killpg(process.pid, number)
        rest = said.read()
    assert process.wait(60) == 128 + number, rest
    asked, stopped = re.findall(r"^SIG.*|^stopped as asked.*", rest, re.MULTILINE)
    assert re.fullmatch(
        rf"{number.name}: finishing the update at hand, then saving; again to end at once and lose \d+ updates", asked
    )
    update = int(stopped.removeprefix(f"stopped as asked ({number.name}) after update ").removesuffix(", all saved"))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"update-{update:08d}"]


@pytest.mark.slow
def test_stopped_in_its_last_update_a_command_is_done(audio: Path, tmp_path: Path) -> None:
    file = written(tmp_path, audio)
    process = server().start(
        tmp_path / "said", "launched_commands:stopped_command", 3, int(signal.SIGTERM), "pretrain", file
    )
    assert process.wait() == 0, process.said()
    assert (tmp_path / "run" / "model" / "config.json").is_file()


@pytest.mark.slow
def test_below_an_agent_of_torchrun_a_stop_is_no_crash(audio: Path, tmp_path: Path) -> None:
    """It would end the other processes, which are still saving."""
    work = ("launched_commands:stopped_command", 1, int(signal.SIGTERM), "pretrain", written(tmp_path, audio))
    started = server().start_many(2, tmp_path / "said", *work, TORCHELASTIC_RUN_ID="none")
    assert [process.wait() for process in started] == [0, 0], [process.said() for process in started]
    assert "stopped as asked (SIGTERM)" in started[0].said()


# --- out of memory -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_too_little_memory_names_the_setting_and_keeps_the_checkpoint(audio: Path, tmp_path: Path) -> None:
    file, log = written(tmp_path, audio), tmp_path / "said"
    process = server().start(log, "launched_commands:command_out_of_memory", 3, "pretrain", file)
    assert process.wait() == 1
    said = process.said()
    assert "out of memory after update 3" in said and "Traceback" not in said
    assert "data.seconds_per_batch=100 is" in said and "such as data.seconds_per_batch=50:" in said
    kept = tmp_path / "run" / "checkpoints" / "update-00000002"
    assert f"{kept} is kept" in said and kept.is_dir()
    resumed = server().start(log, "launched_commands:command", "pretrain", file, "data.seconds_per_batch=50")
    assert resumed.wait() == 0 and "going on after update 2" in resumed.said()


def run_of(tmp_path: Path, **overrides: Any) -> PretrainRun:
    return from_dict(PretrainRun, recipe(tmp_path / "run", tmp_path, **overrides))


def test_which_errors_are_of_memory() -> None:
    assert is_memory_error(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_memory_error(MemoryError())
    assert is_memory_error(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert is_memory_error(caught.value)
    assert not is_memory_error(RuntimeError("shapes do not match"))
    assert not is_memory_error(ValueError("out of memory"))


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    checkpoints, state = Checkpoints(tmp_path / "checkpoints"), SimpleNamespace(update=4)
    fault = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError) as caught, explained_memory(run_of(tmp_path), checkpoints, state):  # type: ignore[arg-type]
        raise fault
    assert caught.value is fault
    with (
        pytest.raises(MemoryTooSmallError, match=r"after update 4: MemoryError\n.*\n  no checkpoint was written"),
        explained_memory(run_of(tmp_path), checkpoints, state),  # type: ignore[arg-type]
    ):
        raise MemoryError


def test_what_is_advised_can_be_typed(tmp_path: Path) -> None:
    """Whatever it names is a valid run that holds less."""
    for held in (100.0, 3.0, 2.0):
        run = run_of(tmp_path, data__seconds_per_batch=held)
        told = advice(run)
        assert f"data.seconds_per_batch={held:g}" in told
        found = re.search(r"such as data.seconds_per_batch=([\d.]+):", told)
        if held == 2.0:  # the longest clip
            assert found is None and "lower data.max_seconds=2" in told
        else:
            assert found is not None and float(found[1]) == max(held / 2, 2.0)
            assert run_of(tmp_path, data__seconds_per_batch=float(found[1])).data.seconds_per_batch < held
    assert "run.gradient_checkpointing=true and run.precision=bf16 need less" in told
    calm = run_of(tmp_path, run__gradient_checkpointing=True, run__precision="bf16")
    assert memory_errors.advice(calm).endswith("stays the same")


# --- unable to start -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("run.sed=3", "cannot be started (1 to correct)"),  # before the processes know of each other
        ("data.train.0.path=absent", "absent"),  # found by the main process, for which the others wait
        ("model.checkpoint=./absent", "./absent: no such folder, nor a name on the Hub"),
    ],
)
def test_several_processes_say_once_why_they_cannot_start(
    override: str, expected: str, audio: Path, tmp_path: Path
) -> None:
    more = ["model.preset=null"] if override.startswith("model") else []
    work = ("launched_commands:command", "pretrain", written(tmp_path, audio), override, *more)
    started = server().start_many(2, tmp_path / "said", *work)
    assert started[0].wait() == 1 and expected in started[0].said(), started[0].said()
    assert started[1].wait(0.2) is None  # a launcher ends it; else it leaves by itself
    started[1].kill(signal.SIGTERM)
    started[1].wait()
    assert "pretrain" not in started[1].said(), started[1].said()


# --- the checkpoint to start from ----------------------------------------------------------------------------------


def test_a_wrong_checkpoint_is_found_before_any_audio_is(tmp_path: Path) -> None:
    """The audio is not there either, and nobody notices."""
    from wav2vec2.modeling.loading import CheckpointError
    from wav2vec2.training import classification, finetuning, pretraining
    from wav2vec2.training.settings.run_config import FinetuneRun

    model = {"checkpoint": str(tmp_path / "absent")}
    data, run = {"train": [{"path": str(tmp_path / "nothing.tsv")}]}, {"output": str(tmp_path / "run")}
    values = {"model": model, "data": data, "run": run}
    with pytest.raises(CheckpointError, match="absent: no such folder, nor a name on the Hub"):
        pretraining.pretrain(from_dict(PretrainRun, values))
    with pytest.raises(CheckpointError, match="absent: no such folder, nor a name on the Hub"):
        finetuning.finetune(from_dict(FinetuneRun, values))
    given = [
        f"model.checkpoint={tmp_path}/absent",
        f"data.train.0.path={tmp_path}/nothing.tsv",
        f"run.output={tmp_path}",
    ]
    with pytest.raises(CheckpointError, match="absent: no such folder, nor a name on the Hub"):
        classification.classify(classification.read_classification("clips", given))


def test_what_a_run_names_is_looked_at_first_and_named(tmp_path: Path) -> None:
    """By field and value, not in the words of the system alone; before the audio, which is not there."""
    from wav2vec2.training import finetuning, pretraining
    from wav2vec2.training.data.audio_clips import TrainingDataError
    from wav2vec2.training.run_output import StartError
    from wav2vec2.training.settings.run_config import FinetuneRun

    (tmp_path / "file").write_text("", encoding="utf-8")
    for taken in ("file", "file/run"):
        told = rf"run.output={tmp_path}/{taken}: cannot be written to \((File exists|Not a directory)\); give another"
        values = recipe(tmp_path / taken, tmp_path / "absent")
        with pytest.raises(StartError, match=told):
            pretraining.pretrain(from_dict(PretrainRun, values))
    values = recipe(tmp_path / "run", tmp_path / "absent", run__attention="flash_attention_2")
    if not is_flash_attn_2_available():
        with pytest.raises(
            StartError, match="run.attention=flash_attention_2: the package flash-attn is not installed"
        ):
            pretraining.pretrain(from_dict(PretrainRun, values))
    values = recipe(tmp_path / "run", tmp_path / "absent")
    with pytest.raises(TrainingDataError, match=rf"data.train.0: {tmp_path}/absent: nothing there"):
        pretraining.pretrain(from_dict(PretrainRun, values))
    manifest = write_labelled(tmp_path / "audio", [0.5, 0.6])
    values = labelled_recipe(tmp_path / "run", manifest, tmp_path / "absent.tsv")
    with pytest.raises(TrainingDataError, match=rf"data.valid.0: {tmp_path}/absent.tsv: nothing there"):
        finetuning.finetune(from_dict(FinetuneRun, values))
    values = labelled_recipe(tmp_path / "run", manifest, text__vocabulary=str(tmp_path / "absent.json"))
    with pytest.raises(OSError, match=rf"text.vocabulary={tmp_path}/absent.json: no such"):
        finetuning.finetune(from_dict(FinetuneRun, values))
    values = labelled_recipe(tmp_path / "run", manifest, text__vocabulary="absent")  # nor is the Hub asked
    with pytest.raises(OSError, match=r"text.vocabulary=absent: no such file or folder"):
        finetuning.finetune(from_dict(FinetuneRun, values))


def test_what_is_no_checkpoint_is_told_from_what_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from small_models import small_config

    from wav2vec2 import Wav2Vec2ForPreTraining
    from wav2vec2.modeling.loading import CheckpointError
    from wav2vec2.training.model_making import checkpoint_config, layout_notes, require_checkpoint
    from wav2vec2.training.settings.run_config import ModelSection

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "run" / "model"
    Wav2Vec2ForPreTraining(small_config()).save_pretrained(folder)
    require_checkpoint(ModelSection(checkpoint=str(folder)))
    require_checkpoint(ModelSection(preset="tiny"))
    for name, told in {
        str(tmp_path / "run"): f"the folder has no config.json and no model.safetensors; did you mean {folder}?",
        str(folder / "config.json"): "is a file; give the folder",
        "nobody/nothing-of-the-kind": "no such folder, and as a name on the Hub it cannot be loaded: ",
    }.items():
        with pytest.raises(CheckpointError, match=re.escape(told)):
            require_checkpoint(ModelSection(checkpoint=name))
    with pytest.raises(ValueError, match="mask_time_prob"):
        require_checkpoint(ModelSection(checkpoint=str(folder), config={"mask_time_prob": -0.5}))
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"the folder has no model\.safetensors$"):
        require_checkpoint(ModelSection(checkpoint=str(folder)))
    asked = {"do_stable_layer_norm": True, "num_attention_heads": 4, "conv_stride": [5, 2, 2, 2, 2, 2, 2]}
    section = ModelSection(checkpoint=str(folder), config=asked | {"layerdrop": 0.25})
    config: Wav2Vec2Config = checkpoint_config(section, vocab_size=7)
    assert (config.do_stable_layer_norm, config.layerdrop, config.vocab_size) == (False, 0.25, 7)
    assert layout_notes(section, config) == [
        "model.config.do_stable_layer_norm=True is not used: the checkpoint was trained with False"
    ]
    assert layout_notes(ModelSection(preset="tiny", config=asked), config) == []
