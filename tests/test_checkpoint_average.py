"""`wav2vec2 average`: the plain mean of checkpoints as a whole folder that stock loads, or one line on why not."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate import Accelerator
from checkpointed_runs import TINY
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_models import small_config
from torch import Tensor
from typer.testing import CliRunner

from wav2vec2 import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor
from wav2vec2.command_line.app import app
from wav2vec2.sharing.model_card import CardFacts, write_card_from_files
from wav2vec2.training import checkpoint_average
from wav2vec2.training.checkpoint_average import AverageError, average_checkpoints
from wav2vec2.training.optimization import make_optimizer
from wav2vec2.training.saving import checkpoint_folders
from wav2vec2.training.saving.checkpoints import Checkpoints
from wav2vec2.training.saving.training_state import TrainingState
from wav2vec2.training.settings.run_config import FinetuneOptimizerSection, TuningSection
from wav2vec2.training.tuning_methods import apply_tuning

GAIN = "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0"

#: The error rates after updates 100, 200, 300 and 400.
METRICS = (0.5, 0.3, 0.4, None)


def save_run(folder: Path, tuning: TuningSection | None = None, **config: Any) -> Path:
    """A run of four checkpoints of a recogniser, whose trained weights are moved at random in between."""
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config(**(TINY | {"vocab_size": 5} | config)))
    beside = [] if tuning is None else apply_tuning(model, tuning)
    tokens = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 4}
    extras = [Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), Wav2Vec2CTCTokenizer(tokens)), *beside]
    checkpoints, optimizer = Checkpoints(folder / "checkpoints", 4), make_optimizer(model, FinetuneOptimizerSection())
    for number, metric in enumerate(METRICS, start=1):
        with torch.no_grad():
            for parameter in (one for one in model.parameters() if one.requires_grad):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        state = TrainingState(update=100 * number)
        checkpoints.save(Accelerator(cpu=True), model, optimizer, state, extras, metric)
    valid = [{"path": "dev.tsv"}, {"path": "shards/*.parquet"}]
    run = {"task": "ctc", "run": {"keep_last": 4, "keep_best": 1}, "data": {"valid": valid}}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("untouched") / "run")


@pytest.fixture
def run(untouched: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(untouched, tmp_path / "run"))


def checkpoint(run: Path, update: int) -> Path:
    return run / "checkpoints" / checkpoint_folders.name_of(update)


def plain_mean(run: Path, *updates: int, file: str = "model.safetensors") -> dict[str, Tensor]:
    """The slow version: all at once."""
    states = [load_file(checkpoint(run, update) / file) for update in updates]
    return {name: torch.stack([state[name] for state in states]).double().mean(0).float() for name in states[0]}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert found[name].dtype == one.dtype and torch.equal(found[name], one), name


# --- the mean ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "updates"),
    [
        ({"last": 3}, [200, 300, 400]),
        ({"best": 2}, [200, 300]),
        ({"updates": (400, 100)}, [100, 400]),
    ],
)
def test_each_weight_is_the_plain_mean(choice: dict[str, Any], updates: list[int], run: Path, tmp_path: Path) -> None:
    done = average_checkpoints(run, **choice, output=tmp_path / "mean")
    assert (done.folder, done.updates, done.manifests) == (tmp_path / "mean", updates, ["dev.tsv"])
    expected = plain_mean(run, *updates)
    assert_equal(load_file(tmp_path / "mean" / "model.safetensors"), expected)
    assert not torch.equal(expected[GAIN], load_file(checkpoint(run, updates[-1]) / "model.safetensors")[GAIN])


def test_the_folder_is_a_whole_model_for_both_libraries(run: Path) -> None:
    """Beside the run's own, with all that a checkpoint has but the state of training; the run is left as it was."""
    before = sorted(path for path in run.rglob("*"))
    folder = average_checkpoints(run, last=2).folder
    assert folder == run / "average-last-2"
    assert {path for path in run.rglob("*") if folder not in (path, *path.parents)} == set(before)
    names = {path.name for path in checkpoint(run, 400).iterdir()} - {"training_state"} | {"average.json"}
    assert {path.name for path in folder.iterdir()} == names
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    ours = Wav2Vec2ForCTC.from_pretrained(folder).eval()
    stock, info = transformers.Wav2Vec2ForCTC.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    processor = transformers.Wav2Vec2Processor.from_pretrained(folder)
    assert processor.tokenizer.get_vocab()["b"] == 4
    by_hand = Wav2Vec2ForCTC(ours.config).eval()
    by_hand.load_state_dict(plain_mean(run, 300, 400))
    clip = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = ours(clip).logits
        assert torch.equal(by_hand(clip).logits, logits)
        torch.testing.assert_close(stock.eval()(clip).logits, logits, atol=1e-5, rtol=1e-5)


