"""MGD against the released code, with its drawn masks."""

import torch

from tests.golden.cases import Case, check, each_case
from workers.distillers.mgd import Generation, generation_loss


@each_case("mgd")
def test_loss(case: Case, dtype: torch.dtype) -> None:
    student, teacher = case.tensor("student", dtype, grad=True), case.tensor("teacher", dtype)
    generation = Generation(teacher.shape[1], teacher.shape[1]).to(dtype)
    generation.layers.load_state_dict({f"{n}.{k}": case.tensor(f"w.generation.{n}.{k}", dtype) for n in (0, 2) for k in ("weight", "bias")})
    kept = torch.from_numpy(case.arrays_out["mat"]).to(dtype)
    loss = generation_loss(generation(student, kept), teacher)
    check(case.outputs["loss_unweighted"], loss, dtype, [student])
    check(case.outputs["loss"], case.params["alpha"] * loss, dtype, [student])
