"""What backbone, neck and head of a detector cost each (PDF-Distil, BMVC 2021, Fig. 4)."""

from __future__ import annotations

from torch import nn

from workers.evaluation.costs import counted_size, multiply_adds, on_paper, parameter_counts
from workers.measuring.setting import Measured, Setting

COMPONENTS = ("backbone", "neck", "head")


def measure(setting: Setting) -> Measured:
    """`Params_COMPONENT` in millions (trainable ones, as in the table) and `FLOPs_COMPONENT` in milliards, counted on shapes alone.

    The document holds the counts themselves, and the input size (height, width).
    """
    network = setting.spec.detector.network
    size = counted_size(network, setting.spec.scale)
    model = on_paper(network, len(setting.classes))
    parameters = {name: trainable(part) for name, part in (("backbone", model.backbone), ("neck", model.neck))}
    parameters["head"] = trainable(model) - sum(parameters.values())
    operations = multiply_adds(model, size)
    metrics = {f"Params_{name}": parameters[name] / 1e6 for name in COMPONENTS}
    metrics |= {f"FLOPs_{name}": operations[name] / 1e9 for name in COMPONENTS}
    counts = {name: {"parameters": parameters[name], "multiply_adds": operations[name]} for name in COMPONENTS}
    return Measured(metrics, {"size": list(size), "components": counts})


def trainable(model: nn.Module) -> int:
    """Parameters that train."""
    return parameter_counts(model)["trainable_parameters"]
