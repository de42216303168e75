"""The catalogue's detectors as mmdet models: built, loaded, and read in one way whatever their heads give.

`families` holds the facts of each family, `configs` turns a spec's network into an mmdet config, `reading` says what a built
model is and what its head's outputs mean; `parts`, `distribution` and `pdf` are the networks that mmdet does not have.
"""

from workers.detectors.configs import build, from_zoo, load_checkpoint, model_config, sized_by_classes, zoo_config
from workers.detectors.reading import assignment, describe, head_outputs

__all__ = [
    "assignment",
    "build",
    "describe",
    "from_zoo",
    "head_outputs",
    "load_checkpoint",
    "model_config",
    "sized_by_classes",
    "zoo_config",
]
