"""Names of stored networks for pictures; one that the catalogue no longer has is called by its ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.catalog import BACKBONES, detectors
from studies.methods import methods


def network_title(network: Mapping[str, Any]) -> str:
    """ "GFL ResNet-18", with its form and, at the narrow scales, its width."""
    known, detector, backbone = detectors(), network["detector"], network["backbone"]
    told = [
        known[detector].title if detector in known else detector,
        BACKBONES[backbone].title if backbone in BACKBONES else backbone,
    ]
    extra = [str(network[name]) for name in ("form",) if network.get(name)] + (
        [f"width {network['width']}"] if network.get("width") else []
    )
    return " ".join(told) + (f" ({', '.join(extra)})" if extra else "")


def taught_title(detail: Mapping[str, Any]) -> str:
    """A student with the methods that teach it: "GFL ResNet-18, LD"."""
    known = methods()
    used = [known[use["id"]].title if use["id"] in known else use["id"] for use in detail["distillers"]]
    return ", ".join([network_title(detail["network"]), " + ".join(used)])
