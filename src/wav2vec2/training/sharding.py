"""One model over several processes: FSDP2 as Accelerate wraps it, as the run itself asks for it with `run.shard_over`.

Each of so many processes holds its part of every weight, gradient and optimizer state, and puts together one
Transformer layer at a time, forwards and again backwards. With more processes than that, each such group holds a copy
(HSDP), so that only gradients travel between the groups, which are machines as a rule.

What is computed is what one process computes: the weights stay in fp32, products are in 16 bits as autocast has it, and
gradients are added up in fp32. (Accelerate's own choice casts weights, inputs, losses and sums of gradients to bf16.)

The main process alone makes or loads the weights (`gets_weights`), since all of a machine's would not fit into its
memory, and hands them to the others one tensor at a time once the model is divided (`hand_out`).
"""

import ctypes
import sys
from functools import wraps
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedType,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    ParallelismConfig,
)
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, register_fsdp_forward_method

from wav2vec2.modeling.transformer_encoder import Wav2Vec2EncoderLayer
from wav2vec2.training.saving.named_states import piece_of, without_wrappers

#: Of a parameter, what AdamW keeps beside it: weight, gradient and two averages, in fp32.
_BYTES = 4 * 4
_GIB = 2**30
#: glibc's name (malloc.h) for the size from which on memory that is freed goes back to the system, and our value.
_M_MMAP_THRESHOLD, _THRESHOLD = -3, 2**20


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
    _give_back_what_is_freed()


def _give_back_what_is_freed() -> None:
    """glibc keeps what is freed, up to 32 MiB a piece, and layers that are put together leave it in fragments: a
    process would hold more than that of an undivided model. Other libraries have no such setting and no need of it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)


def gets_weights() -> bool:
    """Whether this process is handed the weights of a divided model, and need not make them."""
    if not AcceleratorState._shared_state:  # asking it would begin a run on one process
        return False
    state: Any = AcceleratorState()
    return bool(state.distributed_type == DistributedType.FSDP and state.process_index > 0)


def whole_weights(accelerator: Accelerator, model: nn.Module) -> dict[str, Tensor]:
    """What the main process keeps of a model that is about to be divided, to hand it out: weights and buffers."""
    if not accelerator.is_main_process:
        return {}
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


@torch.no_grad()
def hand_out(accelerator: Accelerator, whole: dict[str, Tensor], divided_model: nn.Module) -> None:
    """Give every process its part of the main one's weights, which are let go of one by one, and the state of its
    random numbers, of which the others have drawn none. All processes must call."""
    for name, own in (*divided_model.named_parameters(), *divided_model.named_buffers()):
        if accelerator.is_main_process:
            tensor = whole.pop(without_wrappers(name)).to(accelerator.device).contiguous()
        else:
            tensor = torch.empty(own.shape, dtype=own.dtype, device=accelerator.device)
        dist.broadcast(tensor, src=0)
        own.copy_(piece_of(tensor, own))
    numbers = torch.get_rng_state().to(accelerator.device)
    dist.broadcast(numbers, src=0)
    torch.set_rng_state(numbers.cpu())


def compute_as_undivided(accelerator: Accelerator, model: nn.Module) -> None:
    """Give a model that is about to be divided the autocast that Accelerate gives all others.

    A weight that was cast is not kept for its next use, since there is none before it is put together again.
    """
    plugin = accelerator.state.fsdp_plugin
    plugin.mixed_precision_policy, plugin.cpu_ram_efficient_loading = MixedPrecisionPolicy(), False  # `hand_out` does
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
