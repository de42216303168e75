"""Whether a found box is right, for pictures: told without any drawing library, so that pages can say it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OVERLAP = 0.5  # IoU from which a box of the right class is right


def is_right(found: dict[str, Any], objects: Sequence[dict[str, Any]]) -> bool:
    """Whether a box lies on an object of its class."""
    return any(each["label"] == found["label"] and overlap(each["box"], found["box"]) >= OVERLAP for each in objects)


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes xyxy."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return shared / (sum(areas) - shared) if shared else 0.0
