"""A recipe as mmengine takes it: optimizer, warm-up and decay of the learning rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mmengine.optim import build_optim_wrapper
from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from studies.recipes import RECIPES, Optimizer, Recipe, WarmUp, optimizer_of
from studies.spec import Network, Schedule


def optimizer_for(model: nn.Module, config: dict[str, Any]) -> TorchOptimizer:
    """The optimizer of an `optim_wrapper`, as mmengine builds it, but for one thing: it makes a group of every parameter, and a step costs
    by groups. Those that are treated alike and follow each other are one here, which changes no number."""
    optimizer: TorchOptimizer = build_optim_wrapper(model, config).optimizer
    merged: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        if merged and _treatment(merged[-1]) == _treatment(group):
            merged[-1]["params"] += group["params"]
        else:
            merged.append(group)
    optimizer.param_groups[:] = merged
    return optimizer


def _treatment(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def optimisation(schedule: Schedule, network: Network) -> dict[str, Any]:
    """`optim_wrapper` and `param_scheduler` as mmengine's configs have them, for a resolved schedule.

    The cosine runs over every step, its warm-up on top of it; milestones move in proportion where a schedule has more or fewer
    epochs than its recipe.
    """
    assert schedule.recipe
    assert schedule.epochs
    recipe = RECIPES[schedule.recipe]
    optimizer = _as_scheduled(optimizer_of(recipe, network.detector, network.backbone, network.form), schedule)
    return {
        "optim_wrapper": _wrapper(optimizer, schedule.scaled_lr),
        "param_scheduler": [*_warm_up(optimizer.warm_up, schedule.accumulate or 1), _decay(recipe, schedule.epochs, schedule.scaled_lr)],
    }


def _as_scheduled(optimizer: Optimizer, schedule: Schedule) -> Optimizer:
    """The recipe's optimizer with what the schedule says of it."""
    assert schedule.clip is not None
    assert schedule.weight_decay is not None
    warm_up = replace(optimizer.warm_up or WarmUp(), iterations=schedule.warm_up) if schedule.warm_up else None
    return replace(optimizer, clip=schedule.clip or None, weight_decay=schedule.weight_decay, warm_up=warm_up)


def _wrapper(optimizer: Optimizer, lr: float) -> dict[str, Any]:
    own = {"momentum": optimizer.momentum} if optimizer.type == "SGD" else {"eps": optimizer.eps, "fused": True}
    factors = {"bias_lr_mult": optimizer.bias_lr, "bias_decay_mult": optimizer.bias_decay, "norm_decay_mult": optimizer.norm_decay}
    special: dict[str, Any] = {name: factor for name, factor in factors.items() if factor != 1.0}
    if optimizer.backbone_lr != 1.0:
        special["custom_keys"] = {"backbone.": {"lr_mult": optimizer.backbone_lr}}
    return {
        "type": "OptimWrapper",
        "optimizer": {"type": optimizer.type, "lr": lr, "weight_decay": optimizer.weight_decay, **own},
        **({"clip_grad": {"max_norm": optimizer.clip, "norm_type": 2}} if optimizer.clip else {}),
        **({"paramwise_cfg": special} if special else {}),
    }


def _warm_up(warm_up: WarmUp | None, parts: int) -> list[dict[str, Any]]:
    """The scheduler of the first steps, counted in batches, as it is stepped: `parts` of them are a step."""
    if warm_up is None:
        return []
    span = {"by_epoch": False, "begin": 0, "end": warm_up.iterations * parts}
    if warm_up.constant:
        return [{"type": "ConstantLR", "factor": warm_up.factor, **span}]
    return [{"type": "LinearLR", "start_factor": warm_up.factor, **span}]


def _decay(recipe: Recipe, epochs: int, lr: float) -> dict[str, Any]:
    if recipe.decay == "cosine":
        return {
            "type": "CosineAnnealingLR",
            "T_max": epochs,
            "by_epoch": True,
            "convert_to_iter_based": True,
            "eta_min": lr * recipe.floor,
        }
    return {"type": "MultiStepLR", "begin": 0, "end": epochs, "by_epoch": True, "milestones": list(recipe.milestones(epochs)), "gamma": 0.1}
