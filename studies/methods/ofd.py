"""OFD: overhaul of feature distillation."""

from pydantic import Field

from studies.catalog import BACKBONES, PYRAMIDAL, Detector
from studies.methods.base import Method, Options


class OFDOptions(Options):
    """Backbone features before the ReLU, with a margin below zero."""

    loss_weight: float = Field(
        1e-5,
        ge=0,
        description="of the squared difference summed over cells and channels: the authors take 1e-3 at 32 pixels (CIFAR), 1e-4 at 224 "
        "(ImageNet), 1e-5 at 513 (segmentation), so choose by the input's area; 0 leaves the loss out",
    )


def _have_stages(student: Detector, teacher: Detector, options: Options) -> str | None:
    """It reads what enters the last ReLU of a stage, and the batch norm before it."""
    for detector in (student, teacher):
        if not set(detector.backbones) & set(PYRAMIDAL):
            titles = " or ".join(BACKBONES[name].title for name in detector.backbones)
            return f"OFD reads the four residual stages of a ResNet, which {detector.title} on {titles} does not have"
    return None


METHOD = Method(
    "ofd",
    "OFD",
    "Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019",
    OFDOptions,
    "workers.distillers.ofd:OFD",
    per_device_images=2,  # batch norm in its connectors; of the tables that compare it, as there is no released detector
    also=_have_stages,
)
