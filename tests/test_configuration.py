"""The configuration: stock's fields and defaults, ours beside them, and nothing impossible."""

import json
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from wav2vec2 import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Model
from wav2vec2.configuration import OWN_FIELDS, presets

#: A value other than the default for each field that only this package has.
CHANGED: dict[str, Any] = {
    "padding_invariant_norm": False,
    "feature_grad_mult": 0.1,
    "feature_penalty_weight": 10.0,
    "gumbel_temperature_start": 4.0,
    "gumbel_temperature_end": 0.1,
    "gumbel_temperature_decay": 0.999995,
    "gumbel_temperature_by_hand": 0.7,
    "pretraining_updates": 1000,
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


def defaults_of(config_class: Any) -> dict[str, Any]:
    """Name and default of every field of a configuration."""
    found = {one.name: one for one in fields(config_class)}
    return {name: f.default if f.default_factory is MISSING else f.default_factory() for name, f in found.items()}


def test_every_field_of_stock_is_here_with_its_default() -> None:
    stock, ours = defaults_of(transformers.Wav2Vec2Config), defaults_of(Wav2Vec2Config)
    assert len(stock) > 50
    assert {name: ours.get(name, "missing") for name in stock} == stock


def test_our_own_fields_are_the_only_others() -> None:
    ours = set(defaults_of(Wav2Vec2Config)) - set(defaults_of(transformers.Wav2Vec2Config))
    assert ours == set(OWN_FIELDS) == set(CHANGED)


def test_a_new_configuration_says_what_stock_says() -> None:
    """Also where a value follows from others, as the number of convolutions."""
    stock, ours = transformers.Wav2Vec2Config().to_dict(), Wav2Vec2Config().to_dict()
    assert {name: ours.get(name, "missing") for name in stock} == stock


STOCK: dict[str, dict[str, Any]] = {
    "default": {},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "pre_norm": {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
    "adapter": {"add_adapter": True, "output_hidden_size": 1024, "num_adapter_layers": 2},
    "mms": {"do_stable_layer_norm": True, "adapter_attn_dim": 16, "vocab_size": 154},
    "lists": {"conv_dim": [32, 32], "conv_stride": [5, 2], "conv_kernel": [10, 3]},
    "tuples": {"tdnn_dim": (8, 8), "tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1)},
    "tokens": {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None, "vocab_size": None},
    "labels": {"num_labels": 5, "problem_type": "multi_label_classification", "use_weighted_layer_sum": True},
    "integers_as_probabilities": {"hidden_dropout": 0, "layerdrop": 0, "mask_time_prob": 1},
    "no_convolution_in_the_adapter": {"add_adapter": True, "num_adapter_layers": 0},
    "no_layer": {"num_hidden_layers": 0},
    "more_spans_than_frames": {"mask_time_prob": 1.2, "mask_feature_prob": 1.5},
    "no_spans": {"mask_time_prob": 0.0, "mask_time_length": 0, "mask_feature_length": 0},
    "a_loss_each": {"ctc_loss_reduction": "none"},
    "no_padding_token": {"pad_token_id": -1},
    "no_epsilon": {"layer_norm_eps": 0.0},
    "width_without_heads": {"hidden_size": 37, "codevector_dim": 255},
    "language_adapters_without_a_place": {"adapter_attn_dim": 16},
    "time_delays": {"tdnn_kernel": (5,)},
}


@pytest.mark.parametrize("options", STOCK.values(), ids=STOCK)
def test_a_config_of_stock_loads_here_and_ours_there(options: dict[str, Any], tmp_path: Path) -> None:
    """Through files, in both directions, with every value kept."""
    stock = transformers.Wav2Vec2Config(**options)
    stock.save_pretrained(tmp_path / "stock")
    ours = Wav2Vec2Config.from_pretrained(tmp_path / "stock")
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.Wav2Vec2Config.from_pretrained(tmp_path / "ours")
    expected = json.loads(stock.to_json_string(use_diff=False))
    for config in (ours, again):
        found = json.loads(config.to_json_string(use_diff=False))
        assert {name: found.get(name, "missing") for name in expected} == expected


def test_an_old_config_file_loads() -> None:
    """Fields that published files have and stock no longer declares are kept, not refused."""
    old = {"architectures": ["Wav2Vec2ForCTC"], "feat_extract_dropout": 0.0, "num_feat_extract_layers": 7}
    config = Wav2Vec2Config.from_dict(old | {"gradient_checkpointing": False, "transformers_version": "4.7.0.dev0"})
    assert config.num_feat_extract_layers == 7
    assert config.feat_extract_dropout == 0.0


def test_the_number_of_convolutions_follows_from_their_list() -> None:
    """A file that contradicts its own list cannot mislead."""
    config = Wav2Vec2Config.from_dict({"conv_dim": [8, 8], "conv_stride": [5, 2], "conv_kernel": [10, 3]})
    assert config.num_feat_extract_layers == 2
    assert Wav2Vec2Config.from_dict({"num_feat_extract_layers": 3}).num_feat_extract_layers == 7


def test_own_fields_are_not_written_when_they_are_neutral(tmp_path: Path) -> None:
    Wav2Vec2Config().save_pretrained(tmp_path)
    assert set(json.loads((tmp_path / "config.json").read_text())).isdisjoint(OWN_FIELDS)


@pytest.mark.parametrize("name", OWN_FIELDS)
def test_an_own_field_that_was_changed_is_written_and_read(name: str, tmp_path: Path) -> None:
    """It alone; and stock carries it along."""
    Wav2Vec2Config(**{name: CHANGED[name]}).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert set(written) & set(OWN_FIELDS) == {name}
    assert getattr(Wav2Vec2Config.from_pretrained(tmp_path), name) == CHANGED[name]
    assert getattr(transformers.Wav2Vec2Config.from_pretrained(tmp_path), name) == CHANGED[name]


POSITIVE = [
    "hidden_size", "num_attention_heads", "intermediate_size", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "num_codevectors_per_group", "num_codevector_groups", "codevector_dim",
    "proj_codevector_dim", "num_negatives", "classifier_proj_size", "xvector_output_dim", "adapter_kernel_size",
    "adapter_stride", "ctc_head_size", "ctc_head_layers", "ctc_head_stride",
]  # fmt: skip
PROBABILITIES = [
    "feat_proj_dropout", "feat_quantizer_dropout", "hidden_dropout", "activation_dropout", "attention_dropout",
    "layerdrop", "final_dropout", "ctc_head_dropout",
]  # fmt: skip
ABOVE_ZERO = [
    "contrastive_logits_temperature", "gumbel_temperature_start", "gumbel_temperature_end",
]  # fmt: skip
COUNTS = [
    "mask_time_min_masks", "mask_feature_min_masks", "pretraining_updates", "num_hidden_layers", "num_adapter_layers",
    "mask_time_length", "mask_feature_length", "attention_right", "attention_sinks",
]  # fmt: skip
NOT_NEGATIVE = [
    "initializer_range", "diversity_loss_weight", "feature_grad_mult", "feature_penalty_weight", "layer_norm_eps",
    "mask_time_prob", "mask_feature_prob",
]  # fmt: skip
LISTS = ["conv_dim", "conv_stride", "conv_kernel", "tdnn_dim", "tdnn_kernel", "tdnn_dilation"]

#: (fields, impossible values, the wish).
IMPOSSIBLE: list[tuple[list[str], list[Any], str]] = [
    (POSITIVE, [0, -1], "must be a positive integer"),
    (["gumbel_temperature_decay"], [0.0, -1.0, 1.1, float("nan")], "must be a factor above 0 and at most 1"),
    (["output_hidden_size"], [-3], "must be a positive integer"),
    (["gumbel_temperature_by_hand"], [0.0, -1.0, float("nan")], "must be a number above 0, or None"),
    (COUNTS, [-1], "must be an integer of at least 0"),
    (["vocab_size", "adapter_attn_dim", "attention_chunk"], [0, -5], "must be a positive integer or None"),
    (["attention_left"], [-1, 2.5], "must be an integer of at least 0, or None"),
    (PROBABILITIES, [-0.1, 1.1, float("nan")], "must be a probability between 0 and 1"),
    (ABOVE_ZERO, [0.0, -1.0, float("inf"), float("nan")], "must be a number above 0"),
    (NOT_NEGATIVE, [-0.5, float("inf"), float("nan")], "must be a number of at least 0"),
    (LISTS, [(), (8, 0, 8, 8, 8, 8, 8), (-1,) * 7], "must be a list of positive integers"),
    (["hidden_act", "feat_extract_activation"], ["gleu"], "must be an activation that Transformers knows"),
    (["feat_extract_norm"], ["batch", ""], 'must be "group" or "layer"'),
    (["ctc_head"], ["gru", "", None], 'must be "linear" or "recurrent"'),
    (["ctc_loss_reduction"], ["None", ""], 'must be "sum", "mean" or "none"'),
]
CASES = [(name, value, wish) for names, values, wish in IMPOSSIBLE for name in names for value in values]


@pytest.mark.parametrize(("name", "value", "wish"), CASES, ids=lambda value: str(value)[:30])
def test_an_impossible_value_is_refused_with_the_wish(name: str, value: Any, wish: str) -> None:
    """The message names the field, the value, and what would be right; at construction and when loading."""
    for build in (lambda: Wav2Vec2Config(**{name: value}), lambda: Wav2Vec2Config.from_dict({name: value})):
        with pytest.raises(ValueError) as refusal:
            build()
        assert f"{name}={value!r}: {wish}" in str(refusal.value)


@pytest.mark.parametrize("name", ["hidden_size", "hidden_dropout", "conv_bias", "conv_dim", "layer_norm_eps"])
def test_a_value_of_another_type_is_refused_by_name(name: str) -> None:
    """Text where a number belongs, as a recipe file may give it."""
    with pytest.raises((TypeError, ValueError), match=name):
        Wav2Vec2Config(**{name: "many"})


RELATIONS: list[tuple[dict[str, Any], str]] = [
    ({"hidden_size": 768, "num_attention_heads": 7}, "hidden_size=768: must be divisible by num_attention_heads=7"),
    (
        {"hidden_size": 24, "num_attention_heads": 2, "num_conv_pos_embedding_groups": 16},
        "hidden_size=24: must be divisible by num_conv_pos_embedding_groups=16",
    ),
    (
        {"codevector_dim": 255, "num_codevector_groups": 2},
        "codevector_dim=255: must be divisible by num_codevector_groups=2",
    ),
    ({"conv_stride": (5, 2)}, "conv_dim / conv_stride / conv_kernel: must be equally long, but conv_dim has 7"),
    ({"conv_kernel": (10, 3, 3)}, "conv_dim has 7, conv_stride has 7, conv_kernel has 3"),
    ({"conv_dim": (512,)}, "conv_dim has 1, conv_stride has 7, conv_kernel has 7"),
    ({"tdnn_kernel": (5,)}, "tdnn_dim / tdnn_kernel / tdnn_dilation: must be equally long"),
    ({"tdnn_dilation": (1, 2, 3, 1)}, "tdnn_dim has 5, tdnn_kernel has 5, tdnn_dilation has 4"),
    ({"mask_time_length": 0}, "mask_time_length=0: must be a positive integer where mask_time_prob=0.05"),
    (
        {"mask_feature_prob": 0.1, "mask_feature_length": 0},
        "mask_feature_length=0: must be a positive integer where mask_feature_prob=0.1",
    ),
    (
        {"attention_chunk": 8, "ctc_head": "recurrent"},
        "attention_chunk=8: must be None where ctc_head='recurrent'",
    ),
    ({"attention_chunk": 8, "add_adapter": True}, "attention_chunk=8: must be None where add_adapter=True"),
    ({"tuned_in_chunks": True, "add_adapter": True}, "tuned_in_chunks=True: must be False where add_adapter=True"),
]


@pytest.mark.parametrize(("options", "message"), RELATIONS)
def test_fields_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    """By the model, as stock does; of the convolutions' lists the configuration itself, as stock's."""
    if any(name.startswith("conv_") for name in options):
        with pytest.raises(ValueError) as refusal:
            Wav2Vec2Config(**options)
    else:
        config = Wav2Vec2Config(**options)
        with pytest.raises(ValueError) as refusal:
            config.check()
        with pytest.raises(ValueError, match="Wav2Vec2Config cannot be used"):
            Wav2Vec2Model(config)
    assert message in str(refusal.value)


def test_all_problems_are_told_at_once() -> None:
    """And a relation is only judged between values that are possible on their own."""
    config = Wav2Vec2Config()
    changes = {"hidden_dropout": 2.0, "num_attention_heads": 0, "codevector_dim": 255, "conv_stride": (5,)}
    for name, value in {**changes, "layerdrop": -1}.items():
        setattr(config, name, value)
    with pytest.raises(ValueError) as refusal:
        config.check()
    title, *problems = str(refusal.value).splitlines()
    assert title == "Wav2Vec2Config cannot be used:"
    assert sorted(problems) == [
        "  codevector_dim=255: must be divisible by num_codevector_groups=2",
        "  conv_dim / conv_stride / conv_kernel: must be equally long, but conv_dim has 7, conv_stride has 1, "
        "conv_kernel has 7",
        "  hidden_dropout=2.0: must be a probability between 0 and 1",
        "  layerdrop=-1: must be a probability between 0 and 1",
        "  num_attention_heads=0: must be a positive integer",
    ]


def test_a_value_that_became_impossible_later_is_found_by_the_model() -> None:
    config = Wav2Vec2Config()
    config.num_attention_heads = 7
    with pytest.raises(ValueError, match="hidden_size=768: must be divisible by num_attention_heads=7"):
        Wav2Vec2Model(config)


def parameters(head: Callable[[Wav2Vec2Config], Any], config: Wav2Vec2Config) -> int:
    """How many numbers a model has; nothing is allocated."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in head(config).parameters())


#: Trunk, mask embedding, quantizer and both projections, as published for the self-supervised models.
SSL_PARAMETERS = {
    "omniasr_300m": 317_390_592,
    "omniasr_1b": 965_514_752,
    "omniasr_3b": 3_064_124_672,
    "omniasr_7b": 6_488_487_168,
}


@pytest.mark.parametrize(("name", "count"), SSL_PARAMETERS.items())
def test_omnilingual_models_have_their_published_size(name: str, count: int) -> None:
    config = getattr(presets, name)()
    assert config.num_attention_heads == 16
    assert parameters(Wav2Vec2ForPreTraining, config) == count


@pytest.mark.parametrize(
    ("name", "layers", "width", "heads", "millions"),
    [
        ("base", 12, 768, 12, 95),
        ("large", 24, 1024, 16, 317),
        ("large_lv60k", 24, 1024, 16, 317),
        ("xls_r_300m", 24, 1024, 16, 317),
        ("xls_r_1b", 48, 1280, 16, 965),
        ("xls_r_2b", 48, 1920, 16, 2162),
    ],
)
def test_published_sizes(name: str, layers: int, width: int, heads: int, millions: int) -> None:
    config = getattr(presets, name)()
    shape = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
    assert shape == (layers, width, heads)
    assert parameters(Wav2Vec2ForPreTraining, config) / 1e6 == pytest.approx(millions, abs=1)


def test_mms_is_xls_r_with_language_adapters() -> None:
    """48 adapters of two layer norm vectors, 1280 x 16 and 16 x 1280 weights and their biases; or none of them."""
    with_adapters, without = presets.mms_1b(), presets.mms_1b(adapter_attn_dim=None)
    adapter = 2 * 1280 + 2 * 1280 * 16 + 16 + 1280
    assert parameters(Wav2Vec2ForCTC, with_adapters) - parameters(Wav2Vec2ForCTC, without) == 48 * adapter
    assert parameters(Wav2Vec2ForCTC, without) == parameters(Wav2Vec2ForCTC, presets.xls_r_1b())


def test_tiny_is_small_and_pretrains_as_base_does() -> None:
    tiny, base = presets.tiny(), presets.base()
    assert parameters(Wav2Vec2ForPreTraining, tiny) < 4e6
    assert tiny.inputs_to_logits_ratio == base.inputs_to_logits_ratio == 320
    for name in ("layerdrop", "mask_time_prob", "feature_grad_mult", "feature_penalty_weight", "feat_extract_norm"):
        assert getattr(tiny, name) == getattr(base, name)


def test_small_is_the_shape_of_the_measured_model() -> None:
    """16.3 M parameters; what its checkpoint's configuration has otherwise than BASE's, typed by hand."""
    small, base = presets.small().to_dict(), presets.base().to_dict()
    assert parameters(Wav2Vec2ForPreTraining, presets.small()) / 1e6 == pytest.approx(16.3, abs=0.05)
    assert {name: value for name, value in small.items() if value != base[name]} == {
        **{"conv_dim": [256] * 7, "hidden_size": 384, "output_hidden_size": 384, "intermediate_size": 1536},
        **{"num_hidden_layers": 8, "num_attention_heads": 6, "num_conv_pos_embeddings": 64, "layerdrop": 0.0},
        **{"do_stable_layer_norm": True, "initializer_range": 0.03, "hidden_dropout": 0.05, "attention_dropout": 0.0},
        **{"feat_proj_dropout": 0.05, "feat_quantizer_dropout": 0.05},
        **{"feature_penalty_weight": 1.0, "diversity_loss_weight": 0.5},
    }


PRESETS = [
    *SSL_PARAMETERS,
    "tiny",
    "small",
    "base",
    "large",
    "large_lv60k",
    "xls_r_300m",
    "xls_r_1b",
    "xls_r_2b",
    "mms_1b",
]


@pytest.mark.parametrize("name", PRESETS)
def test_any_field_of_a_preset_can_be_given(name: str) -> None:
    """Also one that the preset states itself."""
    preset = getattr(presets, name)
    config = preset(layerdrop=0.33, vocab_size=77, hidden_size=240, num_attention_heads=5)
    assert (config.layerdrop, config.vocab_size, config.hidden_size, config.num_attention_heads) == (0.33, 77, 240, 5)
    assert config.num_hidden_layers == preset().num_hidden_layers
    with pytest.raises(ValueError, match="layerdrop=3: must be a probability"):
        preset(layerdrop=3)


@pytest.mark.parametrize(
    ("name", "dropout", "layerdrop", "gradient", "penalty"),
    [("base", 0.1, 0.05, 0.1, 10.0), ("large", 0.1, 0.2, 0.1, 10.0), ("large_lv60k", 0.0, 0.0, 1.0, 0.0)],
)
def test_pretraining_settings_are_those_of_fairseq(
    name: str, dropout: float, layerdrop: float, gradient: float, penalty: float
) -> None:
    config = getattr(presets, name)()
    dropouts = ("hidden_dropout", "attention_dropout", "feat_proj_dropout", "feat_quantizer_dropout")
    assert {getattr(config, field) for field in dropouts} == {dropout}
    assert config.activation_dropout == 0.0
    assert (config.layerdrop, config.feature_grad_mult, config.feature_penalty_weight) == (layerdrop, gradient, penalty)
    assert (config.mask_time_prob, config.mask_time_length, config.mask_time_min_masks) == (0.65, 10, 2)
    assert (config.num_negatives, config.diversity_loss_weight) == (100, 0.1)


@pytest.mark.parametrize(("name", "floor", "thousands"), [("base", 0.5, 277), ("large", 0.1, 599)])
def test_the_gumbel_temperature_reaches_its_floor(name: str, floor: float, thousands: int) -> None:
    """From 2, times 0.999995 per update."""
    config = getattr(presets, name)()
    assert config.gumbel_temperature(0) == 2.0
    assert config.gumbel_temperature(1) == pytest.approx(2 * 0.999995, rel=1e-12)
    assert config.gumbel_temperature((thousands - 1) * 1000) > floor
    assert config.gumbel_temperature((thousands + 1) * 1000) == floor
    assert config.gumbel_temperature(10**9) == floor


def test_the_temperature_continues_where_the_weights_stand(tmp_path: Path) -> None:
    """The count of updates is saved with a model, so its temperature is too."""
    small = {"num_hidden_layers": 1, "intermediate_size": 8, "hidden_size": 48, "num_conv_pos_embeddings": 8}
    model = Wav2Vec2ForPreTraining(presets.base(conv_dim=(8,) * 7, **small))
    assert float(model.quantizer.temperature) == 2.0
    model.set_update(100_000)
    expected = 2 * 0.999995**100_000
    assert float(model.quantizer.temperature) == pytest.approx(expected)
    model.save_pretrained(tmp_path)
    again = Wav2Vec2ForPreTraining.from_pretrained(tmp_path)
    assert again.config.pretraining_updates == 100_000
    assert float(again.quantizer.temperature) == pytest.approx(expected)
