"""Parts of mmdet that Retort has no use for, and which bring over half of what importing it costs (3.5 s of CPU time and 210 MB a process).

Some of its modules are left out, each with all that only it imports. Two packages are found by `import` as ever, but loaded when
something of them is used first.
"""

import importlib
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

LEFT_OUT = {
    "mmdet.datasets.transforms.generate_line": ("ImageAug", "LinesToArray", "PackLineDetectionInputs"),  # lanes, by imgaug
    "mmdet.models.dense_heads.clr_head": ("CLRHead",),  # lanes, by pyplot
    "mmdet.models.task_modules.tracking.interpolation": ("InterpolateTracklets",),  # tracking, by scikit-learn
    "mmdet.utils.mot_error_visualize": ("imshow_mot_errors",),  # tracking, by seaborn
    "mmdet.visualization.local_visualizer": ("DetLocalVisualizer", "TrackLocalVisualizer"),  # pictures, by pyplot
}
LATER = {"sklearn": ("mixture",)}  # what PAA splits its candidates with
LATER_FUNCTIONS = {"imagecorruptions": "corrupt"}  # the corruptions of benchmarks on robustness


class Later(ModuleType):
    """Stands in for a package and its modules until something of one of them is asked for; then the real ones take their places."""

    def __getattr__(self, name: str) -> Any:
        # Others with underscores are asked by `import` itself, and by those who look through all modules, as `inspect` does.
        if name.startswith("__") and (name != "__path__" or self.__name__ in LATER_FUNCTIONS):
            raise AttributeError(name)
        package = self.__name__.partition(".")[0]
        for known in [known for known in sys.modules if known.partition(".")[0] == package]:
            if isinstance(sys.modules[known], Later):
                del sys.modules[known]
        return getattr(importlib.import_module(self.__name__), name)


def leave_out() -> None:
    """To be called before mmdet is imported. What is loaded already stays as it is."""
    for module, names in LEFT_OUT.items():
        stand_in = ModuleType(module, "Left out by Retort.")
        for name in names:
            setattr(stand_in, name, partial(_refuse, f"{module}.{name}"))
        sys.modules.setdefault(module, stand_in)
    for package, modules in LATER.items():
        if later := _later(package, find_spec(package)):
            for module in modules:
                setattr(later, module, _later(f"{package}.{module}", ModuleSpec(f"{package}.{module}", None)))
    for package, function in LATER_FUNCTIONS.items():
        if later := _later(package, find_spec(package)):
            setattr(later, function, partial(_call, later, function))


def _later(module: str, spec: ModuleSpec | None) -> Later | None:
    """The stand-in of a module; none for one that is loaded already, or not installed."""
    if spec is None or module in sys.modules:
        return None
    later = sys.modules[module] = Later(module)
    later.__spec__ = spec
    return later


def _refuse(name: str, *_: Any, **__: Any) -> None:
    raise ImportError(f"{name} is left out of mmdet here (workers/left_out.py)")


def _call(stand_in: Later, function: str, *arguments: Any, **options: Any) -> Any:
    return stand_in.__getattr__(function)(*arguments, **options)
