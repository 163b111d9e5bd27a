"""What a configuration may hold: one table of rules per kind of value, and the relations between fields."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from transformers.configuration_utils import PreTrainedConfig

#: Whether a value is possible, and what would be right.
Rule = tuple[Callable[[Any], bool], str]


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive_list(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(_is_integer(v, 1) for v in value)


def _is_activation(value: object) -> bool:
    from transformers.activations import ACT2FN  # imports torch, which a configuration alone does not need

    return callable(value) or value in ACT2FN


POSITIVE: Rule = (lambda v: _is_integer(v, 1), "must be a positive integer")
COUNT: Rule = (lambda v: _is_integer(v, 0), "must be an integer of at least 0")
OPTIONAL_POSITIVE: Rule = (lambda v: v is None or _is_integer(v, 1), "must be a positive integer or None")
OPTIONAL_COUNT: Rule = (lambda v: v is None or _is_integer(v, 0), "must be an integer of at least 0, or None")
OPTIONAL_INTEGER: Rule = (
    lambda v: v is None or (isinstance(v, int) and not isinstance(v, bool)),
    "must be an integer or None",
)
PROBABILITY: Rule = (lambda v: _is_number(v) and 0 <= v <= 1, "must be a probability between 0 and 1")
ABOVE_ZERO: Rule = (lambda v: _is_number(v) and 0 < v < float("inf"), "must be a number above 0")
NOT_NEGATIVE: Rule = (lambda v: _is_number(v) and 0 <= v < float("inf"), "must be a number of at least 0")
FACTOR: Rule = (lambda v: _is_number(v) and 0 < v <= 1, "must be a factor above 0 and at most 1")
FLAG: Rule = (lambda v: isinstance(v, bool), "must be True or False")
POSITIVE_LIST: Rule = (_is_positive_list, "must be a list of positive integers")
ACTIVATION: Rule = (_is_activation, 'must be an activation that Transformers knows, as "gelu"')

#: Rules, and the names of the fields that each is for.
Rules = Sequence[tuple[Rule, str]]

_RULES: Rules = [
    (
        POSITIVE,
        "hidden_size num_attention_heads intermediate_size num_conv_pos_embeddings "
        "num_conv_pos_embedding_groups num_codevectors_per_group "
        "num_codevector_groups codevector_dim proj_codevector_dim num_negatives classifier_proj_size "
        "xvector_output_dim adapter_kernel_size adapter_stride output_hidden_size "
        "ctc_head_size ctc_head_layers ctc_head_stride",
    ),
    (
        COUNT,
        "num_hidden_layers num_adapter_layers mask_time_length mask_feature_length mask_time_min_masks "
        "mask_feature_min_masks pretraining_updates attention_right attention_sinks",
    ),
    (OPTIONAL_POSITIVE, "vocab_size adapter_attn_dim attention_chunk"),
    (OPTIONAL_COUNT, "attention_left"),
    (OPTIONAL_INTEGER, "pad_token_id"),
    (
        PROBABILITY,
        "feat_proj_dropout feat_quantizer_dropout hidden_dropout activation_dropout attention_dropout "
        "layerdrop final_dropout ctc_head_dropout",
    ),
    (ABOVE_ZERO, "contrastive_logits_temperature gumbel_temperature_start gumbel_temperature_end"),
    (FACTOR, "gumbel_temperature_decay"),
    (
        NOT_NEGATIVE,
        "initializer_range layer_norm_eps diversity_loss_weight feature_grad_mult feature_penalty_weight "
        "mask_time_prob mask_feature_prob",
    ),
    (
        FLAG,
        "conv_bias do_stable_layer_norm apply_spec_augment ctc_zero_infinity use_weighted_layer_sum add_adapter "
        "padding_invariant_norm ctc_drop_infeasible ctc_head_masks tuned_in_chunks",
    ),
    (POSITIVE_LIST, "conv_dim conv_stride conv_kernel tdnn_dim tdnn_kernel tdnn_dilation"),
    (ACTIVATION, "hidden_act feat_extract_activation"),
    ((lambda v: v in ("group", "layer"), 'must be "group" or "layer"'), "feat_extract_norm"),
    ((lambda v: v in ("linear", "recurrent"), 'must be "linear" or "recurrent"'), "ctc_head"),
    ((lambda v: v in ("sum", "mean", "none"), 'must be "sum", "mean" or "none"'), "ctc_loss_reduction"),
    (
        (lambda v: v is None or (_is_number(v) and 0 < v < float("inf")), "must be a number above 0, or None"),
        "gumbel_temperature_by_hand",
    ),
]


#: The fields involved, and a function that gives the problem or None.
Relation = tuple[tuple[str, ...], Callable[[], str | None]]


def problems_of(config: PreTrainedConfig, of_a_model: bool = True) -> list[str]:
    """One line per impossible value, and per contradiction between fields that are possible on their own.

    Without `of_a_model`, contradictions that keep a model from being built do not count: a configuration may yet be
    changed, and stock Transformers loads it.
    """
    broken = broken_rules(config, _RULES)
    problems, bad = list(broken.values()), broken.keys()
    relations = [*_layout(config), *_model(config)] if of_a_model else [*_layout(config)]
    for names, line in relations:
        if not bad & set(names):
            problem = line()
            if problem:
                problems.append(problem)
    return problems


def broken_rules(config: PreTrainedConfig, rules: Rules) -> dict[str, str]:
    """The fields whose values are impossible by themselves, and a line on each."""
    return {
        name: f"{name}={getattr(config, name)!r}: {wish}"
        for (holds, wish), fields in rules
        for name in fields.split()
        if not holds(getattr(config, name))
    }


def _layout(config: PreTrainedConfig) -> Iterator[Relation]:
    """Relations within the convolutions. Stock Transformers, too, compares their lists as soon as it has them."""
    lists = ("conv_dim", "conv_stride", "conv_kernel")
    yield lists, lambda: equally_long(config, *lists)


def _model(config: PreTrainedConfig) -> Iterator[Relation]:
    for whole, part in (
        ("hidden_size", "num_attention_heads"),
        ("hidden_size", "num_conv_pos_embedding_groups"),
        ("codevector_dim", "num_codevector_groups"),
    ):
        yield (whole, part), partial(_divisible, config, whole, part)
    lists = ("tdnn_dim", "tdnn_kernel", "tdnn_dilation")
    yield lists, lambda: equally_long(config, *lists)
    for share, length in (("mask_time_prob", "mask_time_length"), ("mask_feature_prob", "mask_feature_length")):
        yield (share, length), partial(_spans_have_length, config, share, length)
    chunks = (("attention_chunk", None), ("tuned_in_chunks", False))
    for name, none in (("add_adapter", False), ("adapter_attn_dim", None), *chunks):
        yield ("ctc_head", name), partial(_not_under_recurrent_head, config, name, none)
    for name, none in chunks:
        yield (name, "add_adapter"), partial(_no_adapter_behind_chunks, config, name, none)
    yield ("ctc_head", "ctc_head_size", "hidden_size"), partial(_no_linear_head, config)


def _divisible(config: PreTrainedConfig, whole: str, part: str) -> str | None:
    value, divisor = getattr(config, whole), getattr(config, part)
    fine = value % divisor == 0
    return None if fine else f"{whole}={value}: must be divisible by {part}={divisor}"


def equally_long(config: PreTrainedConfig, *names: str) -> str | None:
    """What is wrong if these lists are not equally long."""
    sizes = {name: len(getattr(config, name)) for name in names}
    fine = len(set(sizes.values())) == 1
    told = ", ".join(f"{name} has {size}" for name, size in sizes.items())
    return None if fine else f"{' / '.join(names)}: must be equally long, but {told}"


def _spans_have_length(config: PreTrainedConfig, share: str, length: str) -> str | None:
    fine = getattr(config, length) > 0 or getattr(config, share) == 0
    return None if fine else f"{length}=0: must be a positive integer where {share}={getattr(config, share)}"


def _not_under_recurrent_head(config: PreTrainedConfig, name: str, none: object) -> str | None:
    value = getattr(config, name)
    fine = config.ctc_head != "recurrent" or value == none
    return None if fine else f"{name}={value}: must be {none} where ctc_head='recurrent'"


def _no_adapter_behind_chunks(config: PreTrainedConfig, name: str, none: object) -> str | None:
    """Strided convolutions behind the Transformer would look into the next chunk."""
    value = getattr(config, name)
    fine = value == none or not config.add_adapter
    return None if fine else f"{name}={value}: must be {none} where add_adapter=True"


def _no_linear_head(config: PreTrainedConfig) -> str | None:
    """A recurrent head whose last layer has the shape of a linear head would be loaded as one, elsewhere and here."""
    fine = config.ctc_head != "recurrent" or 2 * config.ctc_head_size != config.hidden_size
    wish = f"must not be half of hidden_size={config.hidden_size}, or its output would be taken for a linear head's"
    return None if fine else f"ctc_head_size={config.ctc_head_size}: {wish}"
