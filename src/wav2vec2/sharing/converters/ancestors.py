"""wav2vec (2019) and vq-wav2vec under fairseq's names and settings, and under ours: nothing is read, nothing computed.

    to_ours(tensors, settings)          what a file of fairseq holds -> configuration, and the same tensors by our names
    to_fairseq(tensors, configuration)  the way back

Every tensor keeps its shape and its bits: our parameters are laid out as fairseq saves them. So a tensor here is
whatever has a shape. fairseq keeps layers as Python text, `[(512, 10, 5)] + [(512, 8, 4)]`: it is parsed, not run.
"""

import ast
import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from wav2vec2.baselines import VQWav2VecConfig, VQWav2VecForPreTraining, Wav2VecConfig, Wav2VecForPreTraining
from wav2vec2.modeling.loading import CheckpointError

logger = logging.getLogger("wav2vec2")


class Shaped(Protocol):
    """A tensor, or what stands for one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size in every direction."""


T = TypeVar("T", bound=Shaped)

#: Settings that mean the same here, by fairseq's name, with ours and fairseq's default where it never changed. Those
#: without one were left out by default in 2019 and are on by default since 2020: a file must say them.
_NO_DEFAULT = object()
_SAME: dict[str, tuple[str, Any]] = {
    "log_compression": ("log_compression", _NO_DEFAULT),
    "skip_connections_agg": ("context_skip_connections", _NO_DEFAULT),
    "skip_connections_feat": ("conv_skip_connections", False),
    "residual_scale": ("residual_scale", 0.5),
    "activation": ("activation", "relu"),
    "agg_zero_pad": ("context_zero_padding", False),
    "dropout": ("dropout", 0.0),
    "dropout_features": ("feature_dropout", 0.0),
    "dropout_agg": ("context_dropout", 0.0),
    "prediction_steps": ("num_prediction_steps", 12),
    "num_negatives": ("num_negatives", 10),
    "balanced_classes": ("balanced_classes", False),
    "num_updates": ("pretraining_updates", 0),
}
#: Settings that say the opposite.
_OPPOSITE = {"no_conv_bias": "context_bias", "non_affine_group_norm": "norm_affine"}
#: The same of a quantizer.
_SAME_OF_QUANTIZER: dict[str, tuple[str, Any]] = {
    "vq_groups": ("num_codevector_groups", 2),
    "vq_vars": ("num_codevectors_per_group", 320),
    "vq_depth": ("quantizer_depth", 1),
    "combine_groups": ("share_codebook", False),
    "vq_gamma": ("commitment_weight", 0.25),
}
#: What would make another model of the same names.
_ONLY = {"aggregator": "cnn", "project_features": "none"}
#: What changes the objective alone, and has no counterpart here: the value that leaves it as ours.
_OBJECTIVE = {"infonce": False, "cross_sample_negatives": 0, "sample_distance": None}

#: The non-linearities that fairseq has for these models.
_ACTIVATIONS = ("relu", "gelu")

#: More layers than this no model has, nor longer text.
_MOST_LAYERS, _LONGEST_TEXT = 200, 10_000


class Parameter(NamedTuple):
    """A parameter: what fairseq calls it (`theirs`), what we call it (`ours`), and its `shape`."""

    theirs: str
    ours: str
    shape: tuple[int, ...]


def to_ours(tensors: Mapping[str, T], settings: Mapping[str, Any]) -> tuple[Wav2VecConfig, dict[str, T]]:
    """The configuration and the tensors of a model whose fairseq names and settings these are."""
    config = config_of(settings)
    return config, renamed(tensors, {one.theirs: (one.ours, one.shape) for one in parameters_of(config)})


def to_fairseq(tensors: Mapping[str, T], config: Wav2VecConfig) -> tuple[dict[str, T], dict[str, Any]]:
    """What `to_ours` was given: fairseq's names, and its settings."""
    named = renamed(tensors, {one.ours: (one.theirs, one.shape) for one in parameters_of(config)})
    return named, settings_of(config)


