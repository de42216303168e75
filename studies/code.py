"""The version of the code that makes a trial's or a measurement's numbers: a digest of the source files that take part in it.

A method that the trial does not use does not count, so that work on one distiller keeps the results of the others.
Everything that `studies` decides (options, schedules and their recipes, networks) stands in the trial itself.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from studies.methods import methods

ENTRY = "workers.training.trial"  # where every training starts


def code_version(methods_used: Iterable[str] = (), entries: Iterable[str] = (ENTRY,)) -> str:
    """sha256 (hex) over the sources of the training and of the named methods, with all that they import of `workers`.

    entries: modules that something else than a training starts from.
    Reads the files anew at each call. Raises ValueError where the code of a method cannot be found.
    """
    unseen = {*entries, *(methods()[name].implementation.split(":")[0] for name in methods_used)}
    sources = dict[str, bytes]()
    while unseen:
        module = unseen.pop()
        path = _source(module)
        if path is None:
            raise ValueError(f"the code of {module} cannot be found; without it no trial has an identity")
        sources[module] = path.read_bytes()
        unseen |= _imports(sources[module]) - sources.keys()
    total = hashlib.sha256()
    for module, source in sorted(sources.items()):
        total.update(f"{module}\0{len(source)}\0".encode() + source)
    return total.hexdigest()


def _imports(source: bytes) -> set[str]:
    """Modules of `workers` that a source imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "workers" and _source(name)}


def _source(module: str) -> Path | None:
    """The file of a module; of `workers` without importing anything of it (that would load torch)."""
    package, *inside = module.split(".")
    if package != "workers":
        origin = importlib.util.find_spec(module)
        return Path(origin.origin) if origin and origin.origin else None
    spec = importlib.util.find_spec(package)
    folder = Path(spec.submodule_search_locations[0]).joinpath(*inside) if spec and spec.submodule_search_locations else Path(module)
    return next((path for path in (folder.with_suffix(".py"), folder / "__init__.py") if path.is_file()), None)
