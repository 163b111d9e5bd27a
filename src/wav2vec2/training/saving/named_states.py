"""The weights of a model and the state of its optimizer by the names of parameters, whole, whatever trains them.

On one process, under DDP and under FSDP2 (where each process holds a piece of every tensor) the same tensors come out,
bit by bit, so a run may go on on another number of processes. Indices, by which torch's optimizers file their state,
would change with the order of parameters.

Why not `get_state_dict` and `set_state_dict` of `torch.distributed.checkpoint.state_dict`: to have a state to read or
to fill, they let an empty optimizer take a step with gradients of zero. A parameter that has not been trained yet, as
the encoder during the first updates of a fine-tuning, then counts one step more than it has taken, so Adam corrects its
averages otherwise, and a resumed run is not the uninterrupted one (torch 2.13). They also load tensors of another
precision without an error.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from wav2vec2.modeling.loading import CheckpointError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

#: What wrappers put between the names of modules: DDP, FSDP version 1, `torch.compile` and recomputed activations.
_WRAPPERS = {"module", "_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module"}


def unwrapped(accelerator: Accelerator, model: nn.Module) -> nn.Module:
    """The model without what distributes and compiles it. Under FSDP2 its parameters are still in pieces."""
    inside: nn.Module = accelerator.unwrap_model(model, keep_torch_compile=False)
    if any("flat_param" in name for name, _ in inside.named_parameters()):
        raise ValueError(
            "FSDP version 1 has no names for parameters: set `fsdp_version: 2` in Accelerate's configuration"
        )
    return inside


def without_wrappers(name: str) -> str:
    """The name of a module or parameter as it is in the model alone.

    >>> without_wrappers("module._orig_mod.encoder.layers.0")
    'encoder.layers.0'
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def gather_weights(accelerator: Accelerator, model: nn.Module) -> dict[str, Tensor]:
    """The model's state on the CPU of the main process, nothing on the others. All processes must call."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        weights = accelerator.get_state_dict(model)
        return dict(weights) if accelerator.is_main_process else {}
    return gather_tensors(accelerator, live_weights(accelerator, model))


def gather_tensors(accelerator: Accelerator, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors, whole or in pieces, on the CPU of the main process, nothing on the others. All processes must call."""
    # one by one, so that no accelerator holds all of them whole
    whole = ((name, _whole(tensor)) for name, tensor in tensors.items())
    return {name: tensor.cpu() for name, tensor in whole if accelerator.is_main_process}


def gather_optimizer(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor | float]:
    """The optimizer's tensors and numbers as `parameter/entry`, on the CPU of the main process, nothing on the others.
    All processes must call."""
    gathered: dict[str, Tensor | float] = {}
    for name, parameter in trained_parameters(accelerator, model, optimizer).items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, Tensor | bool | int | float):
                raise TypeError(f"the optimizer's {entry} of {name} is a {type(value).__name__}: cannot be saved")
            whole = _whole(value) if isinstance(value, Tensor) else value
            if accelerator.is_main_process:
                gathered[f"{name}/{entry}"] = whole.cpu() if isinstance(whole, Tensor) else whole
    return gathered


def write_gathered(path: Path, gathered: Mapping[str, Tensor | float]) -> None:
    """Write what was gathered as safetensors: reading it can run no code."""
    tensors = {name: value.contiguous() for name, value in gathered.items() if isinstance(value, Tensor)}
    numbers = {name: value for name, value in gathered.items() if not isinstance(value, Tensor)}
    save_file(tensors, path, {"numbers": json.dumps(numbers)})


@torch.no_grad()
def restore_weights(accelerator: Accelerator, model: nn.Module, path: Path, some: bool = False) -> None:
    """Load a file of weights into a prepared model, strictly: the same names, shapes and precision. With `some` of the
    names, the others keep what they have."""
    stored, own = load_file(path), live_weights(accelerator, model)
    require_same(path, own, {name: kind(tensor) for name, tensor in stored.items()}, some)
    own = {name: tensor for name, tensor in own.items() if name in stored}
    for name, tensor in own.items():
        tensor.copy_(piece_of(stored[name], tensor))


def require_same(path: Path, own: Mapping[str, Tensor], stored: Mapping[str, str], some: bool = False) -> None:
    """A `CheckpointError` unless what is `stored` in `path`, kinds by their names, is what the model has."""
    missing, unknown = sorted(own.keys() - stored.keys()), sorted(stored.keys() - own.keys())
    if unknown or (missing and not some):
        raise CheckpointError(f"{path}: not the weights of this model: missing {missing}, unknown {unknown}")
    for name, found in stored.items():
        if found != kind(own[name]):
            raise CheckpointError(f"{path}: {name} is {found}, but the model's is {kind(own[name])}")


@torch.no_grad()
def copy_weights(accelerator: Accelerator, model: nn.Module, into: Mapping[str, Tensor]) -> None:
    """Copy weights of a prepared model into tensors that are cut as they are, by their names."""
    own = live_weights(accelerator, model)
    for name, tensor in into.items():
        tensor.copy_(own[name])


def restore_optimizer(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, path: Path) -> None:
    """Load what `gather_optimizer` gave from a file; learning rates, weight decays and the like stay this run's."""
    stored: dict[str, Tensor | float] = dict(load_file(path))
    with safe_open(path, "pt") as file:
        stored |= json.loads((file.metadata() or {}).get("numbers", "{}"))
    own = trained_parameters(accelerator, model, optimizer)
    index = {name: number for number, name in enumerate(own)}
    state: dict[int, dict[str, Any]] = {}
    for key, value in stored.items():
        name, _, entry = key.rpartition("/")
        if name not in own:
            raise CheckpointError(f"{path}: holds the state of {name}, which this run does not train")
        if isinstance(value, Tensor) and value.shape == own[name].shape:
            value = piece_of(value, own[name])
        state.setdefault(index[name], {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def live_weights(accelerator: Accelerator, model: nn.Module) -> dict[str, Tensor]:
    """The live tensors of the model by their names without wrappers, pieces under FSDP2."""
    return {without_wrappers(name): tensor for name, tensor in unwrapped(accelerator, model).state_dict().items()}


def trained_parameters(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> dict[str, nn.Parameter]:
    """The optimizer's parameters by their names without wrappers, in the order of its indices."""
    inside = unwrapped(accelerator, model)
    names = {id(parameter): without_wrappers(name) for name, parameter in inside.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if any(id(parameter) not in names for parameter in parameters):
        raise ValueError(
            "the optimizer trains a parameter that is not the model's: its state has no name to be saved by"
        )
    return {names[id(parameter)]: parameter for parameter in parameters}


def _whole(tensor: Tensor) -> Tensor:
    """A tensor put together from the pieces of all processes, each of which must call."""
    tensor = tensor.detach()
    return tensor.full_tensor() if _is_sharded(tensor) else tensor


def piece_of(whole: Tensor, like: Tensor) -> Tensor:
    """This process's piece of a tensor, cut as `like` is. Every process has the whole, so nothing is sent."""
    if not _is_sharded(like):
        return whole
    from torch.distributed.tensor import distribute_tensor

    mesh = like.device_mesh
    return distribute_tensor(whole.to(mesh.device_type), mesh, like.placements, src_data_rank=None)


def _is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    return hasattr(tensor, "full_tensor")


def kind(tensor: Tensor) -> str:
    """The precision and the shape of a tensor, in words."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
