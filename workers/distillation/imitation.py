"""What methods that imitate features have in common: squared differences averaged over chosen cells, and weights that sum to one."""

from torch import Tensor, nn

TINY = 1e-12  # least sum of weights that is divided by: equal predictions give loss zero


def hint_loss(teacher: Tensor, student: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of two (N, C, H, W) maps, over the cells where `mask` (N, H, W) is 1 (zero if none is)."""
    if mask is None:
        return nn.functional.mse_loss(student, teacher)
    square = (teacher - student).square().mean(1)  # (N, H, W)
    return (square * mask).sum() / mask.sum().clamp(min=1)


def share(values: Tensor) -> Tensor:
    """Weights proportional to `values`, summing to 1 over everything (all zero where the values are)."""
    return values / values.sum().clamp(min=TINY)
