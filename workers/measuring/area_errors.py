"""COCO's error analysis for all objects and for small, medium and large ones apart (Zhang & Ma, ICLR 2021, Fig. 7)."""

from __future__ import annotations

from studies.measures import AREAS
from workers.evaluation.errors import error_costs, error_curves
from workers.measuring.found import detections
from workers.measuring.setting import Measured, Setting


def measure(setting: Setting) -> Measured:
    """Metrics `err_*_AREA` and `AP50_AREA` in percent, and the document's `curves`: precision by recall, by area and COCO's name.

    A size without any object is left out.
    """
    found = detections(setting)
    scenes = found.scenes
    curves = {area: drawn for area in AREAS if (drawn := error_curves(scenes, found.groups, area))}
    metrics: dict[str, float] = {}
    for area, by_name in curves.items():
        metrics |= {f"{name}_{area}": cost for name, cost in error_costs(by_name).items()}
        metrics[f"AP50_{area}"] = 100.0 * float(by_name["C50"].mean())
    return Measured(
        metrics, {"curves": {area: {name: curve.tolist() for name, curve in by_name.items()} for area, by_name in curves.items()}}
    )