def test_one_tensor_of_one_checkpoint_is_read_at_a_time(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And precision is kept: bfloat16 means are rounded once; counters are the newest checkpoint's."""
    files = []
    for number in range(3):
        path = run / f"{number}.safetensors"
        save_file({"weight": torch.full((2,), 1.0 + number / 128).bfloat16(), "count": torch.tensor(number)}, path)
        files.append(path)
    read: list[str] = []

    class Counted:
        def __init__(self, path: Path) -> None:
            self.path = path

        def get_tensor(self, name: str) -> Tensor:
            read.append(f"{self.path.stem} {name}")
            found: Tensor = load_file(self.path)[name]
            return found

    counted = [Counted(path) for path in files]
    found = {name: checkpoint_average._mean(counted, name) for name in ("weight", "count")}
    assert found["weight"].dtype == torch.bfloat16 and found["weight"].tolist() == [1 + 1 / 128] * 2
    assert found["count"].item() == 2
    assert read == ["2 weight", "0 weight", "1 weight", "2 count"]


def test_an_adapter_of_a_language_is_the_means(tmp_path: Path) -> None:
    tuning = TuningSection(method="adapter", language="fao")
    run = save_run(tmp_path / "run", tuning, adapter_attn_dim=4, do_stable_layer_norm=True, feat_extract_norm="layer")
    folder = average_checkpoints(run, last=3).folder
    expected = plain_mean(run, 200, 300, 400)
    assert_equal(load_file(folder / "model.safetensors"), expected)
    adapter = load_file(folder / "adapter.fao.safetensors")
    assert "lm_head.weight" in adapter
    assert_equal(adapter, {name: expected[name] for name in adapter})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_is_averaged_apart_and_then_merged(tmp_path: Path) -> None:
    """So that the adapter and the merged model are one."""
    from peft import PeftModel

    run = save_run(tmp_path / "run", TuningSection(method="lora", lora_rank=2, lora_alpha=6.0))
    folder = average_checkpoints(run, last=3).folder
    assert {path.name for path in folder.iterdir()} >= {"lora", "model.safetensors"}
    assert not (folder / "training_state").exists()
    apart = plain_mean(run, 200, 300, 400, file="training_state/weights.safetensors")
    layer = "wav2vec2.encoder.layers.0.attention.q_proj"
    down, up = (apart[f"{layer}.lora_{letter}.default.weight"] for letter in "AB")
    merged = load_file(folder / "model.safetensors")
    torch.testing.assert_close(
        merged[f"{layer}.weight"], apart[f"{layer}.base_layer.weight"] + 3.0 * (up @ down), atol=1e-6, rtol=1e-6
    )
    base = Wav2Vec2ForCTC.from_pretrained(folder)
    originals = {name.replace(".base_layer", ""): one for name, one in apart.items() if ".lora_" not in name}
    base.load_state_dict(originals)
    adapted = PeftModel.from_pretrained(base, folder / "lora").eval()
    clip = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = Wav2Vec2ForCTC.from_pretrained(folder).eval()(clip).logits
        torch.testing.assert_close(adapted(input_values=clip).logits, expected, atol=1e-5, rtol=1e-5)


def test_the_card_says_of_which_updates(run: Path) -> None:
    folder = average_checkpoints(run, best=2).folder
    assert json.loads((folder / "average.json").read_text(encoding="utf-8")) == {"mean_of_updates": [200, 300]}
    (run / "log.jsonl").write_text('{"kind": "run", "weights": "as trained"}\n', encoding="utf-8")
    facts = CardFacts("apache-2.0", languages=("en",))
    for given, told in ((run, "200, 300; each: as trained |"), (None, "200, 300 |")):
        text = write_card_from_files(folder, facts, run=given).read_text(encoding="utf-8")
        assert f"| weights | mean of those after updates {told}" in text


# --- what a run does meanwhile -------------------------------------------------------------------------------------


def test_what_is_deleted_while_it_is_read_is_read_or_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that is at work deletes the oldest: once it is open it is still read; before that it is an error."""
    expected = plain_mean(run, 200, 300, 400)
    real = checkpoint_average._require_one_model

    def deleting(*arguments: Any) -> None:
        real(*arguments)
        shutil.rmtree(checkpoint(run, 200))

    monkeypatch.setattr(checkpoint_average, "_require_one_model", deleting)
    done = average_checkpoints(run, last=3)
    assert_equal(load_file(done.folder / "model.safetensors"), expected)
    assert done.updates == [200, 300, 400]


def test_what_is_deleted_before_it_is_open_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoint_average._chosen

    def deleting(*arguments: Any) -> dict[int, Path]:
        found = real(*arguments)
        shutil.rmtree(found[200])
        return found

    monkeypatch.setattr(checkpoint_average, "_chosen", deleting)
    with pytest.raises(AverageError, match=r"update-00000200: was deleted meanwhile.*raise run\.keep_last"):
        average_checkpoints(run, last=3)
    assert not list(run.glob("*average*"))


def test_a_mean_that_fails_leaves_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint_average, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        average_checkpoints(run, last=3)
    assert not list(run.glob("*average*"))


# --- what has no mean ----------------------------------------------------------------------------------------------


def changed(run: Path, bias: Tensor | None) -> None:
    """A checkpoint with another bias of the head, or none."""
    path = checkpoint(run, 200) / "model.safetensors"
    state: dict[str, Any] = load_file(path) | {"lm_head.bias": bias}
    save_file({name: one for name, one in state.items() if one is not None}, path, {"format": "pt"})
    sealed(path.parent)


def sealed(folder: Path) -> None:
    listed = checkpoint_folders.read_list(folder)
    (folder / "training_state" / "files.json").unlink()
    checkpoint_folders.seal(folder, listed.update, listed.metric)


def other_tokens(run: Path) -> None:
    path = checkpoint(run, 200) / "vocab.json"
    path.write_text(path.read_text("utf-8").replace('"b"', '"c"'), encoding="utf-8")
    sealed(path.parent)


def damaged(run: Path) -> None:
    path = checkpoint(run, 200) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def cut(run: Path) -> None:
    path = checkpoint(run, 200) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def being_written(run: Path) -> None:
    checkpoint(run, 400).rename(run / "checkpoints" / ".writing-update-00000400-0badcafe")


@pytest.mark.parametrize(
    ("prepare", "arguments", "told"),
    [
        (None, "--last 5", r"5 checkpoints are asked for, and 4 are whole; there are those after 100, 200, 300, 400\. "
         r"A run keeps as many as run\.keep_last says, and here that was 4"),
        (None, "--best 4", r"and 3 are whole and were evaluated; .* as run\.keep_best says, and here that was 1"),
        (cut, "--last 4", r"4 checkpoints are asked for, and 3 are whole; there are those after 100, 300, 400"),
        (damaged, "--last 4", r"update-00000200: is damaged \(model.safetensors is not what was saved"),
        (None, "--update 100 --update 150", "no whole checkpoint after update 150; there are those after 100, 200,"),
        (being_written, "--update 300 --update 400", r"after update 400 \(400 being written\); there are"),
        (None, "--update 100", "a mean needs two checkpoints at least"),
        (None, "", "say which checkpoints"),
        (None, "--last 2 --best 2", "say which checkpoints"),
        (lambda run: (run / "average-last-2").mkdir(), "--last 2", "average-last-2: is there already; delete it"),
        (other_tokens, "--last 4", "update-00000200 and update-00000400 have other tokens in vocab.json"),
        (lambda run: changed(run, torch.zeros(6)), "--last 4",
         r"not of one model: lm_head.bias is F32 \(6,\) in the first and F32 \(5,\) in the second"),
        (lambda run: changed(run, None), "--last 4", "lm_head.bias is not there in the first"),
        (lambda run: changed(run, torch.zeros(5).half()), "--last 4", r"lm_head.bias is F16 \(5,\) in the first"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_that_says_what_would_be_right(
    prepare: Any, arguments: str, told: str, run: Path
) -> None:
    if prepare is not None:
        prepare(run)
    before = sorted(run.rglob("*"))
    done = CliRunner().invoke(app, ["average", str(run), *arguments.split()])
    assert done.exit_code == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("average: ")
    assert re.search(told, line), line
    assert sorted(run.rglob("*")) == before


def test_what_is_no_run_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(AverageError, match=r"elsewhere: is no folder of a run: it has no checkpoints$"):
        average_checkpoints(tmp_path / "elsewhere" / "elsewhere", last=2)
    (run / "model").mkdir()
    with pytest.raises(AverageError, match=rf"model: is no folder of a run: .*; did you mean {run}\?"):
        average_checkpoints(run / "model", last=2)


def test_the_command_says_what_it_did_and_how_to_evaluate_it(run: Path) -> None:
    done = CliRunner().invoke(app, ["average", str(run), "--last", "3"])
    assert done.exit_code == 0, done.stderr
    folder = run / "average-last-3"
    assert done.stdout == f"{folder}: the mean of the checkpoints after updates 200, 300, 400\n"
    assert done.stderr == f"to evaluate it: wav2vec2 evaluate --model {folder} --data dev.tsv\n"
    assert CliRunner().invoke(app, ["average", str(run), "--last", "1"]).exit_code == 2
