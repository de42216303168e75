"""PAD: feature imitation in which the student also predicts how uncertain it is, and hard features count less.

    paper: L = sum_l mean[ (F^t - F^s)^2 / exp(v) + v ],                 v = branch(F^s): batch norm and 1x1 convolution
    pdf:   L = mean[ (F^t - F^s)^2 / (exp(v) + 1e-6) + v ] over levels,  v = relu(3x3 convolution of the student's features)

F^s: student features after a 1x1 convolution; v: log-variance per channel and cell; one adapter and branch per level. The paper's
branch starts at v = 0, which is plain imitation. Source: Zhang et al. 2020, Section 3; there is no official code. pdf: the
comparison of PDF-Distil, zhanghengdev/MutualGuide@a192256 utils/loss/hint_loss.py, models/detector_gauss.py. Mean form.
"""

import torch
from torch import Tensor, nn

from studies.methods import Options
from workers.distillation.adapters import convolutions
from workers.distillation.base import Distiller
from workers.distillation.step import NetworkInfo, Step


def paper_loss(teacher: Tensor, student: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over all elements of one map; the three have one shape."""
    return ((teacher - student).square() * (-log_variance).exp() + log_variance).mean()


def pdf_terms(teacher: Tensor, student: Tensor, predicted: Tensor) -> Tensor:
    """Elements of PDF-Distil's loss before their mean; `predicted`: the log-variance before its ReLU.

    With exp(-v) for exp(v), which overflows beyond v = 88: the loss is finite there, and its gradient was 0 times infinity.
    """
    log_variance = predicted.relu()
    precision = (-log_variance).exp()
    return (teacher - student).square() * precision / (1 + 1e-6 * precision) + log_variance


class Branch(nn.Module):
    """Batch norm and 1x1 convolution that starts at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.convolution = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        norm = self.norm
        if features.numel() > features.shape[1]:
            normal = norm(features)
        else:  # one cell in the batch has no variance: use what was seen so far
            normal = nn.functional.batch_norm(features, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return self.convolution(normal)


class PAD(Distiller):
    """See the module. Name of the loss: loss_pad."""

    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.adapters = convolutions(student.neck_channels, teacher.neck_channels)
        if self.options.variant == "pdf":
            self.branches = convolutions(student.neck_channels, teacher.neck_channels, 3)
        else:
            self.branches = nn.ModuleList(Branch(channels) for channels in teacher.neck_channels)

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.options.loss_weight == 0:
            return {}
        loss = self.pdf_loss(step) if self.options.variant == "pdf" else self.paper_loss(step)
        return {"loss_pad": self.options.loss_weight * loss}

    def paper_loss(self, step: Step) -> Tensor:
        """The paper's L."""
        levels = zip(self.adapters, self.branches, step.teacher.neck, step.student.neck, strict=True)
        parts = []
        for adapt, branch, theirs, ours in levels:
            adapted = adapt(ours)
            parts.append(paper_loss(theirs, adapted, branch(adapted)))
        return torch.stack(parts).sum()

    def pdf_loss(self, step: Step) -> Tensor:
        """PDF-Distil's L before its factor: one mean over the elements of all levels."""
        levels = zip(self.adapters, self.branches, step.teacher.neck, step.student.neck, strict=True)
        total = torch.stack([pdf_terms(t, adapt(s), branch(s)).sum() for adapt, branch, t, s in levels]).sum()
        return total / sum(t.numel() for t in step.teacher.neck)
