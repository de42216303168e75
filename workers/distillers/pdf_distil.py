"""PDF-Distil: the student imitates the teacher's pyramid features where their class predictions disagree.

    D = sum_M sum_K F(P^t, P^s),   F: KL (both binary terms), L1, L2
    paper (Eqs. 1-3), per level and image:  W = H W D / sum_{h,w} D,  L = (1 / (H W C)) sum_{h,w} W sum_c (X^t - phi(X^s))^2
    code, all levels and images at once:    w = D / sum D,            L = sum w (1/C) sum_c (X^t - phi(X^s))^2

P = sigmoid of the class logits, M: anchors of a cell; phi: convolution per level; no gradient through D. Both are
multiplied by `loss_weight` (5); the paper's L is averaged over images and summed over levels. Source: Zhang et al., BMVC 2021;
released code zhanghengdev/MutualGuide@85219f9 utils/loss/hint_loss.py, whose L2 is the root of the squares summed over
classes. The other rows of the paper's Table 1 put constant weights on all cells (the code halves that loss) or on the
half or quarter of them with the largest or smallest L1. Mean form.
"""

import torch
from torch import Tensor, nn

from studies.methods import Options
from workers.distillation.adapters import convolutions
from workers.distillation.base import Distiller
from workers.distillation.imitation import share
from workers.distillation.step import NetworkInfo, Step

TINY = 1e-12  # least sum of weights that is divided by: equal predictions give loss zero


def difference(teacher: Tensor, student: Tensor, kind: str, classes: int) -> Tensor:
    """F summed over the class dimension `classes` of two logit tensors; kind: kl, l1, l2 or l2_root."""
    p, q = teacher.sigmoid(), student.sigmoid()
    if kind == "kl":  # log(p/q) and log((1-p)/(1-q)) from logits: exact where p or q rounds to 0 or 1
        log = nn.functional.logsigmoid
        terms = p * (log(teacher) - log(student)) + (1 - p) * (log(-teacher) - log(-student))
        return terms.clamp(min=0).sum(classes)
    if kind == "l1":
        return (p - q).abs().sum(classes)
    square = (p - q).square().sum(classes)
    return square.sqrt() if kind == "l2_root" else square


def hard_weights(different: Tensor, strategy: str) -> Tensor:
    """Equal weights, summing to 1, on the most different or similar half or quarter of all cells.

    As released: a cell is kept when strictly beyond the lower median, of all cells for the half, of the kept half for
    the quarter.
    """
    sign = 1.0 if strategy.startswith("most_different") else -1.0
    ordered = different.flatten().sort().values
    threshold = ordered[(len(ordered) - 1) // 2]
    if strategy.endswith("25"):
        kept = (sign * (ordered - threshold) > 0).sum()
        middle = (kept - 1).clamp(min=0) // 2  # of the kept half, in rising order
        place = middle if sign < 0 else (len(ordered) - kept + middle).clamp(max=len(ordered) - 1)
        threshold = ordered.take(place)
    return share((sign * (different - threshold) > 0).to(different.dtype))


def map_weights(different: Tensor, strategy: str) -> Tensor:
    """The paper's W / (H W) of one level, (N, L) -> (N, L), each row summing to 1."""
    count = different.shape[1]
    if strategy == "all":
        return torch.full_like(different, 1 / count)
    if not strategy.startswith("most"):
        return different / different.sum(1, keepdim=True).clamp(min=TINY)
    kept = max(1, count * int(strategy[-2:]) // 100)
    chosen = different.topk(kept, dim=1, largest=strategy.startswith("most_different")).indices
    return torch.zeros_like(different).scatter_(1, chosen, 1 / kept)


def code_loss(squares: list[Tensor], differences: list[Tensor], strategy: str) -> Tensor:
    """The released loss before `loss_weight`, from per-level (N, L) mean squared feature differences and disagreements D."""
    square = torch.cat(squares, 1)
    if strategy == "all":
        return square.mean() / 2
    different = torch.cat(differences, 1)
    weights = hard_weights(different, strategy) if strategy.startswith("most") else share(different)
    return (weights * square).sum()


def paper_loss(squares: list[Tensor], differences: list[Tensor], strategy: str) -> Tensor:
    """The paper's loss before `loss_weight`, from the same inputs as `code_loss`."""
    parts = [(map_weights(d, strategy) * s).sum(1).mean() for s, d in zip(squares, differences, strict=True)]
    return torch.stack(parts).sum()


class PDFDistil(Distiller):
    """See the module."""

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.anchors = student.anchors_per_cell
        self.strategy: str = self.options.strategy
        self.adapters = convolutions(student.neck_channels, teacher.neck_channels, int(self.options.adapter[0]))

    @torch.no_grad()
    def disagreement(self, teacher: Tensor, student: Tensor) -> Tensor:
        """D of one level from logits (N, A*K, H, W): (N, H*W)."""
        kind = self.strategy if self.strategy in {"kl", "l1", "l2", "l2_root"} else "l1"
        teacher, student = (logits.unflatten(1, (self.anchors, -1)) for logits in (teacher, student))
        return difference(teacher, student, kind, classes=2).sum(1).flatten(1)

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.options.loss_weight == 0:
            return {}
        adapted = [adapter(f) for adapter, f in zip(self.adapters, step.student.neck, strict=True)]
        squares = [(t - s).square().mean(1).flatten(1) for t, s in zip(step.teacher.neck, adapted, strict=True)]
        differences = [self.disagreement(t, s) for t, s in zip(step.teacher.logits, step.student.logits, strict=True)]
        loss = code_loss if self.options.variant == "code" else paper_loss
        return {"loss_pdf": self.options.loss_weight * loss(squares, differences, self.strategy)}