def renamed(tensors: Mapping[str, T], known: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, T]:
    """The tensors by their other names; `known` has the other name and the shape of each. `CheckpointError` lists what
    is missing, left over, or of another shape."""
    problems = [f"{name}: missing" for name in known if name not in tensors]
    problems += [f"{name}: not part of the model that the settings describe" for name in tensors if name not in known]
    problems += [
        f"{name}: {tuple(tensors[name].shape)}, where the settings say {shape}"
        for name, (_, shape) in known.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        raise CheckpointError("\n  ".join(["tensors and settings do not fit:", *sorted(problems)]))
    return {known[name][0]: tensor for name, tensor in tensors.items()}


def parameters_of(config: Wav2VecConfig) -> list[Parameter]:
    """Every parameter of a model; no memory is taken for it."""
    try:
        with torch.device("meta"):
            own = {name: tuple(tensor.shape) for name, tensor in model_class(config)(config).state_dict().items()}
    except (RuntimeError, OverflowError, TypeError, MemoryError) as error:
        raise CheckpointError(f"no model can have these settings: {error}") from error
    named = [
        (f"{theirs}{end}", f"{ours}{end}") for theirs, ours in name_pairs(config) for end in ("", ".weight", ".bias")
    ]
    return [Parameter(theirs, ours, own[ours]) for theirs, ours in named if ours in own]


def model_class(config: Wav2VecConfig) -> type[Wav2VecForPreTraining]:
    """The model that a configuration is of, with its objective: nothing of the file is left over."""
    return VQWav2VecForPreTraining if isinstance(config, VQWav2VecConfig) else Wav2VecForPreTraining


def name_pairs(config: Wav2VecConfig) -> Iterator[tuple[str, str]]:
    """fairseq's name and ours of every layer that has parameters, without `.weight` and `.bias`, and of every parameter
    that stands alone. A layer that the model does not have may be among them."""
    for index in range(len(config.conv_dim)):
        theirs, ours = f"feature_extractor.conv_layers.{index}", f"wav2vec.feature_extractor.conv_layers.{index}"
        yield f"{theirs}.0", f"{ours}.conv"
        yield f"{theirs}.2", f"{ours}.norm"
    for index in range(len(config.context_dim)):
        theirs, ours = f"feature_aggregator.conv_layers.{index}", f"wav2vec.feature_aggregator.conv_layers.{index}"
        yield f"{theirs}.1", f"{ours}.conv"
        yield f"{theirs}.3", f"{ours}.norm"
        yield f"feature_aggregator.residual_proj.{index}", f"{ours}.residual"
    yield "wav2vec_predictions.project_to_steps", "step_predictions.project_to_steps"
    if isinstance(config, VQWav2VecConfig):
        yield from quantizer_pairs(config)


def quantizer_pairs(config: VQWav2VecConfig) -> Iterator[tuple[str, str]]:
    """The same of the quantizer."""
    theirs, ours = "vector_quantizer", "wav2vec.quantizer"
    if config.quantizer == "kmeans":
        yield f"{theirs}.embedding", f"{ours}.codevectors"
        yield f"{theirs}.projection.0", f"{ours}.projection"
        yield f"{theirs}.projection.1", f"{ours}.norm"
        return
    yield f"{theirs}.vars", f"{ours}.codevectors"
    last = config.quantizer_depth - 1
    for index in range(last):
        yield f"{theirs}.weight_proj.{index}.0", f"{ours}.scores.{index}"
    yield (f"{theirs}.weight_proj.{last}" if last else f"{theirs}.weight_proj"), f"{ours}.scores.{last}"


def config_of(settings: Mapping[str, Any]) -> Wav2VecConfig:
    """The configuration that fairseq's settings describe; `CheckpointError` names what cannot be had here."""
    settings = _plain(settings)
    if wrong := _unlike(settings, _ONLY):
        raise CheckpointError(f"a model of another kind, which is not supported: {', '.join(wrong)}")
    if other := _unlike(settings, _OBJECTIVE):
        logger.warning("trained with %s: going on from it here uses the objective of the paper", ", ".join(other))
    values = _values(settings, _SAME) | {ours: not settings.get(name, False) for name, ours in _OPPOSITE.items()}
    values["conv_dim"], values["conv_kernel"], values["conv_stride"] = _layers(settings, "conv_feature_layers")
    values["context_dim"], values["context_kernel"], strides = _layers(settings, "conv_aggregator_layers")
    if set(strides) != {1}:
        raise CheckpointError(f"conv_aggregator_layers={settings['conv_aggregator_layers']!r}: all strides must be 1")
    values["prediction_offset"] = None if (offset := settings.get("offset", "auto")) == "auto" else _number(offset)
    quantizer = settings.get("vq_type") or "none"
    try:
        if quantizer == "none":
            return Wav2VecConfig(**values)
        return VQWav2VecConfig(**values, quantizer=quantizer, **_quantizer_values(settings))
    except (ValueError, TypeError) as error:
        raise CheckpointError(str(error)) from error


def settings_of(config: Wav2VecConfig) -> dict[str, Any]:
    """fairseq's settings for a configuration: `config_of` gives the same configuration again."""
    if config.activation not in _ACTIVATIONS:
        raise CheckpointError(f"activation={config.activation!r}: fairseq has {' and '.join(_ACTIVATIONS)}")
    settings: dict[str, Any] = {"arch": "wav2vec", "task": "audio_pretraining", "criterion": "wav2vec"}
    settings |= {name: getattr(config, ours) for name, (ours, _) in _SAME.items()}
    settings |= {name: not getattr(config, ours) for name, ours in _OPPOSITE.items()}
    settings |= (
        _ONLY | _OBJECTIVE | {"offset": "auto" if config.prediction_offset is None else config.prediction_offset}
    )
    strides = (1,) * len(config.context_dim)
    settings["conv_feature_layers"] = _text(config.conv_dim, config.conv_kernel, config.conv_stride)
    settings["conv_aggregator_layers"] = _text(config.context_dim, config.context_kernel, strides)
    settings["vq_type"] = "none"
    if isinstance(config, VQWav2VecConfig):
        settings |= {name: getattr(config, ours) for name, (ours, _) in _SAME_OF_QUANTIZER.items()}
        settings |= {"vq_type": config.quantizer, "vq_dim": config.codevector_dim}
        start, end, decay = "gumbel_temperature_start", "gumbel_temperature_end", "gumbel_temperature_decay"
        settings["vq_temp"] = tuple(getattr(config, name) for name in (start, end, decay))
        settings["loss_weights"] = [config.kmeans_loss_weight] if config.quantizer == "kmeans" else None
    return settings


def _quantizer_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(depth := settings.get("vq_depth"), int) and depth > _MOST_LAYERS:
        raise CheckpointError(f"vq_depth={depth}: must be at most {_MOST_LAYERS}")
    values = _values(settings, _SAME_OF_QUANTIZER) | {"codevector_dim": settings.get("vq_dim") or None}
    start, end, decay = _parsed(settings.get("vq_temp", (2.0, 0.5, 0.999995)), "vq_temp", length=3)
    values |= {"gumbel_temperature_start": start, "gumbel_temperature_end": end, "gumbel_temperature_decay": decay}
    weights = settings.get("loss_weights")
    if weights is not None and settings["vq_type"] == "kmeans":
        (values["kmeans_loss_weight"],) = _parsed(weights, "loss_weights", length=1)
    return values


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what is no number, text or list of them, which none of the model's is."""
    return {
        name: value
        for name, value in settings.items()
        if value is None or isinstance(value, str | int | float | list | tuple)
    }


def _unlike(settings: Mapping[str, Any], plain: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}={settings[name]!r}" for name, value in plain.items() if settings.get(name, value) not in (value, None)
    ]


