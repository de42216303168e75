"""FGD against the released code: its four terms with random (not zero) relation blocks, and the teacher's attention."""

import numpy as np
import torch

from tests.golden.cases import Case, check, each_case
from workers.distillation.attention import attention, mask
from workers.distillers.fgd import Level, box_weights

NAMES = {"fg": "fg", "bg": "bg", "mask": "attention", "rela": "relation"}  # golden name -> ours


def level_with_weights(case: Case, dtype: torch.dtype) -> Level:
    level = Level(case.params["C"], case.params["C"], case.params["T"], dict.fromkeys(NAMES.values(), True)).to(dtype)
    for context, net in ((level.context, "s"), (level.teacher_context, "t")):
        layers = {
            "where": f"conv_mask_{net}",
            "what.0": f"channel_add_conv_{net}.0",
            "what.1": f"channel_add_conv_{net}.1",
            "what.3": f"channel_add_conv_{net}.3",
        }
        own = context.state_dict()
        weights = {f"{ours}.{k}": case.tensor(f"w.{theirs}.{k}", dtype) for ours, theirs in layers.items() for k in ("weight", "bias")}
        context.load_state_dict({name: value.reshape(own[name].shape) for name, value in weights.items()})
    return level


@each_case("fgd")
def test_terms(case: Case, dtype: torch.dtype) -> None:
    student, teacher = case.tensor("student", dtype, grad=True), case.tensor("teacher", dtype)
    height, width = case.params["img_shape"]
    boxes = [case.tensor(f"gt_{n}", torch.float32) for n in range(len(student))]
    terms = level_with_weights(case, dtype)(student, teacher, box_weights(boxes, (height, width), teacher))
    for golden, name in NAMES.items():
        check(case.outputs[golden], terms[name], dtype, [student])
    total = sum(w * terms[name] for w, name in zip(case.params["total_weights"], NAMES.values(), strict=True))
    check(case.outputs["total_default"], total, dtype, [student])
    spatial, channel = (mask(scores, case.params["T"]) for scores in attention(teacher))
    np.testing.assert_allclose(spatial.unflatten(1, teacher.shape[2:]).numpy(), case.arrays_out["att_spatial_t"], rtol=1e-5)
    np.testing.assert_allclose(channel.numpy(), case.arrays_out["att_channel_t"], rtol=1e-5)
