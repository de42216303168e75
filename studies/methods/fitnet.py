"""FitNets hint on pyramid features."""

from typing import Literal

from pydantic import Field

from studies.methods.base import Method, Options


class FitNetOptions(Options):
    """Where the student imitates: every cell, or cells whose centre lies inside a ground-truth box."""

    region: Literal["whole", "gt_boxes"] = Field("whole", description="cells that are imitated")
    loss_weight: float = Field(1.0, ge=0, description="multiplies the loss; 0 leaves it out")


METHOD = Method("fitnet", "FitNet", "Romero et al., FitNets, ICLR 2015", FitNetOptions, "workers.distillers.fitnet:FitNet")
