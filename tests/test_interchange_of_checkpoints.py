"""A folder written by stock Transformers is read here, one of ours is read there, and both compute the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import SMALL
from stock_twins import VARIANTS, batch, own_config, scatter_weights, stock_config, twins

import wav2vec2
from wav2vec2.configuration import OWN_FIELDS

pytestmark = pytest.mark.slow

HEADS = [
    "Wav2Vec2Model",
    "Wav2Vec2ForPreTraining",
    "Wav2Vec2ForCTC",
    "Wav2Vec2ForSequenceClassification",
    "Wav2Vec2ForAudioFrameClassification",
    "Wav2Vec2ForXVector",
]
PAIRS = [
    pytest.param(head, variant, marks=() if variant in ("base", "mms") else pytest.mark.slow)
    for head in HEADS
    for variant in VARIANTS
    if variant != "strided_adapter" or head in ("Wav2Vec2Model", "Wav2Vec2ForCTC")
]


def result(model: Any) -> torch.Tensor:
    """What a model is asked for."""
    values, _ = batch(torch.float32, masked=False)
    options = {}
    if isinstance(model, wav2vec2.Wav2Vec2ForPreTraining):
        options = {"mask_time_indices": torch.zeros(3, 18, dtype=torch.bool)}  # stock masks nothing unless told
    with torch.no_grad():
        outputs = model.eval()(values, **options)
    output: torch.Tensor = outputs["logits"] if "logits" in outputs else outputs[0]
    if "projected_states" in outputs:
        output = torch.cat([outputs["projected_states"], outputs["projected_quantized_states"]], dim=-1)
    return output


def assert_nothing_left_over(info: dict[str, Any]) -> None:
    """Every tensor of the folder has its place, and every place its tensor."""
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), info


@pytest.mark.parametrize(("head", "variant"), PAIRS)
def test_folders_go_both_ways(head: str, variant: str, tmp_path: Path) -> None:
    """Stock -> ours -> stock: the same tensors bit for bit, under the same names, and equal results."""
    stock, _ = twins(head, variant, torch.float32)
    stock.save_pretrained(tmp_path / "stock")
    ours, info = getattr(wav2vec2, head).from_pretrained(tmp_path / "stock", output_loading_info=True)
    assert_nothing_left_over(info)
    ours.save_pretrained(tmp_path / "ours")
    back, info = getattr(transformers, head).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert_nothing_left_over(info)
    expected = stock.state_dict()
    for state in (ours.state_dict(), back.state_dict()):
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert torch.equal(result(back), result(stock))
    assert torch.allclose(result(ours), result(stock), rtol=0, atol=1e-5 * result(stock).abs().max().item())


def test_a_new_model_of_ours_is_read_by_stock(tmp_path: Path) -> None:
    """Not only what came from stock goes there."""
    torch.manual_seed(0)
    ours: Any = scatter_weights(wav2vec2.Wav2Vec2ForCTC(own_config("large_lv60k", vocab_size=11)))
    ours.save_pretrained(tmp_path)
    stock, info = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path, output_loading_info=True)
    assert_nothing_left_over(info)
    assert stock.config.vocab_size == 11
    assert torch.allclose(result(ours), result(stock), rtol=0, atol=1e-5 * result(stock).abs().max().item())


def test_no_code_travels_with_a_checkpoint(tmp_path: Path) -> None:
    """A folder of ours says nothing of this package: no module, no `auto_map`, stock's names for classes."""
    wav2vec2.Wav2Vec2ForCTC(own_config()).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert written["model_type"] == "wav2vec2" and written["architectures"] == ["Wav2Vec2ForCTC"]
    assert "auto_map" not in written and not written.keys() & set(OWN_FIELDS)


