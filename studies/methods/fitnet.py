"""FitNets hint on pyramid features."""

from typing import Literal

from pydantic import Field

from studies.methods.base import Method, Options, same_levels


class FitNetOptions(Options):
    """Where the student imitates (every cell, or cells whose centre lies inside a ground-truth box) and what is averaged."""

    region: Literal["whole", "gt_boxes"] = Field("whole", description="cells that are imitated")
    average: Literal["levels", "cells"] = Field(
        "levels", description="levels: a mean over each level, summed; cells: one mean over all cells, as in PDF-Distil's comparison"
    )


def _per_device(options: FitNetOptions) -> int | None:
    """A mean over chosen cells is over those of a device's images; 2: of the usual training of detectors."""
    return 2 if options.region == "gt_boxes" else None


METHOD = Method(
    "fitnet",
    "FitNet",
    "Romero et al., FitNets, ICLR 2015",
    FitNetOptions,
    "workers.distillers.fitnet:FitNet",
    per_device_images=_per_device,
    also=same_levels,
)
