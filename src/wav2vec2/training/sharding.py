"""One model over several processes: FSDP2 as Accelerate wraps it, as the run itself asks for it with `run.shard_over`.

Each of so many processes holds its part of every weight, gradient and optimizer state, and puts together one
Transformer layer at a time, forwards and again backwards. With more processes than that, each such group holds a copy
(HSDP), so that only gradients travel between the groups, which are machines as a rule.

What is computed is what one process computes: the weights stay in fp32, products are in 16 bits as autocast has it, and
gradients are added up in fp32. (Accelerate's own choice casts weights, inputs, losses and sums of gradients to bf16.)
"""

from functools import wraps
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedType,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    ParallelismConfig,
)
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, register_fsdp_forward_method

from wav2vec2.modeling.transformer_encoder import Wav2Vec2EncoderLayer

#: Of a parameter, what AdamW keeps beside it: weight, gradient and two averages, in fp32.
_BYTES = 4 * 4
_GIB = 2**30


def shards_of(processes: int, shard_over: int | None) -> int:
    """Over how many processes each copy of the model is divided: as many as asked for, if there are so many.

    >>> shards_of(64, 8), shards_of(2, 8), shards_of(1, 8), shards_of(4, None)
    (8, 2, 1, 1)
    """
    shards = min(shard_over or 1, processes)
    if processes % shards:
        raise ValueError(
            f"run.shard_over={shard_over}: {processes} processes are no whole number of groups of {shards}; launch a "
            f"multiple of it, or set a divisor of {processes}"
        )
    return shards


def arguments(processes: int, shards: int) -> dict[str, Any]:
    """What Accelerate is to be told so that it divides the model: nothing, if it is not to."""
    if shards == 1:
        return {}
    layer = Wav2Vec2EncoderLayer.__name__
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=[layer],
        mixed_precision_policy=MixedPrecisionPolicy(),
        cpu_ram_efficient_loading=False,
    )
    return {
        "fsdp_plugin": plugin,
        "parallelism_config": ParallelismConfig(dp_replicate_size=processes // shards, dp_shard_size=shards),
        # or each process would hold whole gradients until the last part of an update
        "gradient_accumulation_plugin": GradientAccumulationPlugin(num_steps=1, sync_each_batch=True),
    }


def divide_on_cpus(accelerator: Accelerator, fsdp_plugin: Any, parallelism_config: Any) -> None:
    """Accelerate divides models on accelerators alone, so that it is told afterwards: on CPUs runs can be tried out."""
    state: Any = accelerator.state
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
    state.parallelism_config = parallelism_config
    state.device_mesh = parallelism_config.get_device_mesh("cpu")


def compute_as_undivided(accelerator: Accelerator, model: nn.Module) -> None:
    """Give a model that is about to be divided the autocast that Accelerate gives all others.

    A weight that was cast is not kept for its next use, since there is none before it is put together again.
    """
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
    if not accelerator.native_amp:
        return
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float16
    forward = model.forward

    @wraps(forward)
    def in_16_bits(*values: Any, **named: Any) -> Any:
        with torch.autocast(accelerator.device.type, dtype, cache_enabled=False):
            return forward(*values, **named)

    model.forward = in_16_bits


def divided(wrapped: nn.Module) -> None:
    """Let a divided model be asked for what the losses need beside its forward pass."""
    if hasattr(wrapped, "choice_probabilities"):
        register_fsdp_forward_method(wrapped, "choice_probabilities")


def held_bytes(model: nn.Module, shards: int) -> tuple[int, int]:
    """What one process of a divided model holds of weights, gradients and optimizer, and what it puts together beside
    that at the worst: all weights outside the layers, two layers, and the gradients of both. Activations, of which the
    audio decides, are not in it. A model without storage will do.
    """
    layers = [module for module in model.modules() if isinstance(module, Wav2Vec2EncoderLayer)]
    of_layers = [sum(one.numel() for one in layer.parameters()) for layer in layers]
    in_all = sum(one.numel() for one in model.parameters())
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    held = (_BYTES * trained + 4 * (in_all - trained)) // shards
    outside, layer = in_all - sum(of_layers), max(of_layers, default=0)
    return held, 0 if shards == 1 else 4 * (2 * outside + 3 * layer)


def told_of_division(model: nn.Module, processes: int, shard_over: int | None) -> list[str]:
    """What each process holds of a model that is divided, as a sentence."""
    shards = shards_of(processes, shard_over)
    if shards == 1:
        return []
    held, together = held_bytes(model, shards)
    copies = "one copy of the model" if processes == shards else f"{processes // shards} copies of the model"
    return [
        f"{copies}, each over {shards} processes: {held / _GIB:.3g} GiB of weights, gradients and optimizer in each, "
        f"up to {together / _GIB:.3g} GiB put together, and activations"
    ]
