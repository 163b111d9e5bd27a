"""What the optimizer does to which parameter, and how fast at which update.

The learning rate is a function of the update alone, so there is no schedule whose state could be lost.
"""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from wav2vec2.training.settings.run_config import OptimizerSection, PretrainRun, Run, ScheduleSection


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay may shrink it: matrices and kernels.

    Not biases, norms and the mask embedding, whose size is their meaning; not the gain of the weight norm (its
    direction is free of scale already); not the codebooks, of which an entry that no frame chooses has no gradient to
    keep it from shrinking away.
    """
    gain = name.endswith(("parametrizations.weight.original0", "weight_g"))
    return parameter.ndim >= 2 and not gain and not name.endswith("codevectors")


def make_optimizer(model: nn.Module, section: OptimizerSection) -> Optimizer:
    """Adam with decoupled weight decay, as fairseq's; in one pass over memory where torch has that (5x on a CPU)."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("no parameter of the model is to be trained: everything is frozen")
    decayed = [parameter for name, parameter in trained if is_decayed(name, parameter)]
    others = [parameter for name, parameter in trained if not is_decayed(name, parameter)]
    groups = [{"params": decayed, "weight_decay": section.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=section.learning_rate,
        betas=section.betas,
        eps=section.epsilon,
        fused=not torch.backends.mps.is_available(),
    )


def learning_rate_scale(update: int, updates: int, schedule: ScheduleSection) -> float:
    """The factor on the learning rate at an update (from 0) out of so many.

    All kinds rise in a straight line from `initial_scale` to 1 during the warm-up. Then "polynomial" falls to
    `final_scale` with the given power (paper: linearly to 0), "cosine" along half a period (wav2vec of 2019),
    "tri_stage" holds and then falls exponentially (paper, section 4.3), "constant" stays. As in fairseq and
    Transformers, the first update has `initial_scale` itself, and the last is one step short of `final_scale`: a run
    that falls to 0 would else end with an update of nothing.
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
    straight = 1.0 - progress
    remaining: float = (
        straight**schedule.power if schedule.kind == "polynomial" else math.sin(math.pi * straight / 2) ** 2
    )
    return schedule.final_scale + (1.0 - schedule.final_scale) * remaining


def learning_rate(run: Run, update: int) -> float:
    """The learning rate of a run at an update (from 0). The schedule begins when a warm start is over."""
    warm = run.warm_updates
    if isinstance(run, PretrainRun) and update < warm:
        falling = ScheduleSection(kind="polynomial", warmup=run.warm_start.warmup)
        return run.warm_start.learning_rate * learning_rate_scale(update, warm, falling)
    scale = learning_rate_scale(update - warm, run.run.updates - warm, run.schedule)
    return run.optimizer.learning_rate * scale


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give all parameters this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
