"""Images of the validation split as files of a measurement, for its maps and boxes to be drawn on."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from workers.files import write_atomically
from workers.measuring.setting import Setting, View


def save_image(setting: Setting, view: View) -> dict[str, Any]:
    """Writes an image as PNG and tells what it is: position and id, file, size in pixels, its objects, and how many pixels of it
    (height, width) the networks' padded input covers."""
    pixels = cv2.imread(view.sample.img_path, cv2.IMREAD_COLOR)
    assert pixels is not None, "the networks have just seen it"
    file = f"image-{view.position}.png"
    encoded: np.ndarray[Any, Any] = cv2.imencode(".png", pixels)[1]
    write_atomically(encoded.tobytes(), setting.folder / file)
    height, width = pixels.shape[:2]
    across, down = view.sample.scale_factor  # of the input over the original
    truth, categories = setting.truth
    return {
        "position": view.position,
        "id": view.sample.img_id,
        "file": file,
        "width": width,
        "height": height,
        "covered": [round(view.inputs.shape[2] / down), round(view.inputs.shape[3] / across)],
        "objects": [_object(annotation, categories) for annotation in truth.imgToAnns[view.sample.img_id]],
    }


def _object(annotation: dict[str, Any], categories: list[int]) -> dict[str, Any]:
    """An object as a box xyxy in pixels with its label."""
    x, y, width, height = annotation["bbox"]
    return {
        "box": [x, y, x + width, y + height],
        "label": categories.index(annotation["category_id"]),
        "crowd": bool(annotation.get("iscrowd", 0)),
    }
