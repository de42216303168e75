"""Images of the validation split as files of a measurement, for its maps and boxes to be drawn on."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from workers.files import write_atomically
from workers.measuring.setting import Setting, View


def save_image(setting: Setting, view: View) -> dict[str, Any]:
    """Writes an image as PNG and tells what it is: its position and id, its file, its size in pixels."""
    pixels = cv2.imread(view.sample.img_path, cv2.IMREAD_COLOR)
    assert pixels is not None, "the networks have just seen it"
    file = f"image-{view.position}.png"
    encoded: np.ndarray[Any, Any] = cv2.imencode(".png", pixels)[1]
    write_atomically(encoded.tobytes(), setting.folder / file)
    height, width = pixels.shape[:2]
    return {"position": view.position, "id": view.sample.img_id, "file": file, "width": width, "height": height}
