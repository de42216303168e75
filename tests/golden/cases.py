"""Reads golden cases: reference inputs and outputs of every loss, made by running the papers' released code.

A folder holds `<name>.json` (parameters and scalar outputs per case) beside `<name>.npz` (arrays `<case>/in/...` and
`<case>/out/...`). `GOLDEN_DIR` names another folder of the same format.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FOLDER = Path(os.environ.get("GOLDEN_DIR") or Path(__file__).parent / "data")


@dataclass(frozen=True)
class Case:
    """One golden case. `params` and `outputs` as in the JSON; `arrays_in`, `arrays_out` as stored."""

    file: str
    id: str
    params: dict[str, Any]
    outputs: dict[str, Any]
    arrays_in: dict[str, np.ndarray]
    arrays_out: dict[str, np.ndarray]

    def tensor(self, name: str, dtype: torch.dtype, grad: bool = False) -> torch.Tensor:
        """Input array `name`; floating arrays in `dtype`, others as stored (bool and integers kept)."""
        tensor = torch.from_numpy(np.array(self.arrays_in[name]))
        if tensor.is_floating_point():
            tensor = tensor.to(dtype)
            tensor.requires_grad_(grad)
        return tensor


def cases(name: str) -> list[Case]:
    """All cases of file `name`; none where the folder has no such file."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        return []
    arrays = np.load(FOLDER / f"{name}.npz")
    found = []
    for entry in json.loads(path.read_text())["cases"]:
        ins = {k.removeprefix(f"{entry['id']}/in/"): arrays[k] for k in arrays.files if k.startswith(f"{entry['id']}/in/")}
        outs = {k.removeprefix(f"{entry['id']}/out/"): arrays[k] for k in arrays.files if k.startswith(f"{entry['id']}/out/")}
        found.append(Case(name, entry["id"], entry["params"], entry["outputs"], ins, outs))
    return found


def each_case(name: str) -> pytest.MarkDecorator:
    """Parametrises a test over every case of a file and both precisions."""
    parameters = [
        pytest.param(case, dtype, id=f"{case.id}-{str(dtype).removeprefix('torch.')}")
        for case in cases(name)
        for dtype in (torch.float64, torch.float32)
    ]
    return pytest.mark.parametrize(("case", "dtype"), parameters)


def check(expected: Any, value: torch.Tensor, dtype: torch.dtype, inputs: list[torch.Tensor] | None = None) -> None:
    """Holds `value` against a golden scalar: {"f32", "f64", "grad_norm", "grad_norm64"} or a plain number.

    rtol 1e-5 in float64 and 1e-4 in float32; the gradient norm of each of `inputs` likewise. A `null` (the original
    gives NaN) asks for a finite value.
    """
    rtol = 1e-5 if dtype == torch.float64 else 1e-4
    detail = expected if isinstance(expected, dict) else {"f64": expected, "f32": expected}
    wanted = detail.get("f64") if dtype == torch.float64 and detail.get("f64") is not None else detail.get("f32")
    if wanted is None:
        assert torch.isfinite(value), f"the original gives NaN here; ours must be finite, not {value}"
    else:
        if not isinstance(expected, dict) or detail.get("f64") is None:
            rtol = max(rtol, 1e-4 if dtype == torch.float32 else 2e-5)  # the reference itself is float32
        np.testing.assert_allclose(value.detach().double().item(), wanted, rtol=rtol, atol=1e-9)
    norms = detail.get("grad_norm64") if dtype == torch.float64 and detail.get("grad_norm64") else detail.get("grad_norm")
    if inputs is None or norms is None:
        return
    grads = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
    assert all(grad is None or torch.isfinite(grad).all() for grad in grads)
    assert len(norms) == len(inputs)
    for norm, grad in zip(norms, grads, strict=True):
        if norm is not None:
            assert grad is not None
            np.testing.assert_allclose(grad.double().norm().item(), norm, rtol=max(rtol, 1e-5), atol=1e-9)
