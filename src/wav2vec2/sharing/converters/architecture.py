"""What a model is, from the names and shapes of its tensors, and whether they are all of them.

Not in any tensor: the number of attention heads, the strides of the convolutions, and whether the norms stand before or
behind the blocks. An origin that writes them down is asked; else they are those of the published sizes, or the user's.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Model
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.sharing.converters.lazy_tensors import LazyTensor, Shape
from wav2vec2.sharing.converters.tensor_names import Naming

#: Layers and width of the published sizes, and their attention heads: BASE, LARGE and XLS-R 0.3B and Omnilingual 300M,
#: XLS-R, MMS and Omnilingual 1B, XLS-R 2B, Omnilingual 3B and 7B.
HEADS = {(12, 768): 12, (24, 1024): 16, (48, 1280): 16, (48, 1920): 16, (60, 2048): 16, (128, 2048): 16}
#: Kernels of the convolutions, and their strides.
STRIDES: dict[Shape, Shape] = {(10, 3, 3, 3, 3, 2, 2): (5, 2, 2, 2, 2, 2, 2)}

ARCHITECTURES: dict[str, Any] = {
    "Wav2Vec2ForCTC": Wav2Vec2ForCTC,
    "Wav2Vec2ForPreTraining": Wav2Vec2ForPreTraining,
    "Wav2Vec2Model": Wav2Vec2Model,
}

ShapeOf = Callable[[str], Shape | None]


def shapes_under(naming: Naming, tensors: Mapping[str, LazyTensor]) -> ShapeOf:
    """Shapes of an origin's tensors, asked for by our names."""

    def shape_of(ours: str) -> Shape | None:
        name = naming.foreign(ours)
        return None if name is None or name not in tensors else tensors[name].shape

    return shape_of


def config_from_shapes(source: object, shape_of: ShapeOf, known: Mapping[str, Any]) -> Wav2Vec2Config:
    """The configuration of a model whose norms are known. What is `known` goes before what the shapes say; what neither
    says is a `CheckpointError` that asks for it."""
    conv = _convolutions(shape_of)
    positions = shape_of("encoder.pos_conv_embed.conv.parametrizations.weight.original1")
    inner = shape_of("encoder.layers.0.feed_forward.intermediate_dense.weight")
    layers = _count(shape_of, "encoder.layers.{}.layer_norm.weight")
    ranks = {len(shape) for shape in conv} | {len(positions or ())}
    if not conv or positions is None or inner is None or ranks != {3} or len(inner) != 2 or 0 in positions:
        raise CheckpointError(
            f"{source}: lacks the convolutions, the positional convolution or the layers of a wav2vec 2.0 model"
        )
    kernels = tuple(shape[2] for shape in conv)
    found: dict[str, Any] = {
        "conv_dim": [shape[0] for shape in conv],
        "conv_kernel": list(kernels),
        "conv_stride": list(STRIDES.get(kernels, ())) or None,
        "conv_bias": shape_of("feature_extractor.conv_layers.0.conv.bias") is not None,
        "hidden_size": positions[0],
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS.get((layers, positions[0])),
        "intermediate_size": inner[0],
        "num_conv_pos_embeddings": positions[2],
        "num_conv_pos_embedding_groups": positions[0] // positions[1],
        **_of_heads(shape_of),
        **known,
    }
    for name in ("num_attention_heads", "conv_stride"):
        if found[name] is None:
            raise CheckpointError(
                f"{source}: {name} stands in no tensor, and {layers} layers of width {positions[0]} with kernels "
                f"{kernels} are no published size; say it: --config {name}=..., in Python config={{{name!r}: ...}}"
            )
    return made_config(source, found)


def published_settings(config: Wav2Vec2Config) -> dict[str, Any]:
    """Of what stands in no tensor, that which models of these sizes are published with."""
    heads = HEADS.get((config.num_hidden_layers, config.hidden_size))
    strides = STRIDES.get(tuple(config.conv_kernel))
    return ({} if heads is None else {"num_attention_heads": heads}) | (
        {} if strides is None else {"conv_stride": list(strides)}
    )


def made_config(source: object, fields: Mapping[str, Any]) -> Wav2Vec2Config:
    """A configuration that a model can be built of, or a `CheckpointError`."""
    try:
        config = Wav2Vec2Config(**fields)
        config.check()
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{source}: {error}") from error
    return config


def _convolutions(shape_of: ShapeOf) -> list[Shape]:
    count = _count(shape_of, "feature_extractor.conv_layers.{}.conv.weight")
    return [shape_of(f"feature_extractor.conv_layers.{number}.conv.weight") or () for number in range(count)]


def _count(shape_of: ShapeOf, name: str) -> int:
    number = 0
    while shape_of(name.format(number)) is not None:
        number += 1
    return number


def _of_heads(shape_of: ShapeOf) -> dict[str, Any]:
    """What adapters, codebooks and the head over tokens say."""
    found: dict[str, Any] = {}
    adapter = shape_of("encoder.layers.0.adapter_layer.linear_1.weight")
    codes, target = shape_of("quantizer.codevectors"), shape_of("project_q.weight")
    head = shape_of("lm_head.weight")
    if adapter:
        found["adapter_attn_dim"] = adapter[-2] if len(adapter) > 1 else 0
    if codes and target and len(codes) == 3 and len(target) == 2 and codes[2]:
        groups = max(1, target[1] // codes[2])
        found |= {
            "num_codevector_groups": groups,
            "num_codevectors_per_group": codes[1] // groups,
            "codevector_dim": target[1],
            "proj_codevector_dim": target[0],
        }
    if head:
        found["vocab_size"] = head[0]
    return found


def expected_shapes(architecture: str, config: Wav2Vec2Config) -> dict[str, Shape]:
    """Name and shape of every tensor of a model, which is built for it without values."""
    with torch.device("meta"):
        model = ARCHITECTURES[architecture](config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def under_our_names(
    source: object, tensors: Mapping[str, LazyTensor], names: Mapping[str, str], expected: Mapping[str, Shape]
) -> dict[str, LazyTensor]:
    """The tensors of an origin, whose `names` are given with ours, as those of a model of `expected` shapes. Any that
    is missing, unknown or of another shape is listed in one `CheckpointError`."""
    complaints = [f"{name}: missing" for name in names if name not in tensors]
    complaints += [f"{name}: unknown" for name in tensors if name not in names]
    ours = {names[name]: tensor for name, tensor in tensors.items() if name in names}
    complaints += [
        f"{name}: {tensor.shape} in the file, {expected[names[name]]} in the model"
        for name, tensor in tensors.items()
        if name in names and tensor.shape != expected[names[name]]
    ]
    if complaints:
        more = [f"and {len(complaints) - 30} more"] if len(complaints) > 30 else []
        listing = "\n  ".join([*sorted(complaints)[:30], *more])
        raise CheckpointError(f"{source} does not fit a model of wav2vec 2.0:\n  {listing}")
    return ours
