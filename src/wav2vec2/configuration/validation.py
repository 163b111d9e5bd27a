"""What a configuration may hold: one table of rules per kind of value, and the relations between fields."""

from collections.abc import Callable, Iterator
from typing import Any

Rule = tuple[Callable[[Any], bool], str]


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(_is_integer(v, 1) for v in value)


def _is_activation(value: Any) -> bool:
    from transformers.activations import (
        ACT2FN,
    )  # imports torch, which a configuration alone does not need

    return callable(value) or value in ACT2FN


_POSITIVE: Rule = (lambda v: _is_integer(v, 1), "must be a positive integer")
_COUNT: Rule = (lambda v: _is_integer(v, 0), "must be an integer of at least 0")
_OPTIONAL_POSITIVE: Rule = (
    lambda v: v is None or _is_integer(v, 1),
    "must be a positive integer or None",
)
_OPTIONAL_COUNT: Rule = (
    lambda v: v is None or _is_integer(v, 0),
    "must be an integer of at least 0, or None",
)
_PROBABILITY: Rule = (
    lambda v: _is_number(v) and 0 <= v <= 1,
    "must be a probability between 0 and 1",
)
_ABOVE_ZERO: Rule = (lambda v: _is_number(v) and 0 < v < float("inf"), "must be a number above 0")
_NOT_NEGATIVE: Rule = (
    lambda v: _is_number(v) and 0 <= v < float("inf"),
    "must be a number of at least 0",
)
_FLAG: Rule = (lambda v: isinstance(v, bool), "must be True or False")
_POSITIVE_LIST: Rule = (_is_positive_list, "must be a list of positive integers")
_ACTIVATION: Rule = (_is_activation, 'must be an activation that Transformers knows, as "gelu"')

_RULES: list[tuple[Rule, str]] = [
    (
        _POSITIVE,
        "hidden_size num_hidden_layers num_attention_heads intermediate_size num_conv_pos_embeddings "
        "num_conv_pos_embedding_groups mask_time_length mask_feature_length num_codevectors_per_group "
        "num_codevector_groups codevector_dim proj_codevector_dim num_negatives classifier_proj_size "
        "xvector_output_dim adapter_kernel_size adapter_stride num_adapter_layers output_hidden_size",
    ),
    (_COUNT, "mask_time_min_masks mask_feature_min_masks pretraining_updates"),
    (_OPTIONAL_POSITIVE, "vocab_size adapter_attn_dim"),
    (_OPTIONAL_COUNT, "pad_token_id"),
    (
        _PROBABILITY,
        "feat_proj_dropout feat_quantizer_dropout hidden_dropout activation_dropout attention_dropout "
        "layerdrop final_dropout mask_time_prob mask_feature_prob",
    ),
    (
        _ABOVE_ZERO,
        "layer_norm_eps contrastive_logits_temperature gumbel_temperature_start gumbel_temperature_end",
    ),
    (
        (lambda v: _is_number(v) and 0 < v <= 1, "must be a factor above 0 and at most 1"),
        "gumbel_temperature_decay",
    ),
    (
        _NOT_NEGATIVE,
        "initializer_range diversity_loss_weight feature_grad_mult feature_penalty_weight",
    ),
    (
        _FLAG,
        "conv_bias do_stable_layer_norm apply_spec_augment ctc_zero_infinity use_weighted_layer_sum add_adapter "
        "padding_invariant_norm ctc_drop_infeasible",
    ),
    (_POSITIVE_LIST, "conv_dim conv_stride conv_kernel tdnn_dim tdnn_kernel tdnn_dilation"),
    (_ACTIVATION, "hidden_act feat_extract_activation"),
    (
        (lambda v: v in ("group", "layer"), 'must be "group" or "layer"'),
        "feat_extract_norm",
    ),
    ((lambda v: v in ("sum", "mean"), 'must be "sum" or "mean"'), "ctc_loss_reduction"),
]


def problems_of(config: Any) -> list[str]:
    """One line per impossible value. Relations are looked at only between fields that are possible on their own."""
    problems, bad = [], set()
    for (holds, wish), fields in _RULES:
        for name in fields.split():
            if not holds(getattr(config, name)):
                bad.add(name)
                problems.append(f"{name}={getattr(config, name)!r}: {wish}")
    for names, line in _relations(config):
        if not bad.intersection(names):
            problem = line()
            if problem:
                problems.append(problem)
    return problems


def _relations(config: Any) -> Iterator[tuple[tuple[str, ...], Callable[[], str | None]]]:
    """Pairs of (the fields involved, a function that gives the problem or None)."""

    def divisible(whole: str, part: str) -> Callable[[], str | None]:
        def line() -> str | None:
            value, divisor = getattr(config, whole), getattr(config, part)
            fine = value % divisor == 0
            return None if fine else f"{whole}={value}: must be divisible by {part}={divisor}"

        return line

    def equally_long(*names: str) -> Callable[[], str | None]:
        def line() -> str | None:
            sizes = {name: len(getattr(config, name)) for name in names}
            fine = len(set(sizes.values())) == 1
            told = ", ".join(f"{name} has {size}" for name, size in sizes.items())
            return None if fine else f"{' / '.join(names)}: must be equally long, but {told}"

        return line

    def language_adapters_need_pre_norm() -> str | None:
        if config.adapter_attn_dim is None or config.do_stable_layer_norm:
            return None
        return (
            f"adapter_attn_dim={config.adapter_attn_dim}: language adapters exist only in layers with "
            "do_stable_layer_norm=True (stock leaves them out without a word)"
        )

    for whole, part in (
        ("hidden_size", "num_attention_heads"),
        ("hidden_size", "num_conv_pos_embedding_groups"),
        ("codevector_dim", "num_codevector_groups"),
    ):
        yield (whole, part), divisible(whole, part)
    for lists in (
        ("conv_dim", "conv_stride", "conv_kernel"),
        ("tdnn_dim", "tdnn_kernel", "tdnn_dilation"),
    ):
        yield lists, equally_long(*lists)
    yield ("adapter_attn_dim", "do_stable_layer_norm"), language_adapters_need_pre_norm
