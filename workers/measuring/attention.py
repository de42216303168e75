"""Spatial attention of student and teacher at several temperatures (Zhang & Ma, ICLR 2021, Fig. 4), read as FBKD reads it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from workers.distillation.attention import attention, mask
from workers.files import write_atomically
from workers.measuring.pictures import save_image
from workers.measuring.setting import Measured, Setting, levels_of

MAPS = "attention.npz"


def measure(setting: Setting) -> Measured:
    """Maps `ROLE/POSITION/LEVEL/T`, float32 (H_l, W_l) of mean 1, in `attention.npz`; ROLE is student or teacher.

    Metrics: `entropy_ROLE_T`, how evenly the attention of a level is spread, from 0 (one cell) to 1 (all alike), mean over levels and
    images. The document names images, temperatures and the levels' sizes.
    """
    roles = {"student": setting.detector} | ({"teacher": setting.teacher} if setting.spec.teacher else {})
    maps: dict[str, Any] = {}
    images, spread, count = [], dict[str, list[float]](), 0
    for view in setting.views():
        images.append(save_image(setting, view))
        for role, model in roles.items():
            pyramid = levels_of(model, view.taught if role == "teacher" else view.inputs)
            count = max(count, len(pyramid))
            for level, features in enumerate(pyramid):
                cells = attention(features)[0]  # (1, H*W)
                for temperature in setting.options.temperatures:
                    drawn = mask(cells, temperature)[0].view(features.shape[2:]).float().cpu().numpy()
                    maps[f"{role}/{view.position}/{level}/{temperature:g}"] = drawn
                    if drawn.size > 1:
                        spread.setdefault(f"entropy_{role}_{temperature:g}", []).append(evenness(drawn))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **maps)
    write_atomically(buffer.getvalue(), setting.folder / MAPS)
    document = {"images": images, "roles": list(roles), "temperatures": list(setting.options.temperatures), "levels": count}
    return Measured({name: float(np.mean(values)) for name, values in spread.items()}, document, (MAPS, *(i["file"] for i in images)))


def evenness(drawn: np.ndarray[Any, Any]) -> float:
    """Entropy of a map's shares over that of equal ones."""
    shares = drawn.astype(float).ravel() / drawn.sum()
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum() / np.log(shares.size))