def test_own_fields_are_read_back_and_do_not_disturb_stock(tmp_path: Path) -> None:
    """Changed fields of ours are saved; stock carries them along, back to us."""
    changed: dict[str, Any] = {
        "padding_invariant_norm": False,
        "feature_grad_mult": 0.1,
        "feature_penalty_weight": 10.0,
        "gumbel_temperature_start": 1.5,
        "gumbel_temperature_end": 0.25,
        "gumbel_temperature_decay": 0.999,
        "gumbel_temperature_by_hand": 0.7,
        "pretraining_updates": 7,
        "ctc_drop_infeasible": False,
        "ctc_head": "recurrent",
        "ctc_head_size": 20,
        "ctc_head_layers": 1,
        "ctc_head_stride": 3,
        "ctc_head_dropout": 0.3,
        "ctc_head_masks": True,
        "attention_chunk": 24,
        "tuned_in_chunks": True,
        "attention_left": 100,
        "attention_right": 12,
        "attention_sinks": 4,
    }
    assert changed.keys() == set(OWN_FIELDS)
    own_config(**changed).save_pretrained(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text()).items() >= changed.items()
    stock = transformers.Wav2Vec2Config.from_pretrained(tmp_path / "ours")
    transformers.Wav2Vec2ForCTC(stock).config.save_pretrained(tmp_path / "stock")
    back = wav2vec2.Wav2Vec2Config.from_pretrained(tmp_path / "stock")
    assert {name: getattr(back, name) for name in changed} == changed


#: Values of stock's fields that differ from the defaults.
OTHER_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "hidden_size": st.sampled_from([48, 96]),
    "layerdrop": st.floats(0, 1),
    "mask_time_prob": st.floats(0, 2),
    "mask_feature_prob": st.sampled_from([0, 0.25]),
    "do_stable_layer_norm": st.booleans(),
    "feat_extract_norm": st.sampled_from(["group", "layer"]),
    "hidden_act": st.sampled_from(["gelu", "relu", "gelu_new"]),
    "conv_bias": st.booleans(),
    "vocab_size": st.sampled_from([None, 1, 9812]),
    "pad_token_id": st.sampled_from([None, 0, 31]),
    "eos_token_id": st.sampled_from([None, 2, [2, 3]]),
    "add_adapter": st.booleans(),
    "output_hidden_size": st.sampled_from([None, 20]),
    "num_labels": st.integers(1, 5),
    "tdnn_dim": st.sampled_from([(16, 16, 16), [8, 8, 24]]),
    "ctc_loss_reduction": st.sampled_from(["sum", "mean", "none"]),
    "problem_type": st.sampled_from([None, "regression"]),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.fixed_dictionaries({}, optional=OTHER_VALUES))
def test_configurations_go_both_ways(values: dict[str, Any], tmp_path: Path) -> None:
    """Any stock `config.json` means the same after a stay with us, field by field."""
    stock = transformers.Wav2Vec2Config(**(SMALL | values))
    stock.save_pretrained(tmp_path / "stock")
    ours = wav2vec2.Wav2Vec2Config.from_pretrained(tmp_path / "stock")
    ours.save_pretrained(tmp_path / "ours")
    back = transformers.Wav2Vec2Config.from_pretrained(tmp_path / "ours")
    assert back.to_dict() == stock.to_dict()
    for name, value in stock.to_dict().items():
        assert ours.to_dict()[name] == value, name
    assert wav2vec2.Wav2Vec2Config.from_pretrained(tmp_path / "ours").to_dict() == ours.to_dict()


def test_a_mask_embedding_that_stock_lacks_is_the_only_difference(tmp_path: Path) -> None:
    """Without masking in its configuration stock has no mask embedding; ours always has, and stock passes over it."""
    never: dict[str, Any] = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    torch.manual_seed(0)
    stock = scatter_weights(transformers.Wav2Vec2ForCTC(stock_config(**never)))
    stock.save_pretrained(tmp_path / "stock")
    ours, info = wav2vec2.Wav2Vec2ForCTC.from_pretrained(tmp_path / "stock", output_loading_info=True)
    assert info["missing_keys"] == {"wav2vec2.masked_spec_embed"}
    embedding = ours.wav2vec2.masked_spec_embed
    assert embedding.min() >= 0 and embedding.max() < 1 and embedding.std() > 0.1  # initialised, not left to chance
    ours.save_pretrained(tmp_path / "ours")
    back, info = transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert info["unexpected_keys"] == {"wav2vec2.masked_spec_embed"} and not info["missing_keys"]
    assert torch.equal(result(back), result(stock))
