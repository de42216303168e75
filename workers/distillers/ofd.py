"""OFD: the student's stage outputs imitate the teacher's before the ReLU, where that carries information.

    m_c = E[x | x < 0],  x ~ N(beta_c, gamma_c^2)   (-3 |gamma_c| where P(x < 0) <= 0.001)
    t' = max(t, m),   d_p = sum (s - t')^2 [ s > t' or t' > 0 ],   L = w (1/N) sum_i d_p^i / 2^{n-1-i}

t, s: outputs of backbone stage i of n before its last ReLU, s after a connector (1x1 convolution without bias, batch norm);
beta, gamma: of the teacher's last batch norm in the stage, which stands for the residual sum as in the authors' ResNets.
Source: Heo et al. 2019, Section 3; clovaai/overhaul-distillation@76344a8 CIFAR-100/distiller.py. Summed over cells and channels,
divided by the images: mean form, but growing with the input's area.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from studies.methods import Options
from studies.trial import TrialFailure
from workers.distillation.base import Distiller
from workers.distillation.captures import Capture, in_float
from workers.distillation.step import NetworkInfo, Step

RARE = 0.001  # least chance of a negative value for which its mean is taken


def margins(gamma: Tensor, beta: Tensor) -> Tensor:
    """m per channel from a batch norm's weight and bias, (C,)."""
    deviation = gamma.double().abs().clamp(min=1e-12)
    ratio = beta.double() / deviation
    chance = (1 - torch.erf(ratio / math.sqrt(2))) / 2  # P(x < 0)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    mean = beta.double() - deviation * density / chance.clamp(min=RARE)
    return torch.where(chance > RARE, mean, -3 * deviation).to(gamma.dtype)


def partial_distance(teacher: Tensor, student: Tensor, margin: Tensor) -> Tensor:
    """d_p of two (N, C, H, W) maps with margins (C,), summed over everything."""
    target = torch.maximum(teacher, margin[:, None, None])
    counts = (student > target) | (target > 0)
    return ((student - target).square() * counts).sum()


def last_norms(model: Any) -> list[Any]:
    """The batch norm before the last ReLU of every stage of an mmdet ResNet. Raises TrialFailure("user") for other backbones."""
    names = getattr(model.backbone, "res_layers", None)
    if names is None:
        raise TrialFailure("user", f"OFD reads the batch norms of a ResNet's stages, which a {type(model.backbone).__name__} does not have")
    blocks = [getattr(model.backbone, name)[-1] for name in names]
    return [block.norm3 if hasattr(block, "norm3") else block.norm2 for block in blocks]


def connector(student: int, teacher: int) -> nn.Sequential:
    """1x1 convolution (He start over its outputs) and batch norm."""
    convolution = nn.Conv2d(student, teacher, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(teacher))


class PreReLU(Capture[tuple[Tensor, ...]]):
    """Outputs of the last block of every backbone stage before its final ReLU, each (N, C_i, H_i, W_i)."""

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}

    def attach(self, detector: Any) -> None:
        for name in detector.backbone.res_layers:
            self._listen(getattr(detector.backbone, name)[-1], name)

    def _listen(self, block: Any, name: str) -> None:
        """Keeps the input of the block's last ReLU; the ReLU gets a copy, since it works in place."""
        calls = 2 if hasattr(block, "norm2") and not hasattr(block, "norm3") else 3
        seen = 0

        def keep(module: nn.Module, inputs: tuple[Tensor]) -> Tensor | None:
            nonlocal seen
            seen += 1
            if seen % calls:
                return None
            self.maps[name] = inputs[0]
            return inputs[0].clone()

        block.relu.register_forward_pre_hook(keep)

    def take(self) -> tuple[Tensor, ...]:
        maps = in_float(tuple(self.maps.values()))
        self.forget()
        return maps

    def forget(self) -> None:
        self.maps.clear()


class OFD(Distiller):
    """See the module. Name of the loss: loss_ofd."""

    captures = frozenset({PreReLU})
    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        # Channels of all stages: a neck may take fewer than the backbone has.
        pairs = zip(last_norms(student.model), last_norms(teacher.model), strict=True)
        self.connectors = nn.ModuleList()
        for stage, (ours, theirs) in enumerate(pairs):
            self.connectors.append(connector(ours.num_features, theirs.num_features))
            self.register_buffer(f"margin{stage}", margins(theirs.weight.detach(), theirs.bias.detach()))

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.options.loss_weight == 0:
            return {}
        student, teacher = step.student.of(PreReLU), step.teacher.of(PreReLU)
        last, total = len(self.connectors) - 1, torch.zeros((), device=student[0].device)
        pairs = zip(self.connectors, teacher, student, strict=True)
        for stage, (connect, theirs, ours) in enumerate(pairs):
            distance = partial_distance(theirs, connect(ours), getattr(self, f"margin{stage}"))
            total = total + distance / 2 ** (last - stage)
        return {"loss_ofd": self.options.loss_weight * total / len(student[0])}
