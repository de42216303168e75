"""The version of the code that makes a trial's numbers: a digest of the source files that take part in it.

A method that the trial does not use does not count, so that work on one distiller keeps the results of the others.
Everything that `studies` decides (options, schedules, networks) stands in the trial itself.
"""

import functools
import hashlib
import importlib.util
from pathlib import Path

from studies.methods import methods
from studies.trial import TrialSpec


def code_version(trial: TrialSpec) -> str:
    """sha256 (hex) over the sources of `workers` without unused methods, and over third-party files of the used ones."""
    used = {methods()[use.id].implementation.split(":")[0] for use in trial.distillers}
    return _digest(frozenset(used))


@functools.cache
def _digest(used: frozenset[str]) -> str:
    unused = {method.implementation.split(":")[0] for method in methods().values()} - used
    spec = importlib.util.find_spec("workers")  # located, not imported
    total = hashlib.sha256()
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(folder).rglob("*.py")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if f"workers.{name.replace('/', '.')}" not in unused:
                total.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    for module in sorted(used):
        if module.split(".")[0] != "workers":
            origin = importlib.util.find_spec(module)
            total.update(Path(origin.origin).read_bytes() if origin and origin.origin else module.encode())
    return total.hexdigest()