def _values(settings: Mapping[str, Any], table: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    missing = [name for name, (_, default) in table.items() if default is _NO_DEFAULT and name not in settings]
    if missing:
        raise CheckpointError(f"the settings do not say {', '.join(missing)}, whose default changed over the years")
    return {ours: settings.get(name, default) for name, (ours, default) in table.items()}


def _layers(settings: Mapping[str, Any], name: str) -> tuple[tuple[int, ...], ...]:
    """Widths, kernel sizes and strides."""
    layers = _parsed(settings.get(name, ""), name)
    fine = all(isinstance(one, list | tuple) and len(one) == 3 and all(type(n) is int for n in one) for one in layers)
    if not layers or not fine:
        raise CheckpointError(f"{name}={settings.get(name)!r}: must be a list of (width, kernel size, stride)")
    widths, kernels, strides = zip(*layers, strict=True)
    return widths, kernels, strides


def _text(*columns: Any) -> str:
    return str([tuple(layer) for layer in zip(*columns, strict=True)])


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"offset={value!r}: must be a number of frames, or auto") from error


def _parsed(value: Any, name: str, length: int | None = None) -> list[Any]:
    """A list, or a list that is written as Python: numbers in brackets, added up and multiplied."""
    try:
        found = _read(ast.parse(value[:_LONGEST_TEXT], mode="eval").body) if isinstance(value, str) else list(value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list) or length not in (None, len(found)):
        raise CheckpointError(f"{name}={value!r}: must be a list" + ("" if length is None else f" of {length}"))
    return found


def _read(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_read(part) for part in parts]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _as_list(left) + _as_list(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))) if times <= _MOST_LAYERS:
            return (_as_list(left) * times)[:_MOST_LAYERS]
    raise ValueError("not a list of numbers")


def _as_list(node: ast.expr) -> list[Any]:
    value = _read(node)
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value
