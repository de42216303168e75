"""The distillation methods by name: one declaration file each, plus those of installed packages."""

import functools
import logging
from importlib.metadata import entry_points

from studies.methods import (
    chen2017,
    crosskd,
    cwd,
    defeat,
    dist,
    fbkd,
    fgd,
    fgfi,
    fitnet,
    frs,
    gkd,
    ld,
    li2017,
    mgd,
    ofd,
    pad,
    pdf_distil,
    pkd,
)
from studies.methods.base import Method, Options

__all__ = ["Method", "Options", "methods"]

_BUILT_IN = (
    fitnet.METHOD,
    ld.METHOD,
    pdf_distil.METHOD,
    chen2017.METHOD,
    li2017.METHOD,
    fgfi.METHOD,
    defeat.METHOD,
    ofd.METHOD,
    pad.METHOD,
    fbkd.METHOD,
    frs.METHOD,
    fgd.METHOD,
    mgd.METHOD,
    cwd.METHOD,
    pkd.METHOD,
    crosskd.METHOD,
    dist.METHOD,
    gkd.METHOD,
)


@functools.cache
def methods() -> dict[str, Method]:
    """All methods by id: the built-in ones, then those of installed packages (entry point group `retort.distillers`)."""
    found = {m.id: m for m in _BUILT_IN}
    for point in entry_points(group="retort.distillers"):
        try:
            method = point.load()
        except Exception as error:  # a broken add-on must not take the service down
            logging.getLogger(__name__).warning("distiller %s (%s) is left out: %s", point.name, point.value, error)
            continue
        if not isinstance(method, Method) or method.id in found:
            logging.getLogger(__name__).warning("distiller %s (%s) is left out: not a Method, or its id is taken", point.name, point.value)
            continue
        found[method.id] = method
    return found
