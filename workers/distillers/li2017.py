"""Li et al. 2017 (feature mimic): the student's features inside its proposals imitate the teacher's.

    L_m = (1/(2N)) sum_i ||u_i - r(v_i)||^2 / (C h w)

u_i, v_i: features of the N sampled proposals pooled from the teacher's and the student's pyramid (RoIAlign, 7 x 7);
r: 1x1 convolution, applied to the pooled features: pooling is linear, so that this is the pooled transformed map.
Added to the student's detection losses with weight lambda. Source: Li et al. 2017, Section 3; there is no official code, and the
paper pools one map where this pools a pyramid. Mean form.
"""

from torch import Tensor, nn

from studies.methods import Options
from workers.distillation.base import Distiller
from workers.distillation.captures import RoIs
from workers.distillation.step import NetworkInfo, Step


def mimic_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """L_m of pooled features (N, C, h, w); 0 where N is."""
    return (teacher - student).square().sum() / max(2 * student.numel(), 1)


class Li2017(Distiller):
    """See the module. Name of the loss: loss_li_mimic."""

    captures = frozenset({RoIs})
    reads_head = False

    def __init__(self, options: Options, student: NetworkInfo, teacher: NetworkInfo) -> None:
        super().__init__(options, student, teacher)
        self.transform = nn.Conv2d(student.neck_channels[0], teacher.neck_channels[0], 1)

    def forward(self, step: Step) -> dict[str, Tensor]:
        if self.options.loss_weight == 0:
            return {}
        student = self.transform(step.student.of(RoIs).features)
        return {"loss_li_mimic": self.options.loss_weight * mimic_loss(step.teacher.of(RoIs).features, student)}
