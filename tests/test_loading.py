"""Every way in which a checkpoint is written is read, without a word, with the same results."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_folders import (
    DIRECTION,
    GAIN,
    POSITIONAL,
    Tensors,
    listening,
    logits,
    old_names,
    small_model,
    write,
    write_bin,
    write_shards,
)
from safetensors.torch import load_file
from stock_twins import VARIANTS, batch

import wav2vec2
from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining


def load_silently(source: Any, head: Any = Wav2Vec2ForCTC, **options: Any) -> Any:
    """Load, and hear nothing: no warning (they are errors here) and no log record."""
    with listening() as heard:
        model, info = head.from_pretrained(source, output_loading_info=True, **options)
    assert heard == []
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert not model.training
    return model


def test_sharded_safetensors_are_read(tmp_path: Path) -> None:
    """Several files with an index."""
    model = small_model()
    write_shards(tmp_path, model)
    assert torch.equal(logits(load_silently(tmp_path)), logits(model))


def test_bin_files_are_read(tmp_path: Path) -> None:
    """torch's own format, one file or several."""
    model = small_model()
    assert torch.equal(logits(load_silently(write_bin(tmp_path / "one", model))), logits(model))
    state, folder = model.state_dict(), write_bin(tmp_path / "several", model)
    (folder / "pytorch_model.bin").unlink()
    names = sorted(state)
    files = {name: f"pytorch_model-{1 + index % 2:05d}-of-00002.bin" for index, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({name: state[name] for name in names if files[name] == file}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert torch.equal(logits(load_silently(folder)), logits(model))


def test_a_state_dict_is_read() -> None:
    """Tensors in memory, with a configuration beside them."""
    model = small_model()
    loaded = load_silently(None, config=model.config, state_dict=model.state_dict())
    assert torch.equal(logits(loaded), logits(model))


def folded(tensors: Tensors) -> None:
    """The product `g v / |v|` under the name of a plain convolution's weight."""
    gain, direction = tensors.pop(f"wav2vec2.{GAIN}"), tensors.pop(f"wav2vec2.{DIRECTION}")
    tensors[f"wav2vec2.{POSITIONAL}weight"] = torch._weight_norm(direction, gain, 2)


def todays_names(tensors: Tensors) -> None:
    """The parametrisation's names: since torch 2.1."""
    assert {f"wav2vec2.{GAIN}", f"wav2vec2.{DIRECTION}"} <= tensors.keys()


def assert_todays_spelling(folder: Path) -> None:
    """The one spelling that is written."""
    names = {name for name in load_file(folder / "model.safetensors") if POSITIONAL in name}
    assert names == {
        f"wav2vec2.{POSITIONAL}{rest}" for rest in ("bias", GAIN[len(POSITIONAL) :], DIRECTION[len(POSITIONAL) :])
    }


@pytest.mark.parametrize("spelling", [todays_names, old_names, folded])
@pytest.mark.parametrize("file", ["safetensors", "bin", "state_dict"])
def test_every_spelling_of_weight_norm_is_read(spelling: Any, file: str, tmp_path: Path) -> None:
    """In silence, with the same results, to be written again under one spelling that stock reads."""
    model = small_model()
    folder = write(tmp_path / "given", model, spelling)
    source: dict[str, Any] = {"source": folder}
    if file == "state_dict":
        tensors = dict(model.state_dict())
        spelling(tensors)
        source = {"source": None, "config": model.config, "state_dict": tensors}
    elif file == "bin":
        tensors = dict(model.state_dict())
        spelling(tensors)
        torch.save(tensors, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    loaded = load_silently(**source)
    expected = logits(model)
    tolerance = 1e-5 * expected.abs().max().item() if spelling is folded else 0.0
    assert torch.allclose(logits(loaded), expected, rtol=0, atol=tolerance)
    loaded.save_pretrained(tmp_path / "written")
    assert_todays_spelling(tmp_path / "written")
    stock, info = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path / "written", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert all(torch.equal(stock.state_dict()[name], tensor) for name, tensor in loaded.state_dict().items())


def test_stock_writes_old_names_again(tmp_path: Path) -> None:
    """What makes readers of today's names miss tensors: the spelling of a file depends on what it was loaded from."""
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(write(tmp_path / "old", small_model(), old_names))
    stock.save_pretrained(tmp_path / "again")
    names = load_file(tmp_path / "again" / "model.safetensors").keys()
    assert f"wav2vec2.{POSITIONAL}weight_g" in names and f"wav2vec2.{GAIN}" not in names
    load_silently(tmp_path / "again").save_pretrained(tmp_path / "today")
    assert_todays_spelling(tmp_path / "today")


def test_old_names_are_read_into_the_body_alone(tmp_path: Path) -> None:
    """Also by the model without a head, from a checkpoint with one, and the other way round."""
    head = small_model()
    folder = write(tmp_path / "head", head, old_names)
    body = wav2vec2.Wav2Vec2Model.from_pretrained(folder)
    assert torch.equal(body.state_dict()[GAIN], head.state_dict()[f"wav2vec2.{GAIN}"])
    body.save_pretrained(tmp_path / "body")
    again = Wav2Vec2ForCTC.from_pretrained(tmp_path / "body")
    assert torch.equal(again.state_dict()[f"wav2vec2.{DIRECTION}"], head.state_dict()[f"wav2vec2.{DIRECTION}"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_is_what_was_saved(variant: str, tmp_path: Path) -> None:
    """Bit for bit, in every architecture."""
    model = small_model(variant=variant)
    loaded = load_silently(write(tmp_path, model))
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_dtype_is_that_of_every_parameter(tmp_path: Path) -> None:
    """In bfloat16 the weights are rounded and the logits nearly the same."""
    model = small_model(variant="large_lv60k")
    loaded = load_silently(write(tmp_path, model), dtype=torch.bfloat16)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].bfloat16()), name
    expected = logits(model)
    assert (logits(loaded) - expected).abs().max() < 0.05 * expected.abs().max()
    loaded.save_pretrained(tmp_path / "half")
    assert load_silently(tmp_path / "half", dtype="auto").dtype == torch.bfloat16


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_a_device_map_changes_nothing_but_the_place(device_map: Any, tmp_path: Path) -> None:
    """As with stock's models."""
    model = small_model()
    assert torch.equal(logits(load_silently(write(tmp_path, model), device_map=device_map)), logits(model))


@pytest.mark.parametrize("head", ["Wav2Vec2ForCTC", "Wav2Vec2ForXVector", "Wav2Vec2ForPreTraining"])
def test_weights_can_stay_on_disk(head: str, tmp_path: Path) -> None:
    """With weights fetched layer by layer (`device_map` with "disk") the results are stock's, and those without."""
    folder = write(tmp_path / "model", small_model(head))
    values, mask = batch(torch.float32, masked=False)
    options = {"mask_time_indices": torch.zeros(3, 18, dtype=torch.bool)} if head == "Wav2Vec2ForPreTraining" else {}
    results = []
    for library in (transformers, wav2vec2):
        model = getattr(library, head).from_pretrained(
            folder, device_map={"": "disk"}, offload_folder=tmp_path / "offloaded"
        )
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        with torch.no_grad():
            outputs = model(values, mask, **options)
        results.append(outputs["projected_states"] if options else outputs["logits"])
    stocks, ours = results
    assert torch.allclose(ours, stocks, rtol=0, atol=1e-5 * stocks.abs().max().item())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_can_be_chosen(attention: str, tmp_path: Path) -> None:
    """`attn_implementation` is taken, and gives the same logits."""
    model = small_model()
    loaded = load_silently(write(tmp_path, model), attn_implementation=attention)
    assert loaded.config._attn_implementation == attention
    expected = logits(model)
    assert torch.allclose(logits(loaded), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_arguments_after_the_name_are_keywords(tmp_path: Path) -> None:
    """A second positional argument is refused."""
    with pytest.raises(TypeError, match="keywords"):
        Wav2Vec2ForCTC.from_pretrained(write(tmp_path, small_model()), 5)


def test_fields_of_the_configuration_can_be_given_with_the_name(tmp_path: Path) -> None:
    """As with stock's models."""
    loaded = load_silently(write(tmp_path, small_model()), final_dropout=0.5, padding_invariant_norm=False)
    assert loaded.config.final_dropout == loaded.dropout.p == 0.5
    assert loaded.config.padding_invariant_norm is False


SCHEDULE: dict[str, Any] = {
    "gumbel_temperature_decay": 0.999,
    "gumbel_temperature_start": 2.0,
    "gumbel_temperature_end": 0.5,
}


@pytest.mark.parametrize("updates", [0, 7, 100, 10_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_gumbel_temperature_follows_the_updates_after_loading(
    updates: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    """The temperature is no tensor of the checkpoint: it follows from the saved number of updates."""
    model = small_model("Wav2Vec2ForPreTraining", **SCHEDULE)
    model.set_update(updates)
    expected = max(0.5, 2.0 * 0.999**updates)
    assert model.quantizer.temperature.item() == pytest.approx(expected, rel=1e-6)
    loaded = load_silently(write(tmp_path, model), Wav2Vec2ForPreTraining, dtype=dtype)
    assert loaded.config.pretraining_updates == updates
    assert loaded.quantizer.temperature.item() == pytest.approx(expected, rel=1e-6)


def test_a_gumbel_temperature_set_by_hand_is_kept(tmp_path: Path) -> None:
    """Until `set_update` lets the schedule decide again."""
    model = small_model("Wav2Vec2ForPreTraining", **SCHEDULE)
    model.set_gumbel_temperature(0.7)
    loaded = load_silently(write(tmp_path / "by_hand", model), Wav2Vec2ForPreTraining)
    assert loaded.quantizer.temperature.item() == pytest.approx(0.7)
    loaded.set_update(100)
    again = load_silently(write(tmp_path / "by_schedule", loaded), Wav2Vec2ForPreTraining)
    assert again.quantizer.temperature.item() == pytest.approx(2.0 * 0.999**100)


@pytest.mark.parametrize("device_map", [None, "cpu"])
def test_buffers_outside_the_checkpoint_are_not_left_to_chance(device_map: Any, tmp_path: Path) -> None:
    """LayerDrop's key starts at zero, and an update drops the same layers as in a new model."""
    model = small_model("Wav2Vec2ForPreTraining", layerdrop=0.5)
    write(tmp_path, model)
    torch.full((4096,), 7.0)  # memory that is likely to be handed out again
    loaded = load_silently(tmp_path, Wav2Vec2ForPreTraining, device_map=device_map)
    drops, fresh = loaded.wav2vec2.encoder.layer_drop.train(), model.wav2vec2.encoder.layer_drop.train()
    assert drops.key.item() == 0 and drops.key.dtype == torch.int64
    for update in range(20):
        drops.pin(1, update)
        fresh.pin(1, update)
        assert drops(0.5) == fresh(0.5)
    assert loaded.quantizer.temperature.item() == 2.0
    buffers = {name for name, _ in loaded.named_buffers()}
    assert len(buffers) == 2 and not buffers & loaded.state_dict().keys()  # these two, and in no checkpoint


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch"])
@pytest.mark.parametrize("head", ["Wav2Vec2ForCTC", "Wav2Vec2ForPreTraining"])
def test_a_model_can_be_copied_and_pickled(way: str, head: str, tmp_path: Path) -> None:
    """Weight norm included, which torch's own parametrisation does not allow."""
    model = small_model(head)
    if way == "deepcopy":
        again = copy.deepcopy(model)
    elif way == "pickle":
        again = pickle.loads(pickle.dumps(model))
    else:
        torch.save(model, tmp_path / "model.pt")
        again = torch.load(tmp_path / "model.pt", weights_only=False)
    state = again.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert all(a is not b for a, b in zip(again.parameters(), model.parameters(), strict=True))
    if head == "Wav2Vec2ForCTC":
        assert torch.equal(logits(again), logits(model))


# torch.compile, which Transformers' integration of BitNet asks for, imports deprecated parts of torch.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("head", ["Wav2Vec2ForCTC", "Wav2Vec2ForSequenceClassification", "Wav2Vec2ForXVector"])
def test_quantised_checkpoints_are_read_as_by_stock(head: str, tmp_path: Path) -> None:
    """A quantisation configuration (here BitNet's, which needs no further library) does to both models the same."""
    folder = write(tmp_path, small_model(head, "large_lv60k"))
    values, _ = batch(torch.float32, masked=False)
    with torch.no_grad():
        plain = getattr(wav2vec2, head).from_pretrained(folder)(values).logits
    file = folder / "config.json"
    method = transformers.BitNetQuantConfig(linear_class="autobitlinear", quantization_mode="online")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": method.to_dict()}))
    results = []
    for library in (transformers, wav2vec2):
        model = getattr(library, head).from_pretrained(folder)
        assert type(model.wav2vec2.encoder.layers[0].attention.q_proj).__name__ == "AutoBitLinear"
        with torch.compiler.set_stance("force_eager"), torch.no_grad():
            results.append(model(values).logits)
    stocks, ours = results
    assert ours.shape == plain.shape and (ours - plain).abs().max() > 1e-3
    if head == "Wav2Vec2ForXVector":  # stock uses the time-delay layers' weights past the quantised layers
        return
    assert torch.allclose(ours, stocks, rtol=0, atol=1e-5 * stocks.abs().max().item())
