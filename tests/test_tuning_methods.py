"""Language adapters and LoRA: what is trained, what is saved, and that it comes back as it was."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate import Accelerator
from safetensors.torch import load_file
from small_models import small_config, waveforms
from torch import Tensor

from wav2vec2 import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification
from wav2vec2.modeling.language_adapters import language_parameters
from wav2vec2.training.optimization import make_optimizer
from wav2vec2.training.saving.checkpoints import TRAINING_WEIGHTS, Checkpoints
from wav2vec2.training.saving.named_states import restore_optimizer, restore_weights
from wav2vec2.training.saving.training_state import TrainingState
from wav2vec2.training.settings.run_config import FinetuneOptimizerSection, TuningSection
from wav2vec2.training.tuning_methods import TuningError, apply_tuning

FAO = TuningSection(method="adapter", language="fao")
LORA = TuningSection(method="lora", lora_rank=4, lora_alpha=16.0, lora_dropout=0.2)
NO_RANDOMNESS = {"layerdrop": 0.0, "hidden_dropout": 0.0, "attention_dropout": 0.0, "mask_time_prob": 0.0}

#: PEFT asks Transformers for a property under its former name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def pretrained(folder: Path, architecture: str = "base") -> Path:
    """The folder of a model to start from."""
    torch.manual_seed(1)
    Wav2Vec2ForCTC(small_config(architecture, vocab_size=9)).save_pretrained(folder)
    return folder


def copies(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def train(model: Any, optimizer: Any, updates: int = 4, first: int = 0) -> list[float]:
    """Updates with LayerDrop, dropout and masks as the configuration has them; the losses."""
    losses = []
    values, mask = waveforms([9000, 7000], seed=3)
    labels = torch.tensor([[1, 2, 3, 1], [4, 5, -100, -100]])
    model.train()
    for update in range(first, first + updates):
        torch.manual_seed(update)
        model.set_update(update, 0)
        loss = model(values, mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def optimizer_of(model: Any) -> Any:
    return make_optimizer(model, FinetuneOptimizerSection(learning_rate=1e-2, weight_decay=0.1))


def logits_of(model: Any) -> Tensor:
    values, mask = waveforms([8000, 5000], seed=5)
    with torch.no_grad():
        logits: Tensor = model.eval()(input_values=values, attention_mask=mask).logits
    return logits


def checkpoint_of(folder: Path, model: Any, optimizer: Any, beside: list[Any], update: int = 4) -> Path:
    extras = [Wav2Vec2FeatureExtractor(), *beside]
    return Checkpoints(folder).save(Accelerator(cpu=True), model, optimizer, TrainingState(update=update), extras)


def test_adapter_training_changes_adapter_and_head_alone(tmp_path: Path) -> None:
    """With LayerDrop, masks and weight decay; every other parameter stays bit for bit, and has no gradient."""
    model = Wav2Vec2ForCTC.from_pretrained(pretrained(tmp_path, "mms"), layerdrop=0.5)
    apply_tuning(model, FAO)
    before, own = copies(model), language_parameters(model).keys()
    assert len(own) == 3 * 6 + 2 and model.target_lang == "fao"
    train(model, optimizer_of(model), updates=6)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == own
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == own


def test_a_new_language_starts_afresh_and_a_chosen_one_goes_on(tmp_path: Path) -> None:
    """Otherwise the new language would begin with whatever the checkpoint spoke."""
    folder = pretrained(tmp_path, "mms")
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    before = copies(model)
    apply_tuning(model, FAO)
    matrices = [name for name in language_parameters(model) if name.endswith("linear_1.weight")]
    assert len(matrices) == 3
    assert not any(torch.equal(model.state_dict()[name], before[name]) for name in matrices)
    trained = copies(model)
    others = trained.keys() - language_parameters(model).keys() | {"lm_head.weight", "lm_head.bias"}
    assert all(torch.equal(trained[name], before[name]) for name in others)
    apply_tuning(model, FAO)
    assert all(torch.equal(tensor, trained[name]) for name, tensor in model.state_dict().items())


def test_adapter_files_are_read_here_and_by_stock(tmp_path: Path) -> None:
    """A checkpoint holds the adapter alone; put beside the base model, both libraries speak the new language."""
    base = pretrained(tmp_path / "base", "mms")
    model = Wav2Vec2ForCTC.from_pretrained(base)
    beside = apply_tuning(model, FAO)
    optimizer = optimizer_of(model)
    train(model, optimizer)
    checkpoint = checkpoint_of(tmp_path / "run", model, optimizer, beside)
    file = checkpoint / "adapter.fao.safetensors"
    own = language_parameters(model)
    tensors = load_file(file)
    assert tensors.keys() == own.keys() and all(torch.equal(tensors[name], own[name]) for name in own)
    (base / file.name).write_bytes(file.read_bytes())
    expected = logits_of(model)
    ours = Wav2Vec2ForCTC.from_pretrained(base)
    assert (logits_of(ours) - expected).abs().max() > 1e-3
    ours.set_language("fao")
    torch.testing.assert_close(logits_of(ours), expected, atol=0, rtol=0)
    whole = Wav2Vec2ForCTC.from_pretrained(checkpoint)
    torch.testing.assert_close(logits_of(whole), expected, atol=0, rtol=0)
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(base)
    stock.load_adapter("fao")
    values, _ = waveforms([8000])
    with torch.no_grad():
        torch.testing.assert_close(stock.eval()(values).logits, ours(values).logits, atol=1e-5, rtol=1e-5)


def test_lora_trains_its_additions_and_the_head_alone(tmp_path: Path) -> None:
    """With LayerDrop: no layer's parameters are missing from the graph, and no base weight moves."""
    model = Wav2Vec2ForCTC.from_pretrained(pretrained(tmp_path), layerdrop=0.5)
    untouched = logits_of(model)
    beside = apply_tuning(model, LORA)
    torch.testing.assert_close(logits_of(model), untouched)  # the additions start as nothing
    assert len(beside) == 1
    before = copies(model)
    losses = train(model, optimizer_of(model), updates=8)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    additions = {name for name in before if ".lora_" in name}
    assert len(additions) == 3 * 4 * 2 and additions <= changed
    assert changed - additions == {"lm_head.weight", "lm_head.bias"}
    assert losses[-1] < losses[0]


