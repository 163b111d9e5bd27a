"""What the optimizer does to which parameter, and how fast at which update.

The learning rate is a function of the update alone, so there is no schedule whose state could be lost.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from wav2vec2.training.settings.run_config import OptimizerSection, ScheduleSection


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay may shrink it: matrices and kernels.

    Not biases, norms and the mask embedding, whose size is their meaning; not the gain of the weight norm (its
    direction is free of scale already); not the codebooks, of which an entry that no frame chooses has no gradient to
    keep it from shrinking away.
    """
    gain = name.endswith(("parametrizations.weight.original0", "weight_g"))
    return parameter.ndim >= 2 and not gain and not name.endswith("codevectors")


def parameter_groups(parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters, those with weight decay first."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups[is_decayed(name, parameter)].append(parameter)
    decays = {True: weight_decay, False: 0.0}
    return [{"params": groups[decayed], "weight_decay": decays[decayed]} for decayed in groups if groups[decayed]]


def make_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay, as fairseq's; in one pass over memory where torch has that (5x on a CPU)."""
    fused = not torch.backends.mps.is_available()
    groups = parameter_groups(model.named_parameters(), section.weight_decay)
    if not groups:
        raise ValueError("no parameter of the model is to be trained: everything is frozen")
    return torch.optim.AdamW(groups, lr=section.learning_rate, betas=section.betas, eps=section.epsilon, fused=fused)


def learning_rate_scale(update: int, updates: int, schedule: ScheduleSection) -> float:
    """The factor on the learning rate at an update (from 0) out of so many.

    All kinds rise in a straight line from `initial_scale` to 1 during the warm-up. Then "polynomial" falls to
    `final_scale` with the given power (paper: linearly to 0), "tri_stage" holds and then falls exponentially
    (paper, section 4.3), "constant" stays. As in fairseq and Transformers, the first update has `initial_scale` itself,
    and the last is one step short of `final_scale`: a run that falls to 0 would else end with an update of nothing.
    """
    warmup = round(schedule.warmup * updates)
    if update < warmup:
        return schedule.initial_scale + (1.0 - schedule.initial_scale) * update / warmup
    if schedule.kind == "constant":
        return 1.0
    held = round(schedule.hold * updates) if schedule.kind == "tri_stage" else 0
    falling = max(updates - warmup - held, 1)
    progress = min(max(update - warmup - held, 0) / falling, 1.0)
    if schedule.kind == "tri_stage":
        return math.exp(math.log(schedule.final_scale) * progress)
    remaining: float = (1.0 - progress) ** schedule.power
    return schedule.final_scale + (1.0 - schedule.final_scale) * remaining


def set_learning_rate(optimizer: Any, learning_rate: float) -> None:
    """The same for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
