"""Geometry of boxes, anchors and cells, in torch; it knows no network and no method."""
