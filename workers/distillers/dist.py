"""DIST: the student's class scores correlate with the teacher's, between the classes of a box and between the boxes of a class.

    L_inter = 1 - (1/B) sum_b r(p^s_b, p^t_b)          r: Pearson's correlation, here over the K classes of a box
    L_intra = 1 - (1/K) sum_c r(p^s_c, p^t_c)          here over the B boxes of a class
    L = beta L_inter + gamma L_intra

One stage: p = sigmoid(z / tau) of every box of every level. Two stages: p = softmax(z / tau) of the RoI head (of a cascade: its first
stage), teacher and student on the student's proposals, background a class like the others.
Source: Huang et al., NeurIPS 2022, Eqs. 7-10; released code hunto/DIST_KD segmentation/losses/dist_kd.py (every pixel an instance,
sigmoid or softmax, beta = gamma = 1, tau = 1). Its code for detection is not released. Statistics over the boxes of a device.
"""

from torch import Tensor

from studies.methods import Options
from workers.distillation.base import Distiller
from workers.distillation.captures import RoIs
from workers.distillation.step import NetworkInfo, Outputs, Step
from workers.geometry.levels import flatten_levels

EPSILON = 1e-8  # of the released code: what has no spread correlates with nothing


def correlation(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
    """Pearson's r along `dim` of two (B, K)."""
    ours, theirs = (scores - scores.mean(dim, keepdim=True) for scores in (student, teacher))
    return (ours * theirs).sum(dim) / (ours.norm(dim=dim) * theirs.norm(dim=dim) + EPSILON)


class DIST(Distiller):
    """See the module. Names of losses: loss_dist_{inter,intra}."""

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.classes = student.classes
        self.reads_head = student.stages == "one"
        self.captures = frozenset() if self.reads_head else frozenset({RoIs})

    def scores(self, outputs: Outputs) -> Tensor:
        """p, (B, K)."""
        if self.reads_head:
            logits = flatten_levels(outputs.logits, self.classes).flatten(0, 1)
            return (logits / self.options.temperature).sigmoid()
        return (outputs.of(RoIs).logits / self.options.temperature).softmax(1)

    def forward(self, step: Step) -> dict[str, Tensor]:
        o = self.options
        student, teacher = self.scores(step.student), self.scores(step.teacher)
        terms = {"inter": (o.beta, 1), "intra": (o.gamma, 0)}
        return {
            f"loss_dist_{name}": weight * (1 - correlation(student, teacher, dim).mean()) for name, (weight, dim) in terms.items() if weight
        }