@pytest.fixture
def run(tmp_path: Path) -> tuple[Any, Any, Path]:
    """A trained LoRA model, its optimizer and its checkpoint."""
    model = Wav2Vec2ForCTC.from_pretrained(pretrained(tmp_path / "base"), **NO_RANDOMNESS)
    beside = apply_tuning(model, LORA)
    optimizer = optimizer_of(model)
    train(model, optimizer)
    return model, optimizer, checkpoint_of(tmp_path / "run", model, optimizer, beside)


def test_a_lora_checkpoint_is_a_complete_merged_model(run: tuple[Any, Any, Path], tmp_path: Path) -> None:
    """In both libraries, without PEFT, with the names of an ordinary model and to 1e-5 of the unmerged one."""
    model, _, checkpoint = run
    expected = logits_of(model)
    base = load_file(tmp_path / "base" / "model.safetensors")
    assert load_file(checkpoint / "model.safetensors").keys() == base.keys()
    merged = Wav2Vec2ForCTC.from_pretrained(checkpoint)
    torch.testing.assert_close(logits_of(merged), expected, atol=1e-5, rtol=1e-5)
    assert (logits_of(Wav2Vec2ForCTC.from_pretrained(tmp_path / "base")) - expected).abs().max() > 1e-2
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(checkpoint)
    values, _ = waveforms([8000])
    with torch.no_grad():
        torch.testing.assert_close(stock.eval()(values).logits, merged(values).logits, atol=1e-5, rtol=1e-5)


def test_a_lora_adapter_alone_is_read_by_peft(run: tuple[Any, Any, Path], tmp_path: Path) -> None:
    """On the base model: exactly the trained one; merged by PEFT: the one of the checkpoint to 1e-5."""
    from peft import PeftModel

    model, _, checkpoint = run
    base = Wav2Vec2ForCTC.from_pretrained(tmp_path / "base")
    adapted = PeftModel.from_pretrained(base, checkpoint / "lora")
    torch.testing.assert_close(logits_of(adapted), logits_of(model), atol=0, rtol=0)
    merged = adapted.merge_and_unload().state_dict()
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        torch.testing.assert_close(merged[name], tensor, atol=1e-5, rtol=1e-5)


def test_a_lora_run_goes_on_as_if_it_had_not_stopped(run: tuple[Any, Any, Path], tmp_path: Path) -> None:
    """From the checkpoint's weights with the additions apart and its optimizer: bit for bit the same updates."""
    model, optimizer, checkpoint = run
    again = Wav2Vec2ForCTC.from_pretrained(tmp_path / "base", **NO_RANDOMNESS)
    apply_tuning(again, LORA)
    resumed, accelerator = optimizer_of(again), Accelerator(cpu=True)
    restore_weights(accelerator, again, checkpoint / TRAINING_WEIGHTS)
    restore_optimizer(accelerator, again, resumed, checkpoint / "training_state/optimizer.safetensors")
    assert train(again, resumed, first=4) == train(model, optimizer, first=4)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_lora_on_a_classifier_trains_its_whole_head() -> None:
    """Everything above the pretrained model is head."""
    model = Wav2Vec2ForSequenceClassification(small_config(num_labels=3))
    apply_tuning(model, LORA)
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"wav2vec2", "projector", "classifier"}
    body = [n for n, p in model.wav2vec2.named_parameters() if p.requires_grad and ".lora_" not in n]
    assert body == []


def test_full_tuning_leaves_the_model_as_it_is() -> None:
    model = Wav2Vec2ForCTC(small_config())
    names = list(model.state_dict())
    assert apply_tuning(model, TuningSection()) == []
    assert list(model.state_dict()) == names and all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("config", "tuning", "told"),
    [
        (small_config(), FAO, "no language adapters"),
        (small_config(), TuningSection(method="lora", lora_targets=["query"]), "no linear layer is called query"),
    ],
)
def test_what_does_not_go_together_is_refused(config: Wav2Vec2Config, tuning: TuningSection, told: str) -> None:
    with pytest.raises(TuningError, match=told):
        apply_tuning(Wav2Vec2ForCTC(config), tuning)


def test_without_peft_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match="pip install peft"):
        apply_tuning(Wav2Vec2ForCTC(small_config()), LORA)
