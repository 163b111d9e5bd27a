"""The weights of a model and the state of its optimizer by the names of parameters, whole, whatever trains them.

On one process, under DDP and under FSDP2 (where each process holds a piece of every tensor) the same tensors come out,
bit by bit, so a run may go on on another number of processes. A gradient scaler, Adam's counters and the like travel
as they are. Indices, by which torch's optimizers file their state, would change with the order of parameters.
"""

import json
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from wav2vec2.modeling.loading import CheckpointError

#: What wrappers put between the names of modules: `torch.compile` and recomputed activations.
_WRAPPERS = {"_orig_mod", "_checkpoint_wrapped_module"}
_FLAT = "flat_param"


def gather_weights(accelerator: Any, model: Any) -> dict[str, Tensor]:
    """The model's state on the CPU of the main process, nothing on the others. All processes must call."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        weights = accelerator.get_state_dict(model)
        return dict(weights) if accelerator.is_main_process else {}
    return _on_main(accelerator, _weights(accelerator, model))


def gather_optimizer(accelerator: Any, model: Any, optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's tensors and numbers as `parameter/entry`, on the main process. All processes must call."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for name, parameter in _optimized(accelerator, model, optimizer):
        for entry, value in _bare(optimizer).state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{entry}"] = value
            elif isinstance(value, bool | int | float):
                numbers[f"{name}/{entry}"] = value
            else:
                raise TypeError(f"the optimizer's {entry} of {name} is a {type(value).__name__}: cannot be saved")
    return _on_main(accelerator, tensors), numbers


def write_optimizer(path: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """What `gather_optimizer` gave, as safetensors: reading it can run no code."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"numbers": json.dumps(numbers)})


@torch.no_grad()
def restore_weights(accelerator: Any, model: Any, path: Path) -> None:
    """Load a file of weights into a prepared model, strictly: the same names, shapes and precision."""
    stored, own = load_file(path), _weights(accelerator, model)
    missing, unknown = sorted(own.keys() - stored.keys()), sorted(stored.keys() - own.keys())
    if missing or unknown:
        raise CheckpointError(f"{path}: not the weights of this model: missing {missing}, unknown {unknown}")
    for name, tensor in own.items():
        if (tensor.shape, tensor.dtype) != (stored[name].shape, stored[name].dtype):
            raise CheckpointError(f"{path}: {name} is {_kind(stored[name])}, but the model's is {_kind(tensor)}")
    for name, tensor in own.items():
        tensor.copy_(_pieces(stored[name], tensor))


def restore_optimizer(accelerator: Any, model: Any, optimizer: Any, path: Path) -> None:
    """Load what `write_optimizer` wrote; learning rates, weight decays and the like stay those of this run."""
    stored: dict[str, Any] = dict(load_file(path))
    with safe_open(path, "pt") as file:
        stored |= json.loads((file.metadata() or {}).get("numbers", "{}"))
    index = {name: number for number, (name, _) in enumerate(_optimized(accelerator, model, optimizer))}
    own = dict(_optimized(accelerator, model, optimizer))
    state: dict[int, dict[str, Any]] = {}
    for key, value in stored.items():
        name, _, entry = key.rpartition("/")
        if name not in own:
            raise CheckpointError(f"{path}: holds the state of {name}, which this run does not train")
        parameter = own[name]
        fits = isinstance(value, Tensor) and value.shape == parameter.shape
        state.setdefault(index[name], {})[entry] = _pieces(value, parameter) if fits else value
    bare = _bare(optimizer)
    bare.load_state_dict({"state": state, "param_groups": bare.state_dict()["param_groups"]})


def _weights(accelerator: Any, model: Any) -> dict[str, Tensor]:
    """The live tensors of the model that is inside the wrappers, pieces under FSDP2."""
    weights = {_plain(name): tensor for name, tensor in _unwrapped(accelerator, model).state_dict().items()}
    _refuse_flat(weights)
    return weights


def _optimized(accelerator: Any, model: Any, optimizer: Any) -> list[tuple[str, Any]]:
    """The parameters in the order of the optimizer's indices, with their names."""
    named = {id(parameter): _plain(name) for name, parameter in _unwrapped(accelerator, model).named_parameters()}
    _refuse_flat(dict.fromkeys(named.values()))
    parameters = [parameter for group in _bare(optimizer).param_groups for parameter in group["params"]]
    if any(id(parameter) not in named for parameter in parameters):
        raise ValueError(
            "the optimizer trains a parameter that is not the model's: its state has no name to be saved by"
        )
    return [(named[id(parameter)], parameter) for parameter in parameters]


def _on_main(accelerator: Any, tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Whole tensors on the CPU of the main process, put together one by one so that no accelerator holds them all."""
    gathered = {}
    for name, tensor in tensors.items():
        whole: Any = tensor.detach()
        if _is_sharded(whole):
            whole = whole.full_tensor()
        if accelerator.is_main_process:
            gathered[name] = whole.cpu()
    return gathered


def _pieces(whole: Tensor, like: Any) -> Tensor:
    """This process's piece of a tensor, cut as `like` is. Every process has the whole, so nothing is sent."""
    if not _is_sharded(like):
        return whole
    from torch.distributed.tensor import distribute_tensor

    mesh = like.device_mesh
    return distribute_tensor(whole.to(mesh.device_type), mesh, like.placements, src_data_rank=None)


def _is_sharded(tensor: Any) -> bool:
    return hasattr(tensor, "full_tensor")


def _unwrapped(accelerator: Any, model: Any) -> Any:
    return accelerator.unwrap_model(model, keep_torch_compile=False)


def _bare(optimizer: Any) -> Any:
    """torch's optimizer, inside Accelerate's."""
    return getattr(optimizer, "optimizer", optimizer)


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _refuse_flat(named: dict[str, Any]) -> None:
    if any(_FLAT in name for name in named):
        raise ValueError(
            "FSDP version 1 has no names for parameters: set `fsdp_version: 2` in Accelerate's configuration"
        )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
